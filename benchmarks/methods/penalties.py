"""Weights are held near those that earlier tasks need: L2 and EWC."""

import torch
from torch.func import grad, vmap

from benchmarks.methods._method import logits
from benchmarks.methods.sharing import FineTuning

ROWS_AT_ONCE = 32  # whose gradients are held at once


class L2(FineTuning):
    """Fine-tuning with ``strength / 2 * |w - w_old|^2`` on the shared weights."""

    def __init__(self, network, training, seed, strength=1.0, norm="own"):
        super().__init__(network, training, seed, norm)
        self.strength = strength
        # The sum over tasks of importance * (w - w_task)^2 is, but for a constant,
        # total * (w - centre)^2: two numbers for each weight are enough for all tasks.
        self.total, self.centre = {}, {}

    def extra(self, task):
        """Return the penalty, which does not depend on the batch."""
        if not self.total:
            return None

        def penalty(rows):
            return (self.strength / 2) * sum(
                (total * (self.shared[name] - self.centre[name]).square()).sum()
                for name, total in self.total.items()
            )

        return penalty

    def end(self, task):
        """Add the task's importance, and move the centre to where the penalties balance."""
        for name, importance in self.importance(task).items():
            weight = self.shared[name].detach()
            before = self.total.get(name, torch.zeros_like(weight))
            centre = self.centre.get(name, weight)
            self.total[name] = before + importance
            share = importance / self.total[name].clamp_min(1e-30)
            self.centre[name] = centre + share * (weight - centre)

    def importance(self, task):
        """Return the importance of each shared parameter for a task."""
        return {name: torch.ones_like(weight) for name, weight in self.weights().items()}

    def weights(self):
        """Return the parameters among the shared tensors."""
        return {name: t for name, t in self.shared.items() if isinstance(t, torch.nn.Parameter)}

    def n_numbers(self):
        return super().n_numbers() + sum(tensor.numel() for tensor in self.centre.values())


class EWC(L2):
    """Elastic weight consolidation: the penalty is weighted with the Fisher information.

    Its diagonal is the mean square of the gradients of single rows' log-likelihoods, over the
    labels that the network itself predicts (Kirkpatrick et al., PNAS 2017). Random signs in
    place of labels, as in our own method, have the same mean, and less noise. It is taken from
    `n_rows` rows at most, as many as our own method takes.
    """

    def __init__(self, network, training, seed, strength=100.0, norm="own", n_rows=1024):
        super().__init__(network, training, seed, strength, norm)
        self.n_rows = n_rows

    def importance(self, task):
        X = torch.as_tensor(task.train[0])
        X = X[torch.randperm(len(X))[: self.n_rows]]
        tensors, weights = self.tensors(task.name), self.weights()
        fisher = {name: torch.zeros_like(weight) for name, weight in weights.items()}

        def loss(some, x, slope):
            return logits(self.module, {**tensors, **some}, x[None], False)[0] @ slope

        of_each_row = vmap(grad(loss), (None, 0, 0))
        for rows in X.split(ROWS_AT_ONCE):
            p = logits(self.module, tensors, rows, False).detach().softmax(1)
            drawn = p.sqrt() * (2 * torch.randint(0, 2, p.shape) - 1)
            slope = p * drawn.sum(1, keepdim=True) - drawn
            # The sum over y of drawn_y d(-log p_y) / d logits.
            for name, gradient in of_each_row(weights, rows, slope).items():
                fisher[name] += gradient.detach().square().sum(0) / len(X)
        return fisher

    def n_numbers(self):
        return super().n_numbers() + sum(tensor.numel() for tensor in self.total.values())
