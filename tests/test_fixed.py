"""Settings that fit one training only are refused, with what to write instead."""

import textwrap
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.model_selection import KFold, PredefinedSplit, ShuffleSplit
from skorch import NeuralNetClassifier
from skorch.callbacks import LoadInitState, LRScheduler
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from sklearn_halrp import ContinualClassifier
from tests.conftest import make_classifier, make_net, permuted
from tests.modules import MLP

ROWS = range(90)


class Own(Sampler):
    def __iter__(self):
        return iter(ROWS)

    def __len__(self):
        return len(ROWS)


DATA = TensorDataset(torch.zeros(90, 64), torch.zeros(90, dtype=torch.long))
HALVES = [(np.arange(45), np.arange(45, 90))]
FIXED = {
    "weighted": ({"iterator_train__sampler": WeightedRandomSampler(torch.ones(90), 90)}, "sampler"),
    "random": ({"iterator_train__sampler": RandomSampler(DATA)}, "sampler"),
    "subset": ({"iterator_train__sampler": SubsetRandomSampler(ROWS)}, "SubsetRandomSampler"),
    "own": ({"iterator_train__sampler": Own()}, "sampler, a Own"),
    "list": ({"iterator_train__sampler": list(ROWS)}, "sampler, a list"),
    "batches": (
        {"iterator_train__batch_sampler": BatchSampler(SequentialSampler(DATA), 30, False)},
        "batch_sampler=...",
    ),
    "partial": (
        {"iterator_train": partial(DataLoader, sampler=list(ROWS))},
        "iterator_train=batch",
    ),
    "valid": ({"iterator_valid__sampler": SequentialSampler(DATA)}, "iterator_valid=batches"),
    "dataset": ({"dataset": Dataset(np.zeros((90, 64)), np.zeros(90))}, "dataset=Dataset"),
    "predefined": ({"train_split": predefined_split(DATA)}, r"ValidSplit\(5\)"),
    "fold": ({"train_split": ValidSplit(PredefinedSplit(np.arange(90) % 2))}, "PredefinedSplit"),
    "indices": ({"train_split": ValidSplit(HALVES)}, "list of fixed rows"),
    "generator": ({"train_split": ValidSplit(np.array(HALVES))}, "ndarray of fixed rows"),
    "one cycle": (
        {"callbacks": [LRScheduler("OneCycleLR", max_lr=0.1, total_steps=9)]},
        "CyclicLR",
    ),
    "one cycle by epochs": (
        {"callbacks": [("lr", LRScheduler(OneCycleLR, max_lr=0.1, epochs=3, steps_per_epoch=3))]},
        "steps of a training",
    ),
    "one cycle by parts": (
        {"callbacks": [["lr", LRScheduler(partial(OneCycleLR, max_lr=0.1, total_steps=9))]]},
        "begins anew in each phase",
    ),
    "initial state": ({"callbacks": [LoadInitState]}, "LoadInitState"),
}


@pytest.mark.parametrize("name", FIXED)
def test_what_fits_one_training_is_refused_before_anything_is_learned(name, digits):
    X, y = digits
    settings, message = FIXED[name]
    clf = make_classifier(net=settings)
    with pytest.raises(ValueError, match=message):
        clf.partial_fit(X[:90], y[:90], task_id="a")
    assert not hasattr(clf, "classes_")
    # And where it comes later, the tasks that there are stay.
    clf = make_classifier().partial_fit(X[:90], y[:90], task_id="a")
    before = clf.predict_proba(X, "a")
    clf.set_params(**{f"net__{key}": value for key, value in settings.items()})
    with pytest.raises(ValueError, match=message):
        clf.partial_fit(X[:90], y[:90], task_id="b")
    assert clf.tasks_ == ["a"]
    assert np.array_equal(clf.predict_proba(X, "a"), before)


def first(n):
    """A split of fixed rows, as a function."""
    return lambda dataset, y=None: (Subset(dataset, range(n)), Subset(dataset, range(n, n + 30)))


def nested(dataset, y=None):
    inner = Subset(dataset, range(0, 240, 2))
    return Subset(inner, range(90)), Subset(inner, range(90, 120))


class FirstRows:
    """A cross-validation that looks at no row."""

    def split(self, X, y=None, groups=None):
        yield np.arange(90), np.arange(90, 120)

    def get_n_splits(self, X=None, y=None, groups=None):
        return 1


