"""The first task's weights are fixed; every other task adds few numbers to them."""

import torch
from torch import nn

from benchmarks.methods._method import (
    Method,
    begin_as,
    labels,
    loss_on,
    parts,
    tensors_of,
    train,
    trained,
)


class Adapters(Method):
    """Train a network on the first task, and small changes of its weights on every other.

    Biases, norms and head belong to each task.
    """

    def __init__(self, network, training, seed):
        super().__init__(network, training, seed)
        self.module = network(n_classes=2)
        self.names = parts(self.module)["weight"]
        self.base, self.own, self.changes = {}, {}, {}

    def learn(self, task):
        """Train the base, or the changes for this task."""
        self.draw(task.name)
        every = tensors_of(self.network(n_classes=task.n_classes))
        own = {name: tensor for name, tensor in every.items() if name not in self.names}
        if self.base:
            begin_as(own, next(iter(self.own.values())), parts(self.module)["head"])
            changes = {name: self.fresh(weight) for name, weight in self.base.items()}
        else:
            # In the order of the module: that in which what is drawn for a task is drawn.
            self.base = {name: tensor for name, tensor in every.items() if name in self.names}
            changes = {}
        self.own[task.name], self.changes[task.name] = own, changes
        parameters = [*own.values(), *(p for change in changes.values() for p in change)]
        if not changes:
            parameters += self.base.values()
        step = loss_on(self.module, lambda: self.tensors(task.name), *task.train)
        train(step, trained(parameters), len(task.train[1]), self.training)
        for weight in self.base.values():
            weight.requires_grad_(False)

    def fresh(self, weight):
        """Return the parameters of a change that changes nothing yet."""
        raise NotImplementedError

    def changed(self, weight, change):
        """Return a weight with a change."""
        raise NotImplementedError

    def tensors(self, name):
        """Return all tensors of the network for one task."""
        weights = dict(self.base)
        for weight, change in self.changes[name].items():
            weights[weight] = self.changed(self.base[weight], change)
        return {**weights, **self.own[name]}

    def predict(self, name, X):
        """Return labels."""
        return labels(self.module, self.tensors(name), X)

    def n_numbers(self):
        """Count the base, the changes, and what belongs to tasks."""
        changes = (p for change in self.changes.values() for pair in change.values() for p in pair)
        own = (tensor for part in self.own.values() for tensor in part.values())
        return sum(tensor.numel() for tensor in (*self.base.values(), *changes, *own))


class BatchEnsemble(Adapters):
    """Rows and columns of each weight are rescaled (Wen, Tran & Ba, ICLR 2020)."""

    def fresh(self, weight):
        """Return scales of 1."""
        return nn.Parameter(torch.ones(weight.shape[0])), nn.Parameter(torch.ones(weight.shape[1]))

    def changed(self, weight, change):
        """Return diag(r) W diag(s)."""
        rest = (1,) * (weight.dim() - 2)
        return weight * change[0].view(-1, 1, *rest) * change[1].view(1, -1, *rest)


class LoRA(Adapters):
    """A matrix of fixed rank is added to each weight: W + scale * U V (Hu et al., ICLR 2022).

    Kernels of convolutions are unfolded.

    Parameters
    ----------
    rank : int
        Of every layer, as far as its shape allows.
    scale : float
        With Adam it acts as a higher learning rate of the change.
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
        """Return W + scale * U V."""
        return weight + self.scale * (change[0] @ change[1]).view(weight.shape)
