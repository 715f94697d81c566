"""Files that cannot execute code: numbers as safetensors, all else as JSON.

A pickle, and so a joblib file, runs whatever its author put into it, so load one only if you
trust its author. A file of this module holds numbers and settings alone; the code, a skorch
net with its module, is yours.
"""

import json
import lzma
import os
import warnings
import zlib
from collections.abc import Callable
from numbers import Integral
from types import ModuleType
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet

from sklearn_halrp._checks import check_net
from sklearn_halrp._classifier import ContinualClassifier
from sklearn_halrp._estimator import ContinualEstimator
from sklearn_halrp._files import replacing
from sklearn_halrp._importance import check_importance
from sklearn_halrp._pipelines import innermost
from sklearn_halrp._plain import flat, nested
from sklearn_halrp._regressor import ContinualRegressor
from sklearn_halrp._saved import (
    FORMAT,
    check_format,
    learned_to_state,
    state_of_earlier_file,
    tasks_from_state,
)
from sklearn_halrp._training import recipe_of

__all__ = ["dump", "load", "save"]

_KEY = "sklearn_halrp"
_KINDS = {kind.__name__: kind for kind in (ContinualClassifier, ContinualRegressor)}


def save(estimator: ContinualEstimator, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator to a file, without its net.

    Parameters
    ----------
    estimator : ContinualClassifier or ContinualRegressor
        Fitted. The names of its columns, if X had any, are kept too.
    path : str or Path
        The file, which is replaced when all is written.

    Raises
    ------
    TypeError
        If it is neither: of a Pipeline save the last step, and of a subclass make a plain
        ContinualClassifier or ContinualRegressor, since a file holds no code.
    sklearn.exceptions.NotFittedError
        If no task has been learned.
    ImportError
        If safetensors is not installed.

    See Also
    --------
    load : The way back.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_halrp import ContinualClassifier
    >>> from sklearn_halrp.persistence import load, save
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = ContinualClassifier(random_state=0).fit(X[:200] / 16, y[:200])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(clf, Path(folder) / "digits.safetensors")
    ...     again = load(Path(folder) / "digits.safetensors")
    >>> bool((again.predict_proba(X / 16) == clf.predict_proba(X / 16)).all())
    True
    """
    _check_plain(estimator)
    check_is_fitted(estimator)
    parameters, objects = _plain_parameters(estimator)
    arrays: dict[str, NDArray[Any]] = {}
    about = {
        "format": FORMAT,
        "estimator": type(estimator).__name__,
        "own_net": estimator.net is not None and _name_of(estimator.net_.module),
        "loss": _name_of(estimator.net_.criterion),
        "objects": objects,
        "parameters": parameters,
        "learned": flat(learned_to_state(estimator._learned, with_net=False), "", arrays),
    }
    text = json.dumps(about, default=lambda value: value.item())
    written = _safetensors().save(arrays, metadata={_KEY: text})
    with replacing(path) as file:
        file.write(written)


def dump(
    model: Any, path: str | os.PathLike[str], compress: int | bool | tuple[str, int] = 0
) -> None:
    """Write a model with joblib, as carefully as `save` does.

    ``joblib.dump`` writes over the file that is there, so whoever reads meanwhile gets half a
    model, and a process that is killed leaves none. This one puts the new file in place when
    all of it is on the disk. ``joblib.load`` reads it, and runs whatever its author put into it.

    Parameters
    ----------
    model : estimator
        A continual estimator, a pipeline or a search around one, or any that joblib takes.
    path : str or Path
        The file, which is replaced when all is written.
    compress : int, bool or tuple, default=0
        As of ``joblib.dump``; the ending of the file's name plays no part.

    See Also
    --------
    save : Files that cannot execute code.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import joblib
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_halrp import ContinualClassifier
    >>> from sklearn_halrp.persistence import dump
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = ContinualClassifier(random_state=0).fit(X[:200] / 16, y[:200])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     dump(clf, Path(folder) / "digits.joblib")
    ...     again = joblib.load(Path(folder) / "digits.joblib")
    >>> bool((again.predict_proba(X / 16) == clf.predict_proba(X / 16)).all())
    True
    """
    with replacing(path) as file:
        joblib.dump(model, file, compress=compress)


def load(
    path: str | os.PathLike[str],
    net: NeuralNet | None = None,
    *,
    importance: Callable[..., Any] | None = None,
) -> Any:
    """Read an estimator from a file that `save` wrote.

    Nothing in the file is executed, whoever wrote it.

    Parameters
    ----------
    path : str or Path
    net : skorch.NeuralNetClassifier or skorch.NeuralNetRegressor, optional
        As the estimator had it: with the same module and arguments. It may be left out
        for the default network alone.
    importance : callable or str, optional
        As the estimator had it, where it was none of those that go by a name. Only tasks that
        are learned later depend on it, so a name will do where those are not to come.

    Returns
    -------
    ContinualClassifier or ContinualRegressor
        It predicts as before, to the last bit on the same kind of machine, and goes on
        learning as if nothing had happened. A `random_state` that was a generator is None.

    Raises
    ------
    ValueError
        If the file is none of `save`, is damaged, or does not fit the net; if it needs a net or
        an importance that is not given, or this has no such name.
    TypeError
        If net or importance is of another type.
    ImportError
        If safetensors is not installed.

    Warns
    -----
    UserWarning
        If the net's module has another name than the one that was saved: if it is another
        module, of the same shapes, the predictions are others too. If the importance has another
        name: if it is another one, later tasks get other ranks.

    Examples
    --------
    >>> from sklearn_halrp.persistence import load
    >>> load("model.safetensors", net=net)  # doctest: +SKIP
    """
    saved = _read(path)
    if saved["own_net"] and net is None:
        which = saved["own_net"] if isinstance(saved["own_net"], str) else "the same module"
        raise ValueError(
            f"{path} was saved from an estimator with a net of its own, and a file holds no code: "
            f"pass a net with {which} and the same arguments, load(path, net=net)."
        )
    kind = _KINDS[saved["estimator"]]
    if net is not None:
        check_net(net, kind._target.net_class)
    if importance is not None:
        check_importance(importance)
    given = {"importance": importance}
    for name, what in saved["objects"].items():
        if given.get(name) is None:
            raise ValueError(
                f"{path} was saved from an estimator with {name}={what}, and a file holds no code: "
                f"pass it again, load(path, {name}=...)."
            )
    parameters = saved["parameters"] | {k: v for k, v in given.items() if v is not None}
    size = int(np.prod(saved["learned"]["sample_shape_"]))
    first = next(iter(tasks_from_state(saved["learned"]["_network"]).values()))
    recipe = kind._target.default_net(size, first.target.n_outputs) if net is None else net
    estimator = kind(net, **parameters)
    estimator.__setstate__(
        {**estimator.get_params(deep=False), **saved["learned"], "net_": recipe_of(recipe)}
    )
    if net is not None:
        _warn_of_another_module(path, saved["own_net"], net)
        _warn_of_another_loss(path, saved.get("loss"), net)
    if importance is not None:
        _warn_of_another_importance(path, saved, importance)
    return estimator


def _plain_parameters(estimator: ContinualEstimator) -> tuple[dict[str, Any], dict[str, str]]:
    """Return parameters that JSON can hold, and the names of the objects that it cannot."""
    parameters, objects = estimator.get_params(deep=False), {}
    del parameters["net"]
    seed = parameters["random_state"]  # of a generator only what was drawn from it matters now
    parameters["random_state"] = int(seed) if isinstance(seed, Integral) else None
    parameters["dtype"] = np.dtype(parameters["dtype"]).name
    if not isinstance(parameters["importance"], str):
        objects["importance"] = _name_of(parameters.pop("importance"))
    return parameters, objects


def _check_plain(estimator: object) -> None:
    """Refuse what would not come back as it is."""
    name, kinds = type(estimator).__name__, tuple(_KINDS.values())
    if type(estimator) in kinds:
        return
    for kind in kinds:
        if isinstance(estimator, kind):
            raise TypeError(
                f"A file holds no code, so a {name} would come back as a plain {kind.__name__}. "
                "Use joblib for it, in files to be opened only if you trust their author."
            )
    inside, _ = innermost(estimator)
    where = "model.best_estimator_" if hasattr(estimator, "best_estimator_") else "model"
    where += "[-1]" if inside is not getattr(estimator, "best_estimator_", None) else ""
    hint = (
        f" Save the {type(inside).__name__} inside, save({where}, path); all else needs joblib."
        if isinstance(inside, kinds)
        else ""
    )
    raise TypeError(f"save takes a {' or a '.join(_KINDS)}; got a {name}.{hint}")


def _warn_of_another_module(path: str | os.PathLike[str], saved: object, net: NeuralNet) -> None:
    """Say that the module has another name; it may only have moved."""
    given = _name_of(net.module)
    if isinstance(saved, str) and given != saved:
        warnings.warn(
            f"{path} was saved with the module {saved}, and the net has {given}. If that is the "
            "same code under another name, all is well; if not, predictions are wrong.",
            stacklevel=3,
        )


def _warn_of_another_loss(path: str | os.PathLike[str], saved: object, net: NeuralNet) -> None:
    """Say that the loss has another name: it says what outputs are, logits or probabilities."""
    given = _name_of(net.criterion)
    if isinstance(saved, str) and given != saved:
        warnings.warn(
            f"{path} was saved from a net with the criterion {saved}, and the net has {given}. "
            "What outputs mean depends on it, so predictions may be wrong. Pass criterion="
            f"{saved.rpartition('.')[2]} to the net.",
            stacklevel=3,
        )


def _warn_of_another_importance(
    path: str | os.PathLike[str], saved: dict[str, Any], importance: object
) -> None:
    """Say that the importance has another name; it may only have moved."""
    before = saved["objects"].get("importance", saved["parameters"].get("importance"))
    given = importance if isinstance(importance, str) else _name_of(importance)
    if given != before:
        warnings.warn(
            f"{path} was saved with importance={before}, and {given} is given. Tasks that are "
            "there stay as they are. If it is not the same under another name, later ones get "
            "other ranks.",
            stacklevel=3,
        )


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the settings and the arrays of a file."""
    safetensors = _safetensors()
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about = (file.metadata() or {}).get(_KEY)
        arrays = safetensors.load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no file of sklearn_halrp.persistence.save: {error}") from error
    if about is None:
        raise ValueError(f"{path} is no file of sklearn_halrp.persistence.save.")
    about = json.loads(about)
    check_format(about["format"])
    try:
        if about["format"] < 4:
            saved = {**state_of_earlier_file(about, arrays), "objects": {}}
        else:
            saved = {**about, "learned": nested(about["learned"], arrays)}
        for task in tasks_from_state(saved["learned"]["_network"]).values():
            task.check()
        _KINDS[saved["estimator"]](**saved["parameters"])
        if not set(saved["objects"]) <= {"importance"}:
            raise ValueError(f"objects of the names {list(saved['objects'])}")
    except _DAMAGE as error:
        raise ValueError(f"{path} is damaged: {error!r}.") from error
    return saved


_DAMAGE = (
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    IndexError,
    StopIteration,
    zlib.error,
    lzma.LZMAError,
)


def _name_of(module: Any) -> str:
    kind = module if hasattr(module, "__qualname__") else type(module)
    return f"{kind.__module__}.{kind.__qualname__}"


def _safetensors() -> ModuleType:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "Safe files need safetensors: pip install 'sklearn-halrp[safe]'. Without it, joblib "
            "keeps an estimator as well, in files to be opened only if you trust their author."
        ) from error
    return safetensors.numpy
