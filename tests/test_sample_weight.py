"""A row of weight 3 counts as much as three rows."""

from enum import Enum

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_validate
from sklearn.utils.class_weight import compute_sample_weight
from skorch.dataset import Dataset

from sklearn_halrp import ContinualClassifier, ContinualRegressor
from sklearn_halrp.persistence import load, save
from tests.conftest import make_classifier, permuted
from tests.modules import Conv2d

# Whole tasks as one batch: then weighting and repeating rows are the same sum.
WHOLE = {"batch_size": -1, "train_split": None, "max_epochs": 6, "lr": 0.01}


class Slow(Dataset):
    """A dataset of the user's own, which no batch is cut from."""


def weights_for(y, seed):
    return np.random.RandomState(seed).randint(0, 4, len(y)) + (np.arange(len(y)) < 20)


@pytest.mark.parametrize("dataset", [Dataset, Slow])
def test_weights_are_repetitions(digits, dataset):
    X, y = digits[0][:120], digits[1][:120]
    net = {**WHOLE, "dataset": dataset}
    weighted, repeated = (  # labels that are drawn would be others for each repetition
        make_classifier(net=net, growth_budget=2.0, importance="empirical") for _ in range(2)
    )
    for task in range(3):
        task_id = min(task, 1)  # learn a base, a task, and go on with it
        rows, weights = permuted(X, task_id), weights_for(y, task)
        weighted.partial_fit(rows, y, task_id, sample_weight=2.5 * weights)
        repeated.partial_fit(rows.repeat(weights, axis=0), y.repeat(weights), task_id)
        np.testing.assert_allclose(
            weighted.predict_proba(rows, task_id), repeated.predict_proba(rows, task_id), atol=2e-3
        )
        losses = [clf.history_[task_id][-1]["train_loss"] for clf in (weighted, repeated)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert weighted.ranks_ == repeated.ranks_
    plain = make_classifier(net=WHOLE, growth_budget=2.0).fit(X, y)
    assert np.abs(plain.predict_proba(X, 0) - weighted.predict_proba(X, 0)).max() > 0.01


def test_equal_weights_change_nothing(digits):
    X, y = digits[0][:200].reshape(-1, 1, 8, 8), digits[1][:200]
    ids = np.repeat([0, 1], 100)
    plain = make_classifier(Conv2d).fit(X, y, ids)
    weighted = make_classifier(Conv2d).fit(X, y, ids, sample_weight=np.full(200, 7))
    for task_id in (0, 1):
        np.testing.assert_allclose(
            plain.predict_proba(X, task_id), weighted.predict_proba(X, task_id), atol=1e-3
        )


def test_rows_without_weight_teach_nothing(digits):
    X, y = digits[0][:300], digits[1][:300].copy()
    wrong = np.arange(300) % 2 == 0
    y[wrong] = (y[wrong] + 1) % 10
    ids = np.repeat([0, 1], 150)
    plain = ContinualClassifier(random_state=0).fit(X, y, ids)
    weighted = ContinualClassifier(random_state=0).fit(X, y, ids, sample_weight=~wrong)
    right = np.where(wrong, (y - 1) % 10, y)
    for rows in (slice(0, 150), slice(150, 300)):
        scores = [clf.score(X[rows], right[rows], task_id=ids[rows]) for clf in (plain, weighted)]
        assert scores[1] > scores[0] + 0.2


def test_weights_reach_a_search(digits):
    X, y = digits[0][:120], digits[1][:120]
    X = np.insert(X, 0, np.arange(120) % 2, axis=1)
    found = cross_validate(
        make_classifier(task_column=0), X, y, params={"sample_weight": np.ones(120)}, cv=2
    )
    assert np.isfinite(found["test_score"]).all()


@pytest.mark.parametrize("unit", [1e308, 5e-324, 2.0**-1000])
def test_weights_count_by_their_proportions_alone(digits, unit):
    X, y = digits[0][:120], digits[1][:120]
    ids, weights = np.repeat([0, 1], 60), 1.0 + (np.arange(120) % 3 > 0)
    if unit == 1e308:
        weights = np.where(np.arange(120) % 3, 1.0, 0.5)
    net = {"max_epochs": 2}
    plain = make_classifier(net=net).fit(X, y, ids, sample_weight=weights)
    other = make_classifier(net=net).fit(X, y, ids, sample_weight=weights * unit)
    for task in (0, 1):
        np.testing.assert_allclose(
            plain.predict_proba(X, task), other.predict_proba(X, task), rtol=1e-5, atol=1e-7
        )
    right = plain.predict(X, ids) == y
    score = plain.score(X, y, task_id=ids, sample_weight=weights * unit)
    assert score == pytest.approx(weights[right].sum() / weights.sum())


def test_those_of_a_regressor_too(digits):
    X, y = digits[0][:60], digits[1][:60]
    weights = 0.5 + (np.arange(60) % 3) / 4
    plain, other = ContinualRegressor(random_state=0), ContinualRegressor(random_state=0)
    plain.fit(X, y, sample_weight=weights)
    other.fit(X, y, sample_weight=weights * 2.0**1023)
    assert np.array_equal(plain.predict(X), other.predict(X))
    expected = r2_score(y, plain.predict(X), sample_weight=weights)
    assert plain.score(X, y, sample_weight=weights * 2.0**1023) == expected


class NoReduction(torch.nn.Module):
    def forward(self, outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets)


@pytest.mark.parametrize(
    ("weights", "net", "message"),
    [
        (-np.ones(60), {}, "[Nn]egative"),
        (np.ones(59), {}, r"\(59,\)"),
        (np.arange(60) < 30, {}, "All sample weights of task 1 are zero"),
        (np.full(60, np.nan), {}, "NaN"),
        (np.where(np.arange(60) == 40, np.nan, 1.0), {}, "NaN"),
        ([None] + [1.0] * 59, {}, "NaN"),
        (np.where(np.arange(60) == 40, np.inf, 1.0), {}, "infinity"),
        ([10**400] + [1] * 59, {}, "too large"),
        (np.ma.masked_array(np.ones(60), np.arange(60) == 40), {}, "NaN"),
        (np.ones(60), {"criterion": NoReduction}, "no attribute reduction"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(digits, weights, net, message):
    X, y = digits
    clf, ids = make_classifier(), np.repeat([0, 1], 30)
    clf.fit(X[:60], y[:60], ids).set_params(**{f"net__{k}": v for k, v in net.items()})
    state = dict(vars(clf))
    for learn in (clf.fit, clf.partial_fit):
        with pytest.raises(ValueError, match=message):
            learn(X[:60], y[:60], ids, sample_weight=weights)
    assert vars(clf) == state


@pytest.mark.parametrize("sample_weight", [None, np.linspace(0.5, 2, 200)])
@pytest.mark.parametrize("class_weight", ["balanced", {0: 3, 1: 0.5, 99: 7.0}])
def test_class_weights_are_those_of_scikit_learn(digits, class_weight, sample_weight):
    X, y = digits[0][:200], (digits[1][:200] > 7).astype(int)
    ids = np.repeat(["a", "b"], 100)
    rows = np.concatenate([compute_sample_weight(_known(class_weight), y[ids == t]) for t in "ab"])
    rows = rows if sample_weight is None else rows * sample_weight
    found = make_classifier(class_weight=class_weight)
    found.fit(X, y, ids, sample_weight=sample_weight)
    wanted = make_classifier().fit(X, y, ids, sample_weight=rows)
    for task_id in "ab":
        np.testing.assert_allclose(
            found.predict_proba(X, task_id), wanted.predict_proba(X, task_id), rtol=1e-4, atol=1e-6
        )
    plain = make_classifier().fit(X, y, ids, sample_weight=sample_weight)
    assert not np.allclose(plain.predict_proba(X, "b"), found.predict_proba(X, "b"), atol=1e-3)


def _known(class_weight):
    """The weights of labels that there are: scikit-learn refuses others."""
    if class_weight == "balanced":
        return class_weight
    return {label: weight for label, weight in class_weight.items() if label < 2}


class Answer(str, Enum):  # noqa: UP042 (what people have)
    NO = "no"
    YES = "yes"


@pytest.mark.parametrize("keys", [("no", "yes"), (Answer.NO, Answer.YES), np.array(["no", "yes"])])
def test_labels_of_class_weights_are_as_those_of_y(digits, keys):
    X, y = digits[0][:100], np.where(digits[1][:100] > 7, "yes", "no")
    class_weight = dict(zip(keys, (1.0, 5.0), strict=True))
    found = make_classifier(class_weight=class_weight).fit(X, y)
    wanted = make_classifier().fit(X, y, sample_weight=np.where(y == "yes", 5.0, 1.0))
    assert np.array_equal(found.predict_proba(X), wanted.predict_proba(X))


def test_a_class_that_a_call_lacks_takes_no_weight_from_the_others(digits):
    X, y = digits[0][:90], digits[1][:90] % 2
    found = make_classifier(class_weight="balanced").partial_fit(X, y, 0, classes=[0, 1, 2])
    wanted = make_classifier().partial_fit(
        X, y, 0, classes=[0, 1, 2], sample_weight=compute_sample_weight("balanced", y)
    )
    assert np.array_equal(found.predict_proba(X), wanted.predict_proba(X))


@pytest.mark.parametrize("weight", [-1, np.nan, np.inf, "much"])
def test_class_weights_that_are_none(digits, weight):
    X, y = digits
    clf = make_classifier(class_weight={0: 1.0, 1: weight})
    with pytest.raises(ValueError, match=r"class_weight has .* for label 1"):
        clf.fit(X[:50], y[:50])
    with pytest.raises(ValueError, match="class_weight"):
        make_classifier(class_weight="even").fit(X[:50], y[:50])


def labelled(labels, digits):
    return digits[0][:60], [labels[i % 2] for i in range(60)]


TWINS = {
    "text for an int": ({"0": 1.0, "1": 9.0}, (0, 1), r"'0' \(str\).* task 'a' .* 0 \(int\)"),
    "an int for a text": ({1: 9.0}, ("0", "1"), r"1 \(int\).* task 'a' .* '1' \(str\)"),
    "text for a float": ({"1": 9.0}, (0.0, 1.0), r"'1' \(str\).* 1.0 \(float\)"),
    "a float for a text": ({1.0: 9.0}, ("0", "1"), r"1.0 \(float\).* '1' \(str\)"),
    "text for a bool": ({"True": 9.0}, (False, True), r"'True' \(str\).* True \(bool\)"),
    "one of two": ({0: 1.0, "1": 9.0}, (0, 1), r"'1' \(str\).* 1 \(int\)"),
}


@pytest.mark.parametrize("name", TWINS)
def test_a_weight_for_a_label_of_another_type_is_refused(digits, name):
    class_weight, labels, message = TWINS[name]
    clf = make_classifier().fit(digits[0][:60], np.arange(60) % 2, "old")
    clf.set_params(class_weight=class_weight)
    for learn in (clf.partial_fit, make_classifier(class_weight=class_weight).fit):
        with pytest.raises(ValueError, match=f"class_weight has a weight for {message}"):
            learn(*labelled(labels, digits), "a")
    assert clf.tasks_ == ["old"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("keys", [(0, 1), (0.0, 1.0), (False, True), (np.int64(0), np.int64(1))])
@pytest.mark.parametrize("labels", [(0, 1), (0.0, 1.0), (False, True)])
def test_equal_labels_are_the_same_whatever_their_type(digits, keys, labels):
    X, y = labelled(labels, digits)
    class_weight = dict(zip(keys, (1.0, 9.0), strict=True))
    found = make_classifier(class_weight=class_weight).fit(X, y)
    wanted = make_classifier().fit(X, y, sample_weight=np.where(y, 9.0, 1.0))
    assert np.array_equal(found.predict_proba(X), wanted.predict_proba(X))


@pytest.mark.filterwarnings("error")
def test_a_dict_may_have_labels_of_several_tasks(digits):
    clf = make_classifier(class_weight={0: 1.0, 1: 9.0, "0": 1.0, "1": 3.0, "other": 2.0})
    clf.partial_fit(*labelled((0, 1), digits), "ints")
    clf.partial_fit(*labelled(("0", "1"), digits), "texts")
    assert clf.tasks_ == ["ints", "texts"]


def test_a_task_without_a_weight_of_its_own_is_warned_of(digits):
    X, y = labelled(("low", "high"), digits)
    clf = make_classifier(class_weight={"fraud": 9.0})
    for learn in (clf.fit, clf.partial_fit):
        with pytest.warns(UserWarning, match="for no label of task 'a'") as caught:
            learn(X, y, "a")
        assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.filterwarnings("error")
def test_no_weights_are_no_weights(digits):
    X, y = labelled((0, 1), digits)
    found = make_classifier(class_weight={}).fit(X, y).predict_proba(X)
    assert np.array_equal(found, make_classifier().fit(X, y, sample_weight=1).predict_proba(X))


def test_weights_of_classes_and_of_the_criterion_multiply(digits):
    X, y = labelled((0, 1), digits)
    both = make_classifier(
        class_weight={1: 4.0}, net={"criterion__weight": torch.tensor([3.0, 1.0])}
    )
    times = np.array([1.0, 4.0])[y]
    by_rows = make_classifier(net={"criterion__weight": torch.tensor([3.0, 1.0])})
    expected = by_rows.fit(X, y, sample_weight=times).predict_proba(X)
    assert np.array_equal(both.fit(X, y).predict_proba(X), expected)


def test_class_weights_are_kept_in_files(digits, tmp_path):
    X, y = digits
    clf = make_classifier(class_weight={0: 2, "yes": 1.5}).fit(X[:50], y[:50])
    save(clf, tmp_path / "model")
    assert load(tmp_path / "model", net=clf.net).class_weight == clf.class_weight
