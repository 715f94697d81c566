"""All tasks at once, with all their rows: an upper reference, since old rows are gone."""

import torch
from torch.nn.functional import cross_entropy

from benchmarks.methods._method import logits, train, trained
from benchmarks.methods.sharing import FineTuning


class Joint(FineTuning):
    """Train one network on the rows of all tasks together (MTL).

    A batch holds rows of one task, and there are as many of them as in learning the tasks one
    by one.
    """

    incremental = False

    def __init__(self, network, training, seed):
        super().__init__(network, training, seed, norm="own")
        self.tasks = []

    def learn(self, task):
        self.start(task)
        self.tasks.append(task)

    def finish(self):
        names = [task.name for task in self.tasks]
        self.draw(" ".join(names))
        rows = [tuple(map(torch.as_tensor, task.train)) for task in self.tasks]
        lengths = torch.tensor([len(y) for _, y in rows])
        size = self.training.batch_size

        def step(places):
            # A batch stands for one of a task, which is drawn by how many rows it has.
            task = int(torch.multinomial(lengths.float(), 1))
            X, y = rows[task]
            some = torch.randint(len(y), (min(size, len(places), len(y)),))
            out = logits(self.module, self.tensors(names[task]), X[some], True)
            return cross_entropy(out, y[some])

        train(step, trained(self.every_tensor()), int(lengths.sum()), self.training)
        for name, (X, _) in zip(names, rows, strict=True):  # other tasks moved the weights since
            self.take_statistics(self.tensors(name), X)
