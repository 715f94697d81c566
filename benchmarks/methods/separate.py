"""A whole network for every task: nothing is shared, nothing is forgotten."""

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


class Separate(Method):
    """One network per task, each from a fresh start (STL)."""

    def __init__(self, network, training, seed):
        super().__init__(network, training, seed)
        self.module = network(n_classes=2)
        self.nets = {}

    def learn(self, task):
        """Train a network on the task's rows."""
        self.draw(task.name)
        self.nets[task.name] = tensors = self.start(self.network(n_classes=task.n_classes))
        step = loss_on(self.module, tensors, *task.train)
        train(step, trained(tensors.values()), len(task.train[1]), self.training)

    def start(self, fresh):
        """Return the tensors to begin with."""
        return tensors_of(fresh)

    def predict(self, name, X):
        """Return labels."""
        return labels(self.module, self.nets[name], X)

    def n_numbers(self):
        """Count all networks."""
        return sum(tensor.numel() for net in self.nets.values() for tensor in net.values())


class Copies(Separate):
    """One network per task, each begun as a copy of the first: transfer at full price."""

    def start(self, fresh):
        """Return the first task's tensors, with a fresh head."""
        tensors = tensors_of(fresh)
        if self.nets:
            begin_as(tensors, next(iter(self.nets.values())), parts(fresh)["head"])
        return tensors
