"""Each task owns a part of the weights of one network."""

import math

import torch

from benchmarks.methods._method import WithOwn, tensors_of


class PackNet(WithOwn):
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
        self.shared = tensors_of(self.module, self.parts["weight"])
        self.owner = {n: torch.full(w.shape, -1, dtype=int) for n, w in self.shared.items()}

    def learn(self, task):
        number = len(self.own)
        kept = {name for kind in ("head", "norm", "bias") for name in self.parts[kind]}
        self.begin(task, kept, self.first())
        free = {name: owner == -1 for name, owner in self.owner.items()}
        again = round(self.retrain * self.training.epochs)
        self._fit_free(task, free, self.training.epochs - again)
        for name, weight in self.shared.items():
            keep = self._largest(weight.detach().abs(), free[name])
            self.owner[name][keep] = number
            weight.data[free[name] & ~keep] = 0
            free[name] = keep
        self._fit_free(task, free, again)

    def _largest(self, size, free):
        count = min(round(self.share * free.numel()), int(free.sum()))
        keep = torch.zeros(free.numel(), dtype=bool)
        order = size.masked_fill(~free, -1).flatten().argsort(descending=True)
        keep[order[:count]] = True
        return keep.view(free.shape)

    def _fit_free(self, task, free, epochs):
        """Train the weights at some places; the others have no gradient and stay as they are."""
        own = self.own[task.name]
        fixed = {name: w.detach().clone() for name, w in self.shared.items()}

        def tensors():
            weights = {n: torch.where(free[n], w, fixed[n]) for n, w in self.shared.items()}
            return {**weights, **own}

        self.fit(task, tensors, [*self.shared.values(), *own.values()], epochs)
        for name, weight in self.shared.items():
            weight.data[~free[name]] = fixed[name][~free[name]]

    def tensors(self, name):
        number = list(self.own).index(name)
        used = {n: (owner <= number) & (owner >= 0) for n, owner in self.owner.items()}
        weights = {n: torch.where(used[n], w, 0) for n, w in self.shared.items()}
        return {**weights, **self.own[name]}

    def n_bytes(self):
        """Count for each weight as many bits as it takes to name its owner, or that it has none."""
        bits = math.ceil(math.log2(round(1 / self.share) + 1))
        return 4 * self.n_numbers() + sum(o.numel() * bits // 8 for o in self.owner.values())
