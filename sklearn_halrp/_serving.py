"""Ready-to-predict networks of the tasks used last, within a bound on memory."""

from collections import OrderedDict
from threading import Lock

from sklearn_halrp._modules import named_tensors
from sklearn_halrp._training import around

# Bytes that a net and its module hold besides their tensors, about.
BESIDES = 2**15


class Predictors:
    """Merged networks, each inside a skorch net, kept while they fit in memory."""

    def __init__(self):
        self._nets = OrderedDict()
        self._lock = Lock()

    def net(self, recipe, network, task_id, max_bytes):
        """Return an initialised skorch net that predicts this task.

        Parameters
        ----------
        recipe : skorch.NeuralNetClassifier
        network : Network
        task_id : int or str
        max_bytes : int
            Bound on what the merged networks hold besides the base; the one used last is
            kept however large it is.
        """
        task = network.tasks[task_id]
        with self._lock:
            net, base, known, _ = self._nets.get(task_id, (None, None, None, 0))
            if base is network.base and known is task:
                self._nets.move_to_end(task_id)
                return net
        module = network.module_for(task)
        shared = {id(tensor) for tensor in named_tensors(network.base).values()}
        size = BESIDES + sum(
            tensor.numel() * tensor.element_size()
            for tensor in named_tensors(module).values()
            if id(tensor) not in shared
        )
        net = around(recipe, module, draws=False, callbacks="disable", verbose=0)
        with self._lock:
            self._nets[task_id] = (net, network.base, task, size)
            self._nets.move_to_end(task_id)
            while len(self._nets) > 1 and sum(s for *_, s in self._nets.values()) > max_bytes:
                self._nets.popitem(last=False)
        return net

    def drop(self, task_id):
        """Give up what is kept for a task."""
        with self._lock:
            self._nets.pop(task_id, None)
