"""Ready-to-predict networks of the tasks used last, within a bound on memory."""

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet, NeuralNetClassifier
from skorch.dataset import Dataset
from skorch.utils import to_device, to_numpy
from torch.utils.data import DataLoader

from sklearn_halrp._copies import copied
from sklearn_halrp._modules import named_tensors
from sklearn_halrp._network import Network
from sklearn_halrp._phase import class_of, has_own, with_module
from sklearn_halrp._predictive import first_of
from sklearn_halrp._training import around
from sklearn_halrp._turns import Turn
from sklearn_halrp._types import TaskId

# A classifier's calls the other one.
_OF_SKORCH = (NeuralNet.predict_proba, NeuralNetClassifier.predict_proba)


def outputs_of(net: NeuralNet, X: Any, private: bool = False) -> NDArray[Any]:
    """Return what a net's predict_proba gives, by a shorter way where the net's is skorch's.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised, its module in evaluation mode.
    X : array or Dataset
    private : bool
        Whether nobody else uses the array: a module may change its input in place.
    """
    size = batch_size_of(net)
    skorchs = class_of(net).predict_proba in _OF_SKORCH
    if size is None or not skorchs or not isinstance(X, np.ndarray):
        return net.predict_proba(X)
    nonlinearity, parts = net._get_predict_nonlinearity(), []
    size = len(X) if size == -1 else size
    with torch.no_grad():
        for start in range(0, len(X), size):
            rows = X[start : start + size]
            output = first_of(net.infer(torch.from_numpy(rows if private else rows.copy())))
            parts.append(to_numpy(nonlinearity(to_device(output, "cpu"))))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def check_predicted(broken: NDArray[Any], method: str) -> None:
    """Refuse predictions of rows for which a network gives NaN or infinity.

    Parameters
    ----------
    broken : array of shape (n_samples,)
    method : str
        That was called.

    Raises
    ------
    ValueError
    """
    if broken.any():
        raise ValueError(
            f"The network gives no finite numbers for {broken.sum()} of the {len(broken)} rows of "
            f"X, the first of them row {broken.argmax()}, so {method} has no answer. Look in X for "
            "very large numbers, and in the module for a division by 0, such as by the norm of an "
            "empty row, or a logarithm of 0."
        )


_WAY = ("forward_iter", "evaluation_step", "get_dataset", "get_iterator")


def batch_size_of(net: NeuralNet) -> int | None:
    """Return the size of the batches that a net in a phase cuts from arrays, or None.

    None stands for a net whose way from rows to outputs is its own.
    """
    own = any(getattr(class_of(net), name) is not getattr(NeuralNet, name) for name in _WAY)
    plain = net.iterator_valid is DataLoader and net.dataset is Dataset
    if own or net.phase_.draws or not plain:
        return None
    settings = net.get_params_for("iterator_valid")
    if set(settings) - {"batch_size"} or net.get_params_for("dataset"):
        return None
    return settings.get("batch_size", net.batch_size)


# Bytes that a net and its module hold besides their tensors, about.
BESIDES = 2**15


class Predictors:
    """Merged networks, each inside a skorch net, kept while they fit in memory."""

    def __init__(self) -> None:
        self._nets: OrderedDict[TaskId, Any] = OrderedDict()
        self._bytes = 0
        self._pattern: tuple[Any, Any] = None, None  # a recipe, and a net that was made of it
        self._turn = Turn()

    def net(
        self, recipe: NeuralNet, network: Network, task_id: TaskId, max_bytes: int
    ) -> NeuralNet:
        """Return an initialised skorch net that predicts this task.

        Parameters
        ----------
        recipe : skorch.NeuralNet
        network : Network
        task_id : int or str
        max_bytes : int
            Bound on what the merged networks hold besides the base; the one used last is
            kept however large it is.
        """
        task = network.tasks[task_id]
        with self._turn.taken():
            net, base, known, _ = self._nets.get(task_id, (None, None, None, 0))
            if base is network.base and known is task:
                self._nets.move_to_end(task_id)
                return net
        module = network.module_for(task)
        own = has_own(recipe, *_WAY, "infer", "forward", "predict_proba", "predict")
        if own and has_own(recipe, "initialize", "initialize_module"):
            module = copied(module)  # they may change what is shared, for a moment
        shared = {id(tensor) for tensor in named_tensors(network.base).values()}
        size = BESIDES + sum(
            tensor.numel() * tensor.element_size()
            for tensor in named_tensors(module).values()
            if id(tensor) not in shared
        )
        known_recipe, pattern = self._pattern
        if known_recipe is recipe:
            net = with_module(pattern, module)
        else:
            net = around(recipe, module, draws=False, own=own, callbacks="disable", verbose=0)
        with self._turn.taken():
            if not own and not net.compile:  # it would be made the same for every task
                self._pattern = recipe, net
            self._bytes += size - self._nets.get(task_id, (None, None, None, 0))[-1]
            self._nets[task_id] = (net, network.base, task, size)
            self._nets.move_to_end(task_id)
            while len(self._nets) > 1 and self._bytes > max_bytes:
                _, (*_, gone) = self._nets.popitem(last=False)
                self._bytes -= gone
        return net
