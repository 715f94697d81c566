"""Some rows of every task are kept and trained on again."""

import torch
from torch.nn.functional import cross_entropy

from benchmarks.methods._method import logits
from benchmarks.methods.sharing import FineTuning


class Replay(FineTuning):
    """Fine-tuning in which every batch comes with one of an earlier task's kept rows.

    The earlier task is drawn for each batch, and its loss counts as often as there are earlier
    tasks. Of each task `memory` rows are kept, drawn at random, as half-precision numbers.
    """

    def __init__(self, network, training, seed, memory=50, norm="own"):
        super().__init__(network, training, seed, norm)
        self.memory = memory
        self.kept = {}

    def extra(self, task):
        names = list(self.kept)
        if not names:
            return None

        def rehearsal(rows):
            name = names[int(torch.randint(len(names), ()))]
            X, y = self.kept[name]
            some = torch.randperm(len(y))[: max(len(rows), 2)]
            out = logits(self.module, self.tensors(name), X[some].float(), True)
            return len(names) * cross_entropy(out, y[some])

        return rehearsal

    def parameters(self, name):
        """Return all: the norms and heads of earlier tasks are trained again too."""
        return self.every_tensor()

    def end(self, task):
        X, y = map(torch.as_tensor, task.train)
        some = torch.randperm(len(y))[: self.memory]
        self.kept[task.name] = X[some].half(), y[some]

    def n_numbers(self):
        """Count the rows and their labels too."""
        return super().n_numbers() + sum(X.numel() + y.numel() for X, y in self.kept.values())

    def n_bytes(self):
        """One byte for a number of a row and for a label, and equal channels once.

        That is what images take. Other rows are given it too, though they are kept in two bytes.
        """
        rows = sum(different(X).numel() + y.numel() for X, y in self.kept.values())
        return 4 * super().n_numbers() + rows


def different(X):
    """Return rows without channels that only repeat the first one."""
    return X[:, :1] if X.dim() == 4 and torch.equal(X, X[:, :1].expand_as(X)) else X
