"""What a method is asked for, and how all of them train."""

import hashlib
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class Training:
    """How every method trains on one task, with Adam.

    Parameters
    ----------
    epochs, batch_size : int
    lr : float
    averaged : float
        Share of the steps, the last ones, whose weights are averaged in the end.
    anew : bool
        Whether statistics of norms are then taken anew, from the rows that were learned.
    """

    epochs: int = 10
    batch_size: int = 128
    lr: float = 1e-3
    averaged: float = 0.3
    anew: bool = True


class Method:
    """A way to learn tasks one after the other with one kind of network.

    Parameters
    ----------
    network : callable
        ``network(n_classes=...)`` gives a fresh module. Its last linear layer is the head.
    training : Training
    seed : int
        What is drawn for a task depends on it and on the task's name, not on the order.

    Attributes
    ----------
    incremental : bool
        Whether it can predict while tasks are still to come.
    tables : bool
        Whether it takes rows as the user has them, with words and missing numbers.
    """

    incremental, tables = True, False

    def __init__(self, network, training, seed):
        self.network, self.training, self.seed = network, training, seed

    def learn(self, task):
        """Learn a `benchmarks.streams.Task`; it may use its `train` rows and no earlier ones."""
        raise NotImplementedError

    def finish(self):
        """Do what is left when no more tasks will come."""

    def predict(self, name, X):
        """Return the labels of rows of the task of this name."""
        raise NotImplementedError

    def ranked(self, name, X):
        """Return numbers that are the larger, the surer a row is of the second of two classes."""
        raise NotImplementedError

    def n_numbers(self):
        """Return how many numbers are stored to predict all tasks and to learn the next."""
        raise NotImplementedError

    def n_bytes(self):
        """Return what they take, at four bytes a number unless the method knows better."""
        return 4 * self.n_numbers()

    def draw(self, name):
        """Seed everything that is drawn for a task."""
        digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:7], "big"))


class WithOwn(Method):
    """A method of this folder: some tensors are `shared` by all tasks, some each task's `own`.

    One module runs with any of them in the place of its own.
    """

    def __init__(self, network, training, seed):
        super().__init__(network, training, seed)
        self.draw("network")
        self.module = network(n_classes=2)
        self.parts = parts(self.module)
        self.shared, self.own = {}, {}

    def begin(self, task, kept=None, like=None):
        """Give a task fresh tensors of its own: those of `kept` names, or all.

        Those that are in `like` too begin as they are there, but for the head.
        """
        self.draw(task.name)
        self.own[task.name] = own = tensors_of(self.network(n_classes=task.n_classes), kept)
        for name in (own.keys() & (like or {}).keys()) - self.parts["head"]:
            own[name].data.copy_(like[name].data)

    def first(self):
        """Return the first task's tensors, or None."""
        return next(iter(self.own.values()), None)

    def tensors(self, name):
        """Return all tensors of the network for one task."""
        return {**self.shared, **self.own[name]}

    def fit(self, task, tensors, parameters, epochs=None, extra=None):
        """Minimise the cross entropy, and what is added to it as a function of the batch's rows."""
        X, y = map(torch.as_tensor, task.train)

        def step(rows):
            loss = cross_entropy(logits(self.module, tensors(), X[rows], True), y[rows])
            return loss + extra(rows) if extra else loss

        train(step, trained(parameters), len(y), self.training, epochs)
        self.take_statistics(tensors(), X)

    def take_statistics(self, tensors, X):
        """Take the running statistics among these tensors anew, from rows, if that is wanted."""
        if self.training.anew:
            statistics(self.module, tensors, X, self.training.batch_size)

    @torch.no_grad()
    def outputs(self, name, X):
        """Return logits."""
        tensors = self.tensors(name)
        batches = torch.as_tensor(X).split(1024)
        return torch.cat([logits(self.module, tensors, x, False) for x in batches])

    def predict(self, name, X):
        """Return labels."""
        return self.outputs(name, X).argmax(1).numpy()

    def ranked(self, name, X):
        """Return by how much the second logit is above the first."""
        return self.outputs(name, X).diff().flatten().numpy()

    def every_tensor(self):
        """Return what tasks share, and what each owns."""
        return [t for part in (self.shared, *self.own.values()) for t in part.values()]

    def n_numbers(self):
        """Count them."""
        return sum(tensor.numel() for tensor in self.every_tensor())


