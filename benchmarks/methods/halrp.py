"""The package's own estimator, through its public face."""

from functools import cache

import numpy as np
import pandas as pd
import torch

from benchmarks.methods._method import Method
from benchmarks.networks import recipe
from sklearn_halrp import ContinualClassifier


class HoldOut:
    """Hold out the last rows of a task, those of its validation part."""

    n_rows = 0

    def __call__(self, dataset, y=None, **kwargs):
        cut = len(dataset) - self.n_rows
        rows = np.arange(len(dataset))
        return (torch.utils.data.Subset(dataset, part) for part in (rows[:cut], rows[cut:]))


class HALRP(Method):
    """`ContinualClassifier`, with the given settings.

    Rows of the validation part are held out from training as they are for every method;
    the importance of layers is estimated on them.
    """

    def __init__(self, network, training, seed, **settings):
        super().__init__(network, training, seed)
        self.split, self.labels = HoldOut(), {}
        net = recipe(
            network,
            training.epochs,
            lr=training.lr,
            batch_size=training.batch_size,
            train_split=self.split,
        )
        self.classifier = ContinualClassifier(net, random_state=seed, **settings)

    def learn(self, task):
        X, y = (np.concatenate(parts) for parts in zip(task.train, task.valid, strict=True))
        self.split.n_rows = len(task.valid[1])
        self.classifier.net.set_params(train_split=self.split)
        self.classifier.partial_fit(X, self.named(task, y), task_id=task.name)

    def named(self, task, y):
        """Return classes of a task by their labels, and remember these for its predictions."""
        self.labels[task.name] = task.labels
        return task.named(y)

    def predict(self, name, X):
        said, labels = self.classifier.predict(X, task_id=name), self.labels[name]
        return said if labels is None else np.searchsorted(labels, said)

    def ranked(self, name, X):
        return self.classifier.predict_proba(X, task_id=name)[:, 1]

    def n_numbers(self):
        return self.classifier.n_numbers_

    def n_bytes(self):
        return self.classifier.n_bytes_


class TrainingRowsOnly(HALRP):
    """The same without the validation rows: importances come from the rows it learns."""

    def learn(self, task):
        X, y = task.train
        self.learn_rows(X, self.named(task, y), task.name)

    def learn_rows(self, X, y, ids):
        """Learn rows, of one task or of several."""
        if self.classifier.net is not None:
            self.classifier.net.set_params(train_split=None)
        self.classifier.partial_fit(X, y, task_id=ids)


class AsItComes(TrainingRowsOnly):
    """`ContinualClassifier` without a net: its own network, epochs, and rows that it holds out.

    All from the rows that the others learn, and not those to choose settings by.
    """

    def __init__(self, network, training, seed, **settings):
        Method.__init__(self, network, training, seed)
        self.tables, self.labels = takes_tables(), {}
        self.classifier = ContinualClassifier(random_state=seed, **settings)


@cache
def takes_tables():
    """Return whether this version takes words and missing numbers, or else wants arrays."""
    table = pd.DataFrame({"word": pd.Categorical(["a", "b"] * 8), "number": [1, None] * 8})
    try:
        ContinualClassifier(random_state=0).fit(table, [0, 1] * 8)
    except ValueError:
        return False
    return True


class FromSeveral(TrainingRowsOnly):
    """The first tasks come in one call, and train the base together.

    Parameters
    ----------
    first : int, optional
        How many; all of them by default.
    """

    incremental = False

    def __init__(self, network, training, seed, first=None, **settings):
        super().__init__(network, training, seed, **settings)
        self.first, self.waiting = first, []

    def learn(self, task):
        if self.first == 0:
            super().learn(task)
            return
        self.waiting.append(task)
        if len(self.waiting) == self.first:
            self.finish()

    def finish(self):
        """Learn what is waiting."""
        if self.waiting:
            X, y = zip(*(task.train for task in self.waiting), strict=True)
            y = [self.named(task, part) for task, part in zip(self.waiting, y, strict=True)]
            join = np.concatenate if isinstance(X[0], np.ndarray) else pd.concat
            ids = np.repeat([task.name for task in self.waiting], [len(part) for part in y])
            self.learn_rows(join(X), np.concatenate(y), ids)
            self.first, self.waiting = 0, []

    def n_numbers(self):
        return 0 if self.waiting else super().n_numbers()

    def n_bytes(self):
        return 0 if self.waiting else super().n_bytes()


class FromSeveralAsItComes(FromSeveral, AsItComes):
    """The same without a net."""
