"""The network keeps answering for earlier tasks as it did, on the new task's rows."""

import torch
from torch.nn.functional import cross_entropy, kl_div, linear

from benchmarks.methods._method import head_of, logits, train, trained
from benchmarks.methods.sharing import FineTuning


class LearningWithoutForgetting(FineTuning):
    """Fine-tuning with distillation from the network before the task (Li & Hoiem, 2016).

    The heads of all earlier tasks answer for every batch. Batch normalisation is shared, so
    that one pass serves all heads. The new head is trained with the rest from the first batch on,
    and not by itself before, so that all methods have as many epochs. `strength` is of each
    earlier task's term.
    """

    def __init__(self, network, training, seed, strength=1.0, temperature=2.0):
        super().__init__(network, training, seed, norm="shared")
        self.strength, self.temperature = strength, temperature

    def optimise(self, task):
        X, y = map(torch.as_tensor, task.train)
        earlier = [name for name in self.own if name != task.name]
        with torch.no_grad():
            before = [self.answers(task.name, x, False, earlier)[1] for x in X.split(1024)]
        before = {name: torch.cat([part[name] for part in before]) for name in earlier}

        def step(rows):
            out, answers = self.answers(task.name, X[rows], True, earlier)
            loss = cross_entropy(out, y[rows])
            for name, now in answers.items():
                loss = loss + self.strength * self.divergence(before[name][rows], now)
            return loss

        train(step, trained(self.every_tensor()), len(y), self.training)
        self.take_statistics(self.tensors(task.name), X)

    def answers(self, name, X, training, earlier):
        """Return the logits of one task, and those of earlier ones on the same rows."""
        seen = []  # what the head is given
        _, layer = head_of(self.module)
        hook = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            out = logits(self.module, self.tensors(name), X, training)
        finally:
            hook.remove()
        heads = {one: list(self.own[one].values()) for one in earlier}
        return out, {one: linear(seen[0], *head) for one, head in heads.items()}

    def divergence(self, before, now):
        """Return how far softened answers are from those before."""
        soft = (before / self.temperature).softmax(1)
        now = (now / self.temperature).log_softmax(1)
        return kl_div(now, soft, reduction="batchmean") * self.temperature**2
