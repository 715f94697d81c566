"""Two plain ways to learn a stream of tasks, with the same skorch net, to compare with."""

import copy

import numpy as np
from sklearn.base import clone


def separate_networks(net, tasks):
    """Train one network per task.

    Returns the accuracies and the fitted nets.
    """
    nets = [clone(net).set_params(module__n_classes=t.n_classes).fit(*t.train) for t in tasks]
    return np.array([_accuracy(n, t) for n, t in zip(nets, tasks, strict=True)]), nets


def fine_tuning(net, tasks):
    """Train one network on task after task, with a head for each, and nothing else.

    Returns the accuracy matrix: row i after learning task i, NaN for tasks to come.
    """
    shared, heads = None, []
    matrix = np.full((len(tasks), len(tasks)), np.nan)
    for i, task in enumerate(tasks):
        learner = clone(net).set_params(module__n_classes=task.n_classes).initialize()
        if shared is not None:
            learner.module_.features.load_state_dict(shared)
        learner.partial_fit(*task.train)
        shared = copy.deepcopy(learner.module_.features.state_dict())
        heads.append(learner.module_.head)
        for j, earlier in enumerate(tasks[: i + 1]):
            learner.module_.head = heads[j]
            matrix[i, j] = _accuracy(learner, earlier)
    return matrix


def n_numbers(net):
    """Return how many numbers a fitted net stores: parameters and running statistics."""
    return sum(tensor.numel() for tensor in net.module_.state_dict().values())


def _accuracy(net, task):
    X, y = task.test
    return float(np.mean(net.predict(X) == y))