def parts(module):
    """Return which tensors of a module are its head, its norms, its biases and its weights.

    Buffers of norms are among the norms.
    """
    found = {"head": set(), "norm": set(), "bias": set(), "weight": set()}
    head, _ = head_of(module)
    norms = nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm
    for prefix, part in module.named_modules():
        buffers = part.named_buffers(recurse=False)
        for name, tensor in [*part.named_parameters(recurse=False), *buffers]:
            kind = "norm" if isinstance(part, norms) else "weight" if tensor.dim() > 1 else "bias"
            kind = "head" if prefix == head else kind
            found[kind].add(f"{prefix}.{name}" if prefix else name)
    return found


def head_of(module):
    """Return the name of the last linear layer, and the layer."""
    return [item for item in module.named_modules() if isinstance(item[1], nn.Linear)][-1]


def tensors_of(module, names=None):
    """Return copies of these tensors of a module, all by default; parameters can be trained."""
    every = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {
        name: nn.Parameter(tensor.detach().clone())
        if isinstance(tensor, nn.Parameter)
        else tensor.clone()
        for name, tensor in every.items()
        if names is None or name in names
    }


def trained(tensors):
    """Return those that gradients change."""
    return [tensor for tensor in tensors if isinstance(tensor, nn.Parameter)]


def train(step, parameters, n_rows, training, epochs=None, after=None):
    """Minimise a loss over batches of rows: ``step(rows)`` returns it for the rows at these places.

    Epochs may be others than the training's own; ``after()`` follows each step. What is trained
    ends as its mean over the last steps, as many as the training says.
    """
    optimizer = torch.optim.Adam(parameters, lr=training.lr)
    epochs = training.epochs if epochs is None else epochs
    alone = n_rows % training.batch_size == 1 < n_rows  # batch normalisation needs two rows
    n_steps = epochs * (-(-n_rows // training.batch_size) - alone)
    first, count, means = n_steps - round(training.averaged * n_steps), 0, None
    for _ in range(epochs):
        for rows in torch.randperm(n_rows).split(training.batch_size):
            if len(rows) == 1 < n_rows:
                continue
            optimizer.zero_grad()
            step(rows).backward()
            optimizer.step()
            if after:
                after()
            count += 1
            if count > first:
                now = [parameter.detach() for parameter in parameters]
                means = means or [torch.zeros_like(one) for one in now]
                torch._foreach_lerp_(means, now, 1 / (count - first))
    for parameter, mean in zip(parameters if means else (), means or (), strict=True):
        parameter.data.copy_(mean)


@torch.no_grad()
def statistics(module, tensors, X, batch_size, most=100):
    """Take the running statistics of norms anew: their means over so many batches of rows.

    Only norms run as they do in training. The statistics are among the tensors, and are changed.
    """
    norms = {
        name: part
        for name, part in module.named_modules()
        if getattr(part, "running_mean", None) is not None
    }
    for name, norm in norms.items():
        for statistic, _ in norm.named_buffers():
            tensors[f"{name}.{statistic}"].fill_(statistic == "running_var")
    module.eval()
    before = [norm.momentum for norm in norms.values()]
    for norm in norms.values():
        norm.train().momentum = None  # the mean of all batches
    for rows in torch.randperm(len(X)).split(batch_size)[: most if norms else 0]:
        if len(rows) > 1:
            functional_call(module, tensors, (X[rows],), strict=False)
    for norm, momentum in zip(norms.values(), before, strict=True):
        norm.momentum = momentum


def logits(module, tensors, X, training):
    """Run a module with other tensors in the place of its own."""
    module.train(training)
    return functional_call(module, tensors, (X,), strict=False)
