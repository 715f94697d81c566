"""An estimator without its code: what a file says of it, and the way back with code given again.

A file holds no code: neither the net nor an importance of the user's own. It holds their names, by
which others in their place are noticed.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet

from sklearn_halrp._checks import check_net
from sklearn_halrp._classifier import ContinualClassifier
from sklearn_halrp._default_net import earlier_net, is_encoded, sizes_in
from sklearn_halrp._faults import let_through
from sklearn_halrp._fingerprint import AnotherNetworkError
from sklearn_halrp._importance import check_importance
from sklearn_halrp._learned import Learned
from sklearn_halrp._network import Network
from sklearn_halrp._pipelines import innermost
from sklearn_halrp._regressor import ContinualRegressor
from sklearn_halrp._row_weights import plain_class_weight
from sklearn_halrp._saved import check_same_tensors, learned_from_state, tasks_from_state
from sklearn_halrp._soundness import check_network
from sklearn_halrp._training import recipe_of
from sklearn_halrp._types import Target

_KINDS = {kind.__name__: kind for kind in (ContinualClassifier, ContinualRegressor)}


def described(estimator: Any, call: str = "save") -> dict[str, Any]:
    """Return what a file says of a fitted estimator besides what was learned, as plain data.

    Parameters
    ----------
    estimator : object
    call : str
        What was called, for errors.

    Raises
    ------
    TypeError
        If it would not come back as it is.
    ValueError
        If it is not fitted, or a parameter has a value that it cannot have.
    """
    _check_plain(estimator, call)
    check_is_fitted(estimator)
    estimator._validate_params()
    parameters, objects = _plain_parameters(estimator)
    return {
        "estimator": type(estimator).__name__,
        "own_net": estimator.net is not None and _name_of(estimator.net_.module),
        "loss": _name_of(estimator.net_.criterion),
        "objects": objects,
        "parameters": parameters,
    }


def rebuilt(
    saved: dict[str, Any],
    path: str | os.PathLike[str],
    net: NeuralNet | None,
    importance: Callable[..., Any] | str | None,
    call: str = "load",
    check: Callable[[Learned, type[Target]], None] | None = None,
) -> tuple[Any, list[str]]:
    """Return the estimator that a file tells of, and what is to be warned of.

    Parameters
    ----------
    saved : dict
        What `described` gave, and ``learned``, the state of what was learned.
    path : str or Path
        Of the file, for errors.
    net, importance
        The code, given again.
    call : str
        What was called, for errors.
    check : callable, optional
        Looks at what was learned, and its kind of target, before it is used.

    Raises
    ------
    ValueError
        If something is missing, the file is damaged, or it does not fit the net.
    """
    if saved["own_net"] and net is None:
        which = saved["own_net"] if isinstance(saved["own_net"], str) else "the same module"
        raise ValueError(
            f"{path} was saved from an estimator with a net of its own, and a file holds no code: "
            f"pass a net with {which} and the same arguments, {call}(path, net=net)."
        )
    kind: Any = _KINDS[saved["estimator"]]
    if net is not None:
        check_net(net, kind._target.net_class)
    if importance is not None:
        check_importance(importance)
    given = {"importance": importance}
    for name, what in saved["objects"].items():
        if given.get(name) is None:
            raise ValueError(
                f"{path} was saved from an estimator with {name}={what}, and a file holds no code: "
                f"pass it again, {call}(path, {name}=...)."
            )
    given = {name: value for name, value in given.items() if value is not None}
    estimator = kind(net, **(_parameters(saved) | given))
    with undamaged(path):
        recipe = recipe_of(_default_net(kind, saved["learned"]) if net is None else net)
    others = list(_other_names(saved, net, importance))

    def check_built(network: Network) -> None:
        with undamaged(path):
            check_network(network)

    try:
        learned = learned_from_state({**saved["learned"], "net_": recipe}, check_built)
        assert learned is not None  # a file without one was refused
        if check is not None:
            check(learned, kind._target)
    except AnotherNetworkError as error:
        if net is not None and saved["own_net"] is False:
            others = [f"It was saved with the default network: leave net out, {call}(path)."]
        raise ValueError(" ".join([f"{path} does not fit the net: {error}", *others])) from error
    estimator._learned = learned
    return estimator, others


@contextmanager
def undamaged(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say of whatever goes wrong with a file's data that the file is damaged, and which."""
    try:
        yield
    except Exception as error:  # a recursion, a number too large, text that is none...
        let_through(error, answer=RecursionError)
        text = str(error) if type(error) in (ValueError, AnotherNetworkError) else repr(error)
        raise ValueError(f"{path} is damaged: {text}.") from error


