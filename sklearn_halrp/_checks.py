"""The net at the door: an unfitted skorch net of which every phase can make its own."""

import inspect
from typing import Any

from skorch import NeuralNet, NeuralNetClassifier

from sklearn_halrp._faults import let_through
from sklearn_halrp._fixed import check_for_many


def check_net(net: Any, net_class: type = NeuralNetClassifier) -> None:
    """Refuse anything but an unfitted skorch classifier whose phases we can run.

    Raises
    ------
    TypeError
        If it is no such classifier.
    ValueError
        If it is fitted, or one of its settings makes sense for a single training only.
    """
    wanted = net_class.__name__
    if isinstance(net, type) and issubclass(net, net_class):
        raise TypeError(
            f"net must be an instance, not the class {net.__name__}. Write "
            f"{net.__name__}(Module, ...), without fitting it."
        )
    if not isinstance(net, net_class):
        loss = "CrossEntropyLoss" if net_class is NeuralNetClassifier else "MSELoss"
        raise TypeError(
            f"net must be a skorch.{wanted} (or a subclass), unfitted; got "
            f"{getattr(net, '__name__', type(net).__name__)}. A torch module is wrapped as "
            f"{wanted}(Module, criterion=torch.nn.{loss}, ...)."
        )
    if getattr(net, "initialized_", False):
        raise ValueError(
            "net is fitted already, and its weights would be lost. To perturb them, give its "
            "module as it is and say so: give "
            f"{wanted}(net.module_, ...) and base='pretrained'. To train anew, pass "
            "sklearn.base.clone(net)."
        )
    check_for_many(net)


def changed_arguments(before: NeuralNet, now: NeuralNet) -> list[str]:
    """Return which arguments of the module one net has and another had not, by name.

    Only what tells its own value can be compared, such as numbers and names.

    >>> from torch import nn
    >>> wide, narrow = (NeuralNetClassifier(nn.Linear, module__in_features=n) for n in (9, 3))
    >>> changed_arguments(wide, narrow), changed_arguments(wide, wide)
    (['in_features'], [])
    """
    defaults = _defaults(before.module)
    old, new = (defaults | net.get_params_for("module") for net in (before, now))
    return [name for name in old | new if _differ(old.get(name), new.get(name))]


_PLAIN = (bool, int, float, str, tuple, list, type, type(None))


def _differ(value: Any, other: Any) -> bool:
    return isinstance(value, _PLAIN) and isinstance(other, _PLAIN) and not _equal(value, other)


def _equal(value: Any, other: Any) -> bool:
    try:
        return bool(value == other) or value is other
    except Exception as error:  # of what is in a list, such as arrays
        let_through(error)
        return True


def _defaults(module: Any) -> dict[str, Any]:
    """Return the arguments that a module has when they are not given."""
    try:
        parameters = inspect.signature(module).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {p.name: p.default for p in parameters if p.default is not p.empty}
