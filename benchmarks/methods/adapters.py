"""The first task's weights are fixed; every other task adds few numbers to them."""

import torch
from torch import nn

from benchmarks.methods._method import WithOwn


class Adapters(WithOwn):
    """Train a network on the first task, and small changes of its weights on every other.

    Biases, norms and head belong to each task.
    """

    def __init__(self, network, training, seed):
        super().__init__(network, training, seed)
        self.changes = {}

    def learn(self, task):
        self.begin(task, like=self.first())
        own = self.own[task.name]
        # In the order of the module: that in which what is drawn for a task is drawn.
        weights = {name: own.pop(name) for name in list(own) if name in self.parts["weight"]}
        if not self.shared:
            self.shared, self.changes[task.name] = weights, {}
            parameters = [*own.values(), *weights.values()]
        else:
            changes = {name: self.fresh(weight) for name, weight in self.shared.items()}
            self.changes[task.name] = changes
            parameters = [*own.values(), *(p for change in changes.values() for p in change)]
        self.fit(task, lambda: self.tensors(task.name), parameters)
        for weight in self.shared.values():
            weight.requires_grad_(False)

    def fresh(self, weight):
        """Return the parameters of a change that changes nothing yet."""
        raise NotImplementedError

    def changed(self, weight, change):
        """Return a weight with a change."""
        raise NotImplementedError

    def tensors(self, name):
        changes = self.changes[name].items()
        changed = {weight: self.changed(self.shared[weight], change) for weight, change in changes}
        return super().tensors(name) | changed

    def every_tensor(self):
        changes = [p for change in self.changes.values() for pair in change.values() for p in pair]
        return super().every_tensor() + changes


class BatchEnsemble(Adapters):
    """Rows and columns of each weight are rescaled (Wen, Tran & Ba, ICLR 2020)."""

    def fresh(self, weight):
        """Return scales of 1."""
        return tuple(nn.Parameter(torch.ones(size)) for size in weight.shape[:2])

    def changed(self, weight, change):
        rest = (1,) * (weight.dim() - 2)
        return weight * change[0].view(-1, 1, *rest) * change[1].view(1, -1, *rest)


class LoRA(Adapters):
    """A matrix of fixed rank is added to each weight: W + scale * U V (Hu et al., ICLR 2022).

    Kernels of convolutions are unfolded. The rank is that of every layer, as far as its shape
    allows; with Adam the scale acts as a higher learning rate of the change.
    """

    def __init__(self, network, training, seed, rank=4, scale=1.0):
        super().__init__(network, training, seed)
        self.rank, self.scale = rank, scale

    def fresh(self, weight):
        """Return U = 0 and a random V."""
        shape = weight.flatten(1).shape
        rank = min(self.rank, *shape)
        v = torch.empty(rank, shape[1])
        nn.init.kaiming_uniform_(v, a=5**0.5)
        return nn.Parameter(torch.zeros(shape[0], rank)), nn.Parameter(v)

    def changed(self, weight, change):
        return weight + self.scale * (change[0] @ change[1]).view(weight.shape)
