"""The network of users who bring none: how long it is trained, and what it is not troubled by."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_halrp import ContinualClassifier
from tests.inside import default_net, for_rows, network_of, task_of


def noisy(n_rows, seed=0, shift=0.0, scale=1.0):
    """Rows whose labels follow from the first of five columns, but for a quarter of them."""
    draw = np.random.RandomState(seed)
    X = draw.randn(n_rows, 5)
    y = (X[:, 0] > 0) ^ (draw.rand(n_rows) < 0.25)
    return X * scale + shift, y.astype(int)


@pytest.fixture(scope="module")
def learned():
    clf = ContinualClassifier(random_state=2, growth_budget=0.07)
    return clf.fit(*noisy(120), "base").partial_fit(*noisy(600, 1), "task")


def epochs(clf, task_id, phase):
    return [row for row in clf.history_[task_id] if row["phase"] == phase]


def test_training_ends_when_the_held_out_loss_no_longer_falls(learned):
    losses = [row["valid_loss"] for row in epochs(learned, "base", "base")]
    best = int(np.argmin(losses))
    patience = learned.net_.get_params()["callbacks"][0][1].patience
    assert len(losses) == best + 1 + patience < for_rows(learned.net_, 120).max_epochs


def held_out_loss(module, X, y, split):
    _, rows = split
    with torch.no_grad():
        logits = module(torch.from_numpy(X[rows].astype(np.float32)))
        return torch.nn.functional.cross_entropy(logits, torch.from_numpy(y[rows])).item()


def test_the_weights_are_those_of_the_best_epoch():
    """With all rows held out as they are trained on, the loss can be had from outside."""
    X, y = noisy(60)
    net = for_rows(default_net(5, 2), 60)
    net.set_params(train_split=lambda ds, y=None, **_: (ds, ds), max_epochs=30, lr=0.05)
    torch.manual_seed(0)
    net.fit(X.astype(np.float32), y)
    losses = net.history[:, "valid_loss"]
    net.module_.eval()
    rows = np.arange(60)
    assert held_out_loss(net.module_, X, y, (rows, rows)) == pytest.approx(min(losses), abs=1e-6)


def test_pruning_comes_before_the_end_and_its_epochs_count_anew(learned):
    task = task_of(learned, "task")
    assert task.n_numbers <= 0.07 * network_of(learned).n_numbers
    # There was much to prune.
    assert learned.report_["task"]["n_numbers_before_pruning"] > 1.1 * task.n_numbers
    rows = epochs(learned, "task", "low-rank")
    losses = [row["valid_loss"] for row in rows]
    net = for_rows(learned.net_, 600)
    patience = net.get_params()["callbacks"][0][1].patience
    left = net.max_epochs - round(learned.warmup_epochs * net.max_epochs)
    # It would have ended before it was pruned, and goes on until the loss no longer falls.
    assert 1 + patience < len(rows) < left
    assert losses[-patience - 1] < min(losses[-patience:])


def test_the_same_seed_gives_the_same_bits(learned):
    again = ContinualClassifier(random_state=2, growth_budget=0.07).fit(*noisy(120), "base")
    again.partial_fit(*noisy(600, 1), "task")
    X, _ = noisy(50, 2)
    for task_id in ("base", "task"):
        assert np.array_equal(again.predict_proba(X, task_id), learned.predict_proba(X, task_id))


@pytest.mark.parametrize("n_rows", [2, 9, 10, 33, 200, 1000, 50_000])
def test_few_rows_get_enough_steps_and_many_rows_large_batches(n_rows):
    net = for_rows(default_net(5, 2), n_rows)
    n_trained = len(net.train_split(range(n_rows))[0])
    assert net.max_epochs * -(-n_trained // net.batch_size) >= 200
    assert 8 <= net.batch_size <= 256
    assert n_rows < 1000 or net.batch_size <= n_rows / 15


def test_tasks_far_outside_the_first_ones_range_are_learned():
    """The labels follow from two columns, so that a linear model of scaled rows is right."""
    draw = np.random.RandomState(0)
    X = draw.randn(260, 5)
    y = (X[:, 0] + X[:, 1] > 0).astype(int)
    clf = ContinualClassifier(random_state=0).fit(X[:160], y[:160], "near")
    for number, (shift, scale) in enumerate([(-20.0, 0.3)]):
        far = X * scale + shift
        clf.partial_fit(far[:160], y[:160], number)
        linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(far[:160], y[:160])
        expected = linear.score(far[160:], y[160:])
        assert clf.score(far[160:], y[160:], task_id=number) > expected - 0.08


def test_constant_and_missing_columns_break_nothing():
    X, y = (part[::2] for part in load_wine(return_X_y=True))
    broken = np.column_stack([X, np.full(len(X), 5.0), np.full(len(X), np.nan)])
    broken[::7, 0] = np.nan
    clf = ContinualClassifier(random_state=0).fit(broken, y)
    assert clf.score(broken, y) > 0.97
    broken[:, -1], broken[:, -2] = 1e3, -1e6  # not so in a later task
    clf.partial_fit(broken, y, "later")
    assert clf.score(broken, y, task_id="later") > 0.9


def test_the_units_of_columns_do_not_matter():
    X, y = load_breast_cancer(return_X_y=True)
    units = 10.0 ** np.random.RandomState(0).randint(-3, 4, X.shape[1])
    parts = train_test_split(X, y, train_size=200, random_state=0, stratify=y)
    clf = ContinualClassifier(random_state=0).fit(parts[0] * units, parts[2])
    mlp = make_pipeline(StandardScaler(), MLPClassifier(random_state=0, max_iter=300))
    expected = mlp.fit(parts[0], parts[2]).score(parts[1], parts[3])
    assert clf.score(parts[1] * units, parts[3]) > expected - 0.03


def test_a_few_rows_and_tables_of_one_column():
    frame = pd.DataFrame({"kind": ["a", "b"] * 4})
    clf = ContinualClassifier(random_state=0).fit(frame, [0, 1] * 4)
    assert clf.predict(frame.iloc[:2]).tolist() == [0, 1]
    clf.partial_fit(frame, [1, 0] * 4, "turned")
    assert clf.predict(frame.iloc[:2], "turned").tolist() == [1, 0]
