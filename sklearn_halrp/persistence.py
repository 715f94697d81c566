"""Files that cannot execute code: numbers as safetensors, all else as JSON.

A pickle, and so a joblib file, runs whatever its author put into it, so load one only if you
trust its author. A file of this module holds numbers and settings alone; the code, a skorch
net with its module, is yours.
"""

import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet

from sklearn_halrp._checks import check_net
from sklearn_halrp._classifier import ContinualClassifier
from sklearn_halrp._estimator import ContinualEstimator
from sklearn_halrp._faults import let_through
from sklearn_halrp._files import replacing
from sklearn_halrp._fingerprint import AnotherNetworkError
from sklearn_halrp._importance import check_importance
from sklearn_halrp._intake import dtype_of
from sklearn_halrp._network import Network
from sklearn_halrp._pipelines import innermost
from sklearn_halrp._plain import digest, flat, nested
from sklearn_halrp._regressor import ContinualRegressor
from sklearn_halrp._saved import (
    FORMAT,
    check_format,
    check_same_tensors,
    learned_from_state,
    learned_to_state,
    state_of_earlier_file,
    tasks_from_state,
)
from sklearn_halrp._soundness import check_learned, check_network
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
    ValueError
        If a parameter has a value that it cannot have, or more was learned than a file holds.
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
    estimator._validate_params()
    parameters, objects = _plain_parameters(estimator)
    arrays: dict[str, NDArray[Any]] = {}
    learned = learned_to_state(estimator._learned, with_net=False, dtype=dtype_of(estimator))
    about = {
        "format": FORMAT,
        "estimator": type(estimator).__name__,
        "own_net": estimator.net is not None and _name_of(estimator.net_.module),
        "loss": _name_of(estimator.net_.criterion),
        "objects": objects,
        "parameters": parameters,
        "learned": flat(learned, "", arrays),
    }
    about["digest"] = digest(about, arrays)
    text = json.dumps(about, default=lambda value: value.item())
    written = _safetensors().save(arrays, metadata={_KEY: text})
    _header_of(written)  # so that nothing is written that could not be read
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
    estimator = kind(net, **parameters)
    with _undamaged(path):
        recipe = recipe_of(_default_net(kind, saved["learned"]) if net is None else net)
    others = list(_other_names(saved, net, importance))

    def check(network: Network) -> None:
        with _undamaged(path):
            check_network(network)

    try:
        learned = learned_from_state({**saved["learned"], "net_": recipe}, check)
    except AnotherNetworkError as error:
        raise ValueError(" ".join([f"{path} does not fit the net: {error}", *others])) from error
    assert learned is not None  # a file without one was refused
    estimator._learned = learned
    for text in others:
        warnings.warn(f"{path}: {text}", stacklevel=2)
    return estimator


def _default_net(kind: Any, learned: dict[str, Any]) -> NeuralNet:
    """Return the network of users who bring none, if what was learned is that of one."""
    state = learned["_network"]
    size = int(np.prod(learned["sample_shape_"]))
    first = next(iter(tasks_from_state(state).values()))
    net: NeuralNet = kind._target.default_net(size, first.target.n_outputs)
    weight = state["base"][state["roles"]["head"] + ".weight"]
    with torch.device("meta"):  # takes no memory, however large
        module = net.module(**net.get_params_for("module") | {"n_classes": len(weight)})
    check_same_tensors(module, state)
    return net


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


def _other_names(saved: dict[str, Any], net: NeuralNet | None, importance: Any) -> Iterator[str]:
    """Yield what is to be said of code that has another name now; it may only have moved."""
    if net is not None:
        yield from _other_name(
            "module",
            saved["own_net"],
            _name_of(net.module),
            "If that is the same code under another name, all is well; if not, predictions are "
            "wrong.",
        )
        yield from _other_name(
            "criterion",
            saved.get("loss"),
            _name_of(net.criterion),
            "What outputs mean depends on it, so predictions may be wrong.",
        )
    if importance is not None:
        yield from _other_name(
            "importance",
            saved["objects"].get("importance", saved["parameters"].get("importance")),
            importance if isinstance(importance, str) else _name_of(importance),
            "Tasks that are there stay as they are. If it is not the same under another name, "
            "later ones get other ranks.",
        )


def _other_name(what: str, before: object, now: str, then: str) -> Iterator[str]:
    if isinstance(before, str) and now != before:
        yield f"It was saved with {what}={before}, and is loaded with {now}. {then}"


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the settings and the arrays of a file, which is opened once."""
    safetensors = _safetensors()
    content = Path(path).read_bytes()
    try:
        about = json.loads(_header_of(content)["__metadata__"][_KEY])
        arrays = safetensors.load(content)
    except Exception as error:
        let_through(error, answer=RecursionError)
        raise ValueError(
            f"{path} is no file of sklearn_halrp.persistence.save, or is damaged: {error!r}."
        ) from error
    del content
    with _undamaged(path):
        number = about["format"]
    if isinstance(number, int):
        check_format(number, path)
    with _undamaged(path):
        found = about.pop("digest", None)
        if (found is not None or number >= 5) and found != digest(about, arrays):
            raise ValueError("it is not what was saved. Take another copy of the file")
        if number < 4:
            saved = {**state_of_earlier_file(about, arrays), "objects": {}}
        else:
            saved = {**about, "learned": nested(about["learned"], arrays)}
        check_learned(saved["learned"])
        network = saved["learned"]["_network"]
        if network["format"] != number:
            raise ValueError("it has two formats")
        network["tasks"] = tasks_from_state(network)
        _check_settings(saved)
    return saved


def _header_of(content: bytes) -> dict[str, Any]:
    """Return the header of a safetensors file.

    Raises
    ------
    ValueError
        If it is longer than safetensors reads, or not nested as it should be.
    """
    size = int.from_bytes(content[:8], "little")
    if size > _MOST_HEADER:
        raise ValueError(
            f"A header of {size} bytes, and safetensors reads up to {_MOST_HEADER}. Of so many "
            "tasks make a sklearn_halrp.store.Store"
        )
    header = json.loads(content[8 : 8 + size])
    if not isinstance(header, dict):
        raise ValueError("A header that is no table")
    return header


_MOST_HEADER = 100_000_000


def _check_settings(saved: dict[str, Any]) -> None:
    """Refuse settings that no estimator has."""
    names = {"importance"} & set(saved["objects"])
    if set(saved["objects"]) != names:
        raise ValueError(f"objects of the names {list(saved['objects'])}")
    texts = [saved["own_net"], saved.get("loss"), *saved["objects"].values()]
    if not all(isinstance(text, str | bool | None) for text in texts):
        raise ValueError(f"names that are none, {texts}")
    estimator = _KINDS[saved["estimator"]](**saved["parameters"])
    estimator._validate_params()
    if np.dtype(estimator.dtype).kind not in "biufc":
        raise ValueError(f"rows of type {estimator.dtype}")


@contextmanager
def _undamaged(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say of whatever goes wrong with a file's data that the file is damaged, and which."""
    try:
        yield
    except Exception as error:  # a recursion, a number too large, text that is none...
        let_through(error, answer=RecursionError)
        text = str(error) if type(error) in (ValueError, AnotherNetworkError) else repr(error)
        raise ValueError(f"{path} is damaged: {text}.") from error


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
