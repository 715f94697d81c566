"""Each task owns a part of the weights of one network."""

import math

import torch

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


class PackNet(Method):
    """Train what is still free, keep the largest, train them once more, fix them.

    A task uses the weights that it and earlier tasks own (Mallya & Lazebnik, CVPR 2018).
    Biases, norms and head belong to each task.

    Parameters
    ----------
    share : float
        Of all weights of a layer, those that one task comes to own.
    retrain : float
        Share of the epochs that comes after pruning.
    """

    def __init__(self, network, training, seed, share=0.1, retrain=0.4):
        super().__init__(network, training, seed)
        self.share, self.retrain = share, retrain
        self.draw("network")
        self.module = network(n_classes=2)
        self.names = parts(self.module)["weight"]
        self.weights = tensors_of(self.module, self.names)
        self.owner = {n: torch.full(w.shape, -1, dtype=int) for n, w in self.weights.items()}
        self.own = {}

    def learn(self, task):
        """Train, prune, train again."""
        self.draw(task.name)
        number = len(self.own)
        every = tensors_of(self.network(n_classes=task.n_classes))
        own = {name: tensor for name, tensor in every.items() if name not in self.names}
        if self.own:
            begin_as(own, next(iter(self.own.values())), parts(self.module)["head"])
        self.own[task.name] = own
        free = {name: owner == -1 for name, owner in self.owner.items()}
        again = round(self.retrain * self.training.epochs)
        self._fit(task, own, free, self.training.epochs - again)
        for name, weight in self.weights.items():
            keep = self._largest(weight.detach().abs(), free[name])
            self.owner[name][keep] = number
            weight.data[free[name] & ~keep] = 0
            free[name] = keep
        self._fit(task, own, free, again)

    def _largest(self, size, free):
        count = min(round(self.share * free.numel()), int(free.sum()))
        keep = torch.zeros(free.numel(), dtype=bool)
        order = size.masked_fill(~free, -1).flatten().argsort(descending=True)
        keep[order[:count]] = True
        return keep.view(free.shape)

    def _fit(self, task, own, free, epochs):
        """Train the weights at some places; the others have no gradient and stay as they are."""
        fixed = {name: w.detach().clone() for name, w in self.weights.items()}

        def tensors():
            weights = {n: torch.where(free[n], w, fixed[n]) for n, w in self.weights.items()}
            return {**weights, **own}

        step = loss_on(self.module, tensors, *task.train)
        parameters = trained([*self.weights.values(), *own.values()])
        train(step, parameters, len(task.train[1]), self.training, epochs)
        for name, weight in self.weights.items():
            weight.data[~free[name]] = fixed[name][~free[name]]

    def predict(self, name, X):
        """Return labels."""
        number = list(self.own).index(name)
        weights = {
            n: torch.where((self.owner[n] <= number) & (self.owner[n] >= 0), w, 0)
            for n, w in self.weights.items()
        }
        return labels(self.module, {**weights, **self.own[name]}, X)

    def n_numbers(self):
        """Count one network, and what belongs to tasks."""
        return sum(w.numel() for w in self.weights.values()) + sum(
            tensor.numel() for own in self.own.values() for tensor in own.values()
        )

    def n_bytes(self):
        """Count for each weight as many bits as it takes to name its owner, or that it has none."""
        bits = math.ceil(math.log2(round(1 / self.share) + 1))
        return 4 * self.n_numbers() + sum(o.numel() * bits // 8 for o in self.owner.values())
