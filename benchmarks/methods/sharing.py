"""One network for all tasks, with a head for each: plain fine-tuning, and what builds on it."""

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


class FineTuning(Method):
    """Train one network on task after task, and do nothing against forgetting.

    Parameters
    ----------
    norm : {"shared", "own"}
        Whether batch normalisation, its running statistics included, belongs to all tasks
        together, as is usual, or to each, which often forgets less.
    """

    def __init__(self, network, training, seed, norm="own"):
        super().__init__(network, training, seed)
        self.norm = norm
        self.draw("network")
        self.module = network(n_classes=2)
        roles = parts(self.module)
        self.own_names = roles["head"] | (roles["norm"] if norm == "own" else set())
        self.shared = {
            name: tensor
            for name, tensor in tensors_of(self.module).items()
            if name not in self.own_names
        }
        self.own = {}
        self.sizes = {}

    def learn(self, task):
        """Train everything on the task's rows."""
        self.begin(task)
        self.fit(task)
        self.end(task)

    def begin(self, task):
        """Give a new task its own tensors: a fresh head, and norms as the last task left them."""
        self.draw(task.name)
        own = tensors_of(self.network(n_classes=task.n_classes), self.own_names)
        if self.own:
            begin_as(own, list(self.own.values())[-1], parts(self.module)["head"])
        self.own[task.name] = own

    def fit(self, task):
        """Minimise the loss."""
        tensors = self.tensors(task.name)
        plain = loss_on(self.module, tensors, *task.train)
        extra = self.extra(task)
        step = (lambda rows: plain(rows) + extra(rows)) if extra else plain
        train(step, self.parameters(task.name), len(task.train[1]), self.training)

    def parameters(self, name):
        """Return the parameters that are trained with a task."""
        return trained(self.tensors(name).values())

    def extra(self, task):
        """Return what is added to the loss, as a function of the batch's rows, or None."""

    def end(self, task):
        """Do what the method does after a task."""

    def tensors(self, name):
        """Return all tensors of the network for one task."""
        return {**self.shared, **self.own[name]}

    def predict(self, name, X):
        """Return labels."""
        return labels(self.module, self.tensors(name), X)

    def every_tensor(self):
        """Return the tensors that tasks share, and those of each."""
        return [t for part in (self.shared, *self.own.values()) for t in part.values()]

    def n_numbers(self):
        """Count the network and what tasks own."""
        return sum(tensor.numel() for tensor in self.every_tensor())
