"""Eight tasks, learned by the workers of a dask cluster. docs/guide/machines.md explains it.

python docs/examples/dask_cluster.py [tcp://SCHEDULER:8786 [MODEL.joblib]]

Without an address it starts two workers on this machine.
"""

import sys
from pathlib import Path

import joblib
import numpy as np
import torch
from dask.distributed import Client
from networks import DigitNet
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier

from sklearn_halrp import ContinualClassifier


def eight_tasks():
    """Return digits whose pixels each task has in another order, labels, ids, who is to train."""
    X, y = load_digits(return_X_y=True)
    orders = [np.random.RandomState(seed).permutation(64) for seed in range(8)]
    X = np.concatenate([X[:, order] for order in orders]) / 16
    train = np.tile(np.arange(len(y)) < 1200, 8)
    return X.astype(np.float32), np.tile(y, 8), np.repeat(np.arange(8), len(y)), train


def classifier():
    """Return a classifier that has learned nothing."""
    net = NeuralNetClassifier(
        DigitNet,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=2e-3,
        batch_size=64,
        max_epochs=4,
        iterator_train__shuffle=True,
        verbose=0,
    )
    return ContinualClassifier(net, random_state=0)


def main():
    address, model = (*sys.argv[1:], None, None)[:2]
    here = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    torch.set_num_threads(1)  # so will each worker
    with Client(address) if address else Client(**here) as client:
        client.upload_file(str(Path(__file__).with_name("networks.py")))  # not installed there
        X, y, ids, train = eight_tasks()
        with joblib.parallel_config(backend="dask"):
            clf = classifier().fit(X[train], y[train], task_id=ids[train])
    accuracy = clf.score(X[~train], y[~train], task_id=ids[~train])
    print(f"{len(clf.tasks_)} tasks, accuracy {accuracy:.1%}")
    if model:
        joblib.dump(clf, model)


if __name__ == "__main__":
    main()
