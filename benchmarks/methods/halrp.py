"""The package's own estimator, through its public face."""

import numpy as np
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
        self.split = HoldOut()
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
        self.classifier.partial_fit(X, y, task_id=task.name)

    def predict(self, name, X):
        return self.classifier.predict(X, task_id=name)

    def n_numbers(self):
        return self.classifier.n_numbers_

    def n_bytes(self):
        return self.classifier.n_bytes_


class TrainingRowsOnly(HALRP):
    """The same without the validation rows: importances come from the rows it learns."""

    def learn(self, task):
        self.classifier.net.set_params(train_split=None)
        self.classifier.partial_fit(*task.train, task_id=task.name)
