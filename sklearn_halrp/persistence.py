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
from numbers import Integral
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNetClassifier

from sklearn_halrp._checks import check_net, innermost
from sklearn_halrp._classifier import ContinualClassifier
from sklearn_halrp._default_net import default_net
from sklearn_halrp._saved import network_to_state, with_notes
from sklearn_halrp._task import Task
from sklearn_halrp._training import recipe_of

__all__ = ["load", "save"]

_KEY = "sklearn_halrp"
_LEARNED = ("_seed", "sample_shape_", "n_features_in_")


def save(estimator: ContinualClassifier, path: str | os.PathLike[str]) -> None:
    """Write a fitted classifier to a file, without its net.

    Parameters
    ----------
    estimator : ContinualClassifier
        Fitted. The names of its columns, if X had any, are kept too.
    path : str or Path
        The file, which is replaced when all is written.

    Raises
    ------
    TypeError
        If it is no ContinualClassifier: of a Pipeline save the last step, and of a subclass
        make a plain ContinualClassifier, since a file holds no code.
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
    state = network_to_state(estimator._network)
    arrays = {f"base/{name}": array for name, array in state.pop("base").items()}
    arrays["notes"] = np.frombuffer(state.pop("notes"), dtype=np.uint8)
    tasks = []
    for number, (task_id, task) in enumerate(state.pop("tasks").items()):
        arrays[f"task/{number}/data"] = task.pop("data")
        tasks.append({"id": task_id, **task, "classes": _listed(task["classes"])})
    parameters = estimator.get_params(deep=False)
    own_net = parameters.pop("net") is not None and _name_of(estimator.net_.module)
    seed = parameters["random_state"]  # of a generator only what was drawn from it matters now
    parameters["random_state"] = int(seed) if isinstance(seed, Integral) else None
    parameters["dtype"] = np.dtype(parameters["dtype"]).name
    about = {
        **state,
        "tasks": tasks,
        "own_net": own_net,
        "parameters": parameters,
        "learned": {name: getattr(estimator, name) for name in _LEARNED},
        "classes": _listed(estimator.classes_),
        "columns": getattr(estimator, "feature_names_in_", np.zeros(0)).tolist(),
    }
    text = json.dumps(about, default=lambda value: value.item())
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        # Written by Python, so that the file has the usual permissions.
        partial.write_bytes(_safetensors().save(arrays, metadata={_KEY: text}))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load(
    path: str | os.PathLike[str], net: NeuralNetClassifier | None = None
) -> ContinualClassifier:
    """Read a classifier from a file that `save` wrote.

    Nothing in the file is executed, whoever wrote it.

    Parameters
    ----------
    path : str or Path
    net : skorch.NeuralNetClassifier, optional
        As the classifier had it: with the same module and arguments. It may be left out
        for the default network alone.

    Returns
    -------
    ContinualClassifier
        It predicts as before, to the last bit on the same kind of machine, and goes on
        learning as if nothing had happened. A `random_state` that was a generator is None.

    Raises
    ------
    ValueError
        If the file is none of `save`, is damaged, or does not fit the net.
    ImportError
        If safetensors is not installed.

    Warns
    -----
    UserWarning
        If the net's module has another name than the one that was saved: if it is another
        module, of the same shapes, the predictions are others too.

    Examples
    --------
    >>> from sklearn_halrp.persistence import load
    >>> load("model.safetensors", net=net)  # doctest: +SKIP
    """
    about, arrays = _read(path)
    if about["own_net"] and net is None:
        which = about["own_net"] if isinstance(about["own_net"], str) else "the same module"
        raise ValueError(
            f"{path} was saved from a classifier with a net of its own, and a file holds no code: "
            f"pass a net with {which} and the same arguments, load(path, net=net)."
        )
    if net is not None:
        check_net(net)
    try:
        state = _state(about, arrays)
    except (KeyError, TypeError, ValueError, IndexError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{path} is damaged: {error!r}.") from error
    size = int(np.prod(state["sample_shape_"]))
    first = next(iter(state["_network"]["tasks"].values()))
    state["net"] = net
    state["net_"] = recipe_of(default_net(size, len(first["classes"])) if net is None else net)
    estimator = ContinualClassifier()
    estimator.__setstate__(state)
    if net is not None:
        _warn_of_another_module(path, about["own_net"], net)
    return estimator


def _check_plain(estimator: object) -> None:
    """Refuse what would not come back as it is."""
    if type(estimator) is ContinualClassifier:
        return
    name = type(estimator).__name__
    if isinstance(estimator, ContinualClassifier):
        raise TypeError(
            f"A file holds no code, so a {name} would come back as a plain ContinualClassifier. "
            "Use joblib for it, in files to be opened only if you trust their author."
        )
    inside, _ = innermost(estimator)
    where = "model.best_estimator_" if hasattr(estimator, "best_estimator_") else "model"
    where += "[-1]" if inside is not getattr(estimator, "best_estimator_", None) else ""
    hint = (
        f" Save the classifier inside, save({where}, path); all else needs joblib."
        if isinstance(inside, ContinualClassifier)
        else ""
    )
    raise TypeError(f"save takes a ContinualClassifier; got a {name}.{hint}")


def _warn_of_another_module(
    path: str | os.PathLike[str], saved: object, net: NeuralNetClassifier
) -> None:
    """Say that the module has another name; it may only have moved."""
    given = _name_of(net.module)
    if isinstance(saved, str) and given != saved:
        warnings.warn(
            f"{path} was saved with the module {saved}, and the net has {given}. If that is the "
            "same code under another name, all is well; if not, predictions are wrong.",
            stacklevel=3,
        )


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
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
    return json.loads(about), arrays


def _state(about: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Return what ContinualClassifier.__setstate__ takes, but for the net."""
    tasks = {}
    for number, task in enumerate(about["tasks"]):
        tasks[task["id"]] = {
            **{name: task[name] for name in ("visits", "n_numbers")},
            "classes": _array(task["classes"]),
            "data": arrays[f"task/{number}/data"],
        }
        if about["format"] < 3:
            tasks[task["id"]]["notes"] = arrays[f"task/{number}/notes"].tobytes()
    notes = {"notes": arrays["notes"].tobytes()} if about["format"] >= 3 else {}
    for task in with_notes({"tasks": tasks, **notes}).values():
        Task(**task).check()
    parameters = ContinualClassifier(**about["parameters"]).get_params(deep=False)
    state = {
        **parameters,
        **{name: about["learned"][name] for name in _LEARNED},
        "classes_": _array(about["classes"]),
        "_network": {
            "format": about["format"],
            "base": {
                name.removeprefix("base/"): array
                for name, array in arrays.items()
                if name.startswith("base/")
            },
            "roles": about["roles"],
            "form": about["form"],
            "frozen": about["frozen"],
            "dense": about["dense"],
            **notes,
            "tasks": tasks,
        },
    }
    state["sample_shape_"] = tuple(state["sample_shape_"])
    if about["columns"]:
        state["feature_names_in_"] = np.array(about["columns"], dtype=object)
    return state


def _name_of(module: Any) -> str:
    kind = module if hasattr(module, "__qualname__") else type(module)
    return f"{kind.__module__}.{kind.__qualname__}"


def _listed(labels: NDArray[Any]) -> dict[str, Any]:
    return {"type": labels.dtype.str, "labels": labels.tolist()}


def _array(listed: dict[str, Any]) -> NDArray[Any]:
    return np.array(listed["labels"], dtype=np.dtype(listed["type"]))


def _safetensors() -> ModuleType:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "Safe files need safetensors: pip install 'sklearn-halrp[safe]'. Without it, joblib "
            "keeps a classifier as well, in files to be opened only if you trust their author."
        ) from error
    return safetensors.numpy
