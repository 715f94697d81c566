"""One network for all tasks, with a head for each: plain fine-tuning, and what builds on it."""

from benchmarks.methods._method import WithOwn, tensors_of


class FineTuning(WithOwn):
    """Train one network on task after task, and do nothing against forgetting.

    Parameters
    ----------
    norm : {"shared", "own"}
        Whether batch normalisation, its running statistics included, belongs to all tasks
        together, as is usual, or to each, which often forgets less.
    """

    def __init__(self, network, training, seed, norm="own"):
        super().__init__(network, training, seed)
        self.own_names = self.parts["head"] | (self.parts["norm"] if norm == "own" else set())
        every = tensors_of(self.module)
        self.shared = {name: every[name] for name in every if name not in self.own_names}

    def learn(self, task):
        """Train everything on the task's rows."""
        self.start(task)
        self.optimise(task)
        self.end(task)

    def start(self, task):
        """Give a task a fresh head, and norms as the last task left them."""
        self.begin(task, self.own_names, [None, *self.own.values()][-1])

    def optimise(self, task):
        """Minimise the loss."""
        tensors = self.tensors(task.name)
        self.fit(task, lambda: tensors, self.parameters(task.name), extra=self.extra(task))

    def parameters(self, name):
        """Return the tensors that are trained with a task."""
        return self.tensors(name).values()

    def extra(self, task):
        """Return what is added to the loss, as a function of the batch's rows, or None."""

    def end(self, task):
        """Do what the method does after a task."""
