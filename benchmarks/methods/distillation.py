"""The network keeps answering for earlier tasks as it did, on the new task's rows."""

import torch
from torch.nn.functional import kl_div

from benchmarks.methods._method import logits
from benchmarks.methods.sharing import FineTuning


class LearningWithoutForgetting(FineTuning):
    """Fine-tuning with distillation from the network before the task (Li & Hoiem, 2016).

    One earlier task is drawn for each batch, and its term counts as often as there are
    earlier tasks.

    Parameters
    ----------
    strength : float
    temperature : float
    norm : {"own", "shared"}
    """

    def __init__(self, network, training, seed, strength=1.0, temperature=2.0, norm="own"):
        super().__init__(network, training, seed, norm)
        self.strength, self.temperature = strength, temperature

    def extra(self, task):
        """Return the distillation loss."""
        names = [name for name in self.own if name != task.name]
        if not names:
            return None
        X = torch.as_tensor(task.train[0])
        with torch.no_grad():
            before = {
                name: torch.cat(
                    [logits(self.module, self.tensors(name), x, False) for x in X.split(1024)]
                )
                for name in names
            }

        def distillation(rows):
            name = names[int(torch.randint(len(names), ()))]
            # In training mode, as is usual, unless that would spoil the earlier task's statistics.
            mode = self.norm == "shared"
            now = logits(self.module, self.tensors(name), X[rows], mode)
            soft = (before[name][rows] / self.temperature).softmax(1)
            now = (now / self.temperature).log_softmax(1)
            divergence = kl_div(now, soft, reduction="batchmean") * self.temperature**2
            return self.strength * len(names) * divergence

        return distillation