def check_settings(saved: dict[str, Any]) -> None:
    """Refuse settings that no estimator has."""
    names = {"importance"} & set(saved["objects"])
    if set(saved["objects"]) != names:
        raise ValueError(f"objects of the names {list(saved['objects'])}")
    texts = [saved["own_net"], saved.get("loss"), *saved["objects"].values()]
    if not all(isinstance(text, str | bool | None) for text in texts):
        raise ValueError(f"names that are none, {texts}")
    estimator = _KINDS[saved["estimator"]](**_parameters(saved))
    estimator._validate_params()
    if np.dtype(estimator.dtype).kind not in "biufc":
        raise ValueError(f"rows of type {estimator.dtype}")


def _default_net(kind: Any, learned: dict[str, Any]) -> NeuralNet:
    """Return the network of users who bring none, if what was learned is that of one."""
    state = learned["_network"]
    size, base = int(np.prod(learned["sample_shape_"])), state["base"]
    weight = base[state["roles"]["head"] + ".weight"]
    targets = (task.target.n_outputs for task in tasks_from_state(state).values())
    n_outputs = next(targets, len(weight))
    net: NeuralNet = kind._target.default_net(size, n_outputs)
    if is_encoded(base):
        shapes = {name: array.shape for name, array in base.items()}
        sizes = sizes_in(shapes, learned.get("categories_"))
        n_columns = shapes["0.center"][0] + sum(size > 0 for size in sizes["categories"])
        if n_columns != size:  # before lists of as many are made
            raise ValueError(f"rows of {size} columns, and an encoding of {n_columns}")
        net = kind._target.default_net(size, n_outputs, **sizes)
    else:
        net = earlier_net(size, n_outputs, kind._target.net_class, net.criterion)
    with torch.device("meta"):  # takes no memory, however large
        module = net.module(**net.get_params_for("module") | {"n_classes": len(weight)})
    check_same_tensors(module, state)
    return net


def _plain_parameters(estimator: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return parameters that JSON can hold, and the names of the objects that it cannot."""
    parameters, objects = estimator.get_params(deep=False), {}
    del parameters["net"]
    seed = parameters["random_state"]  # of a generator only what was drawn from it matters now
    parameters["random_state"] = int(seed) if isinstance(seed, Integral) else None
    parameters["dtype"] = np.dtype(parameters["dtype"]).name
    if isinstance(parameters.get("class_weight"), Mapping):  # JSON has no keys but text
        weights = plain_class_weight(parameters["class_weight"])
        parameters["class_weight"] = list(map(list, weights.items()))
    if not isinstance(parameters["importance"], str):
        objects["importance"] = _name_of(parameters.pop("importance"))
    return parameters, objects


def _parameters(saved: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a file, with `class_weight` as a dictionary again."""
    parameters = dict(saved["parameters"])
    if isinstance(parameters.get("class_weight"), list):
        parameters["class_weight"] = plain_class_weight(dict(parameters["class_weight"]))
    return parameters


def _check_plain(estimator: object, call: str) -> None:
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
    called = f"save({where}, path)" if call == "save" else f"{call}(path, {where})"
    hint = (
        f" Save the {type(inside).__name__} inside, {called}; all else needs joblib."
        if isinstance(inside, kinds)
        else ""
    )
    raise TypeError(f"{call} takes a {' or a '.join(_KINDS)}; got a {name}.{hint}")


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


def _name_of(module: Any) -> str:
    kind = module if hasattr(module, "__qualname__") else type(module)
    return f"{kind.__module__}.{kind.__qualname__}"
