import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier, NeuralNetRegressor

from sklearn_halrp import ContinualClassifier, ContinualRegressor
from tests.inside import HoldOut
from tests.modules import MLP, ZOO

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def the_same_numbers_in_any_order():
    """Seed torch, whose numbers start the modules that a test makes."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def digits():
    """A few hundred digits in [0, 1], shuffled, as float32 and their labels."""
    X, y = load_digits(return_X_y=True)
    rows = np.random.RandomState(0).permutation(len(X))
    return (X[rows] / 16).astype(np.float32), y[rows]


def permuted(X, seed):
    """The same rows with their values in another order."""
    order = np.random.RandomState(seed).permutation(X[0].size)
    return X.reshape(len(X), -1)[:, order].reshape(X.shape)


def polars_with_names():
    """The module polars, if this scikit-learn reads the names of its columns."""
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1.0, 2.0]})
    if not hasattr(StandardScaler().fit(frame), "feature_names_in_"):
        pytest.skip("scikit-learn 1.6 finds no names in a DataFrame of polars 2")
    return polars


def make_net(module=MLP, kind=NeuralNetClassifier, **settings):
    """An unfitted skorch net that trains fast."""
    defaults = {
        "criterion": torch.nn.CrossEntropyLoss,
        "optimizer": torch.optim.Adam,
        "lr": 5e-3,
        "max_epochs": 3,
        "batch_size": 32,
        "iterator_train__shuffle": True,
        "train_split": HoldOut(),
        "verbose": 0,
    }
    return kind(module, **defaults | settings)


def make_numbers_net(module=MLP, **settings):
    """The same for numbers."""
    return make_net(module, NeuralNetRegressor, **{"criterion": torch.nn.MSELoss} | settings)


# Tests have few rows. Their tasks are perturbations all the same, kept to the last bit.
PERTURBED = {"random_state": 0, "start": "warm-up", "precision": "full"}


def make_classifier(module=MLP, net=None, **settings):
    """A classifier around a net that trains fast."""
    return ContinualClassifier(make_net(module, **(net or {})), **PERTURBED | settings)


def make_regressor(module=MLP, net=None, **settings):
    """A regressor around a net that trains fast."""
    net = make_numbers_net(module, **(net or {}))
    return ContinualRegressor(net, **PERTURBED | settings)


@pytest.fixture(params=ZOO, ids=str)
def animal(request):
    return ZOO[request.param]


@pytest.fixture(scope="session")
def learned(digits):
    """A classifier with three tasks; tests must not change it."""
    X, y = digits
    clf = make_classifier(net={"max_epochs": 8})
    for seed, task_id in enumerate(["first", 2, "third"]):
        clf.partial_fit(permuted(X[:400], seed), y[:400], task_id=task_id)
    return clf
