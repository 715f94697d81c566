"""What a method is asked for, and how all of them train."""

import hashlib
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class Training:
    """How every method trains on one task; the optimiser is Adam.

    Attributes
    ----------
    epochs, batch_size : int
    lr : float
    decay : float
        Factor of the learning rate after every batch.
    device : str
        For torch.
    """

    epochs: int = 10
    batch_size: int = 128
    lr: float = 1e-3
    decay: float = 1.0
    device: str = "cpu"


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
    """

    incremental = True

    def __init__(self, network, training, seed):
        self.network, self.training, self.seed = network, training, seed

    def on_device(self):
        """Return the context in which it works: new tensors are on the training's device."""
        return torch.device(self.training.device)

    def learn(self, task):
        """Learn a `benchmarks.streams.Task`; it may use its `train` rows and no earlier ones."""
        raise NotImplementedError

    def finish(self):
        """Do what is left when no more tasks will come."""

    def predict(self, name, X):
        """Return the labels of rows of the task of this name."""
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


def parts(module):
    """Return which tensors of a module are its head, its norms, its biases and its weights.

    Returns
    -------
    dict of str to set of str
        Buffers of norms are among the norms.
    """
    found = {"head": set(), "norm": set(), "bias": set(), "weight": set()}
    head, _ = head_of(module)
    for prefix, part in module.named_modules():
        for name, tensor in [*part.named_parameters(recurse=False), *_buffers(part)]:
            full = f"{prefix}.{name}" if prefix else name
            if prefix == head:
                found["head"].add(full)
            elif isinstance(part, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm):
                found["norm"].add(full)
            else:
                found["weight" if tensor.dim() > 1 else "bias"].add(full)
    return found


def head_of(module):
    """Return the name of the last linear layer, and the layer."""
    return [(name, part) for name, part in module.named_modules() if isinstance(part, nn.Linear)][
        -1
    ]


def _buffers(part):
    return part.named_buffers(recurse=False)


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


def begin_as(tensors, other, head):
    """Give tensors the values that another task's have, all but those of the head."""
    for name in tensors.keys() - head:
        tensors[name].data.copy_(other[name].data)


def trained(tensors):
    """Return those that gradients change."""
    return [tensor for tensor in tensors if isinstance(tensor, nn.Parameter)]


def train(step, parameters, n_rows, training, epochs=None, after=None):
    """Minimise a loss over batches of rows.

    Parameters
    ----------
    step : callable
        ``step(rows)`` returns the loss on the rows at these places.
    parameters : list of tensors
    n_rows : int
    training : Training
    epochs : int, optional
        Instead of the training's own.
    after : callable, optional
        Called after every step of the optimiser.
    """
    optimizer = torch.optim.Adam(parameters, lr=training.lr)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, training.decay)
    for _ in range(training.epochs if epochs is None else epochs):
        for rows in torch.randperm(n_rows).split(training.batch_size):
            if len(rows) == 1 < n_rows:
                continue  # batch normalisation needs two
            optimizer.zero_grad()
            step(rows).backward()
            optimizer.step()
            schedule.step()
            if after:
                after()


def logits(module, tensors, X, training):
    """Run a module with other tensors in the place of its own."""
    module.train(training)
    return functional_call(module, tensors, (X,), strict=False)


def loss_on(module, tensors, X, y):
    """Return a function of rows for `train`: the cross entropy on them."""
    X, y = torch.as_tensor(X), torch.as_tensor(y)

    def step(rows):
        now = tensors() if callable(tensors) else tensors
        return cross_entropy(logits(module, now, X[rows], True), y[rows])

    return step


@torch.no_grad()
def labels(module, tensors, X):
    """Return the predicted labels of all rows."""
    batches = torch.as_tensor(X).split(1024)
    return torch.cat([logits(module, tensors, x, False).argmax(1) for x in batches]).cpu().numpy()
