"""The net at the door: an unfitted skorch net of which every phase can make its own."""

from typing import Any

from skorch import NeuralNetClassifier

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