@pytest.mark.parametrize("split", [first(90), nested, ValidSplit(FirstRows())])
def test_rows_of_another_task_are_noticed(split, digits):
    X, y = digits
    n = 240 if split is nested else 120
    clf = make_classifier(net={"train_split": split}).partial_fit(X[:n], y[:n], task_id="a")
    with pytest.raises(ValueError, match=r"takes row \d+ of task 'b', which has 100.*ValidSplit"):
        clf.partial_fit(permuted(X[:100], 1), y[:100], task_id="b")
    with pytest.warns(
        UserWarning, match=f"no row after row {238 if n == 240 else 119} of task 'b'"
    ):
        clf.partial_fit(permuted(X[: 4 * n], 1), y[: 4 * n], task_id="b")


@pytest.mark.parametrize("n_rows", [290, 320, 500, 900])
def test_fixed_rows_are_noticed_in_a_task_of_any_other_size(n_rows, digits):
    X, y = digits
    clf = make_classifier(net={"train_split": first(270), "max_epochs": 1})
    clf.partial_fit(X[:300], y[:300], task_id="a")
    second = permuted(X[:n_rows], 1), y[:n_rows], "b"
    if n_rows < 300:
        with pytest.raises(ValueError, match="takes row 299 of task 'b', which has 290"):
            clf.partial_fit(*second)
    elif n_rows == 320:  # so few may be left out
        clf.partial_fit(*second)
    else:
        with pytest.warns(UserWarning, match=f"no row after row 299 of task 'b', .* {n_rows}"):
            clf.partial_fit(*second)


def test_a_part_of_the_rows_draws_no_further_random_numbers(digits):
    X, y = digits
    calls = []

    def some(dataset, y=None):
        calls.append(len(dataset))
        rows = np.random.permutation(len(dataset))[: len(dataset) // 2]
        return Subset(dataset, rows[20:]), Subset(dataset, rows[:20])

    make_classifier(net={"train_split": some, "max_epochs": 1}).fit(X[:300], y[:300])
    assert calls == [300]


def weighed(dataset):
    labels = np.array([int(label) for _, label in dataset])
    return WeightedRandomSampler((1 / np.bincount(labels)[labels]).tolist(), len(dataset))


def from_refusal(settings, sampler):
    """Return the function that the refusal says to write, with a sampler for the dots."""
    with pytest.raises(ValueError, match="leave out iterator_train__shuffle") as caught:
        make_classifier(net=settings).fit(np.zeros((90, 64)), np.arange(90) % 3)
    lines = str(caught.value).splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip().startswith("def "))
    names = {"DataLoader": DataLoader, "sampler": sampler}
    written = textwrap.dedent("\n".join(lines[start : start + 2]))
    exec(written.replace("...", "sampler(dataset)"), names)
    return names["batches"]


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("weighted", weighed),
        ("batches", lambda dataset: BatchSampler(weighed(dataset), 30, False)),
    ],
)
def test_what_the_refusal_of_a_sampler_says_works_as_written(name, sampler, digits):
    X, y = digits
    net = make_net(iterator_train=from_refusal(FIXED[name][0], sampler))
    with pytest.raises(ValueError, match="mutually exclusive"):  # shuffle is not left out
        ContinualClassifier(net, random_state=0).fit(X[:90], y[:90])
    net = NeuralNetClassifier(
        MLP,
        criterion=torch.nn.CrossEntropyLoss,
        iterator_train=net.iterator_train,
        batch_size=32,
        max_epochs=1,
        verbose=0,
    )
    clf = ContinualClassifier(net, random_state=0)
    for task_id, n in enumerate((120, 90)):
        clf.partial_fit(permuted(X[:n], task_id), y[:n], task_id=task_id)
    assert clf.tasks_ == [0, 1]


def batches(dataset, **settings):
    """As many rows of each class in all, as the refusal says to write it."""
    labels = np.array([int(label) for _, label in dataset])
    weights = 1 / np.bincount(labels)[labels]
    return DataLoader(dataset, sampler=WeightedRandomSampler(weights, len(dataset)), **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"iterator_train": batches, "iterator_train__shuffle": False},
        {"train_split": ValidSplit(KFold(3))},
        {"train_split": ValidSplit(ShuffleSplit(1, train_size=0.3, test_size=0.2, random_state=0))},
        {"train_split": ValidSplit(0.2)},
        {
            "train_split": lambda dataset, y=None: (
                Subset(dataset, range(0, len(dataset), 2)),
                None,
            )
        },
    ],
)
def test_what_fits_every_task_is_taken(settings, digits):
    X, y = digits
    clf = make_classifier(net={"lr": 0.01, "max_epochs": 8} | settings)
    for task_id, n in enumerate((120, 300, 80)):
        clf.partial_fit(permuted(X[:n], task_id), y[:n], task_id=task_id)
    assert clf.score(permuted(X[:300], 1), y[:300], task_id=1) > 0.3
