"""An importance of the user's own: wherever it goes, and whatever it returns."""

import pickle
from dataclasses import replace

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV

from sklearn_halrp import ContinualClassifier
from sklearn_halrp.exceptions import TrainingDivergedError
from sklearn_halrp.importance import Fisher, Hessian, Ranking
from sklearn_halrp.persistence import load, save
from tests.conftest import make_classifier, make_net, permuted
from tests.test_promises import assert_untouched, snapshot


def own(layers, held_out):
    """The Fisher information, by the public class."""
    return Fisher()(layers, held_out)


class Power(BaseEstimator):
    """With settings that a search can reach."""

    def __init__(self, power=1.0):
        self.power = power

    def __call__(self, layers, held_out):
        return {name: value**self.power for name, value in own(layers, held_out).items()}


class Plain:
    """An object that knows nothing of scikit-learn."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, layers, held_out):
        found = own(layers, held_out)
        return {name: layers[name].ranking(self.factor * found[name]) for name in layers}


def two_tasks(digits, importance, **settings):
    X, y = digits
    clf = make_classifier(importance=importance, growth_budget=0.5, **settings)
    rows = np.concatenate([permuted(X[:100], seed) for seed in range(3)])
    return clf.fit(rows, np.tile(y[:100], 3), np.repeat([0, 1, 2], 100))


@pytest.fixture(scope="module")
def fisher(digits):
    return two_tasks(digits, "fisher")


def named(importance):
    """A name that is the same in every process of the tests."""
    return getattr(importance, "__name__", type(importance).__name__)


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("importance", [own, Power(), Plain(4.0), Fisher()], ids=named)
def test_what_it_says_is_what_counts(digits, fisher, importance, n_jobs):
    clf = two_tasks(digits, importance, n_jobs=n_jobs)
    assert clf.ranks_ == fisher.ranks_
    for task_id in clf.tasks_:
        expected = fisher.predict_proba(digits[0], task_id)
        assert np.array_equal(clf.predict_proba(digits[0], task_id), expected)


@pytest.mark.parametrize("importance", [own, Power(0.5), Plain(2.0), Hessian(3)], ids=named)
def test_it_comes_through_copies_and_pickles(digits, importance, tmp_path):
    X, y = digits
    clf = two_tasks(digits, importance)
    joblib.dump(clf, tmp_path / "model.joblib")
    others = [pickle.loads(pickle.dumps(clf)), joblib.load(tmp_path / "model.joblib")]
    clf.partial_fit(permuted(X[:100], 5), y[:100], task_id="more")
    for other in others:
        other.partial_fit(permuted(X[:100], 5), y[:100], task_id="more")
        assert other.report_["more"]["layers"] == clf.report_["more"]["layers"]
    again = clone(clf).fit(X[:50], y[:50])
    assert type(again.importance) is type(importance)
    assert getattr(again.importance, "__dict__", {}) == vars(importance)


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_search_chooses_among_names_functions_and_settings(digits, n_jobs):
    X, y = digits
    rows = np.stack([X[:60], permuted(X[:60], 1)], 1).reshape(120, 64)
    X, labels = np.column_stack([rows, np.tile([0, 1], 60)]), np.repeat(y[:60], 2)
    clf = make_classifier(net={"max_epochs": 2}, task_column=-1)
    for grid in (
        {"importance": ["fisher", own, Power(0.5), Plain(1.0)]},
        {"importance": [Power()], "importance__power": [0.0, 2.0]},
    ):
        search = GridSearchCV(clf, grid, cv=2, n_jobs=n_jobs, error_score="raise")
        search.fit(X, labels)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.importance.power in (0.0, 2.0)


@pytest.mark.parametrize("importance", [own, Plain(2.0), Hessian(3)], ids=named)
def test_a_safe_file_has_its_name_and_takes_it_again(digits, importance, tmp_path, recwarn):
    pytest.importorskip("safetensors")
    X, y = digits
    clf, file = two_tasks(digits, importance), tmp_path / "model"
    save(clf, file)
    name = getattr(importance, "__qualname__", type(importance).__name__)
    with pytest.raises(ValueError, match=rf"importance=[\w.]+\.{name}, .* importance=\.\.\.\)"):
        load(file, net=make_net())
    loaded = load(file, net=make_net(), importance=importance)
    assert loaded.importance is importance
    for each in (clf, loaded):
        each.partial_fit(permuted(X[:100], 5), y[:100], task_id="more")
    assert_untouched(snapshot(clf), snapshot(loaded))
    assert not [w for w in recwarn.list if "importance" in str(w.message)]
    for other in (Power(), "kfac"):
        with pytest.warns(UserWarning, match=rf"saved with importance=\S+\.{name}, and "):
            assert load(file, net=make_net(), importance=other).importance is other


def test_a_file_takes_no_importance_that_is_none(learned, tmp_path):
    pytest.importorskip("safetensors")
    save(learned, tmp_path / "model")
    assert load(tmp_path / "model", net=make_net(), importance="fisher").importance == "fisher"
    with pytest.raises(ValueError, match="no importance 'guess'; choose from 'fisher'"):
        load(tmp_path / "model", net=make_net(), importance="guess")
    with pytest.raises(TypeError, match=r"callable or one of 'fisher'.*; got 3\."):
        load(tmp_path / "model", net=make_net(), importance=3)
    with pytest.warns(UserWarning, match="importance=fisher, and is loaded with .*own"):
        load(tmp_path / "model", net=make_net(), importance=own)


# --- what it may not return

FIRST = "body.0.weight"


def numbers(value):
    """An importance that gives one layer this."""
    return lambda layers, held_out: {**dict.fromkeys(layers, 1.0), FIRST: value}


def changed(**changes):
    """An importance that gives one layer a ranking that was changed."""

    def importance(layers, held_out):
        found = {name: layer.ranking(1.0) for name, layer in layers.items()}
        given = {key: change(getattr(found[FIRST], key), layers) for key, change in changes.items()}
        return {**found, FIRST: replace(found[FIRST], **given)}

    return importance


def with_scores(function):
    return changed(scores=lambda scores, layers: function(scores))


BAD = {
    "nothing": (lambda layers, held_out: None, "must return a dictionary.*got a NoneType"),
    "a list": (lambda layers, held_out: [1.0] * len(layers), "dictionary.*got a list"),
    "none": (lambda layers, held_out: {}, f"nothing for the layer {FIRST}"),
    "one missing": (lambda layers, held_out: {FIRST: 1.0}, r"nothing for the layer body\.2\.we"),
    "one too many": (
        lambda layers, held_out: {**dict.fromkeys(layers, 1.0), "body": 2.0},
        "entry for 'body', which is none of the layers",
    ),
    "negative": (numbers(-1.0), f"{FIRST}: it must be finite and at least 0; got -1.0"),
    "nan": (numbers(np.nan), f"{FIRST}: it must be finite and at least 0; got nan"),
    "inf": (numbers(np.float32(np.inf)), f"{FIRST}: it must be finite and at least 0; got inf"),
    "nan of torch": (numbers(torch.tensor(np.nan)), f"{FIRST}: it must be finite.*nan"),
    "text": (numbers("1"), f"{FIRST}: it must be a number or a Ranking; got a str, '1'"),
    "an array": (numbers(np.ones(3)), f"{FIRST}: it must be a number or a Ranking; got a ndarr"),
    "none of one": (numbers(None), f"{FIRST}: it must be a number or a Ranking; got a NoneType"),
    "complex": (numbers(1j), f"{FIRST}: it must be a number or a Ranking; got a complex"),
    "rising": (with_scores(lambda s: s[::-1]), f"{FIRST}: the scores of its Ranking rise: .* 0 is"),
    "one score": (with_scores(lambda s: s[:1]), f"{FIRST}: its Ranking must have 24 numbers"),
    "no scores": (with_scores(lambda s: None), f"{FIRST}: its Ranking must have 24 numbers"),
    "nan scores": (with_scores(lambda s: s * np.nan), f"{FIRST}: the scores .* finite and at lea"),
    "negative scores": (with_scores(lambda s: -s[::-1]), f"{FIRST}: the scores .* finite and at"),
    "ranking without importance": (
        changed(importance=lambda *_: None),
        f"{FIRST}: importance of its Ranking must be a finite number of at least 0; got None",
    ),
    "ranking beyond all": (
        changed(beyond=lambda *_: np.inf),
        f"{FIRST}: beyond of its Ranking must be a finite number of at least 0; got inf",
    ),
    "values that are none": (
        changed(values=lambda values, layers: values.tolist()),
        f"{FIRST}: the values of its Ranking must be a tensor of 24",
    ),
    "split of another layer": (
        changed(split=lambda split, layers: layers["body.2.weight"].ranking(1.0).split),
        rf"{FIRST}: split\(1\) .* \(24, 1\) and \(1, 64\); got \(24, 1\) and \(1, 24\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_answer_is_said_and_nothing_is_kept(digits, name):
    X, y = digits
    importance, message = BAD[name]
    clf = make_classifier(net={"max_epochs": 2}, importance=importance)
    clf.partial_fit(X[:60], y[:60], task_id="a")
    before = snapshot(clf)
    with pytest.raises(ValueError, match=f"^importance=\\S.*{message}"):
        clf.partial_fit(X[:60], y[:60], task_id="b")
    assert_untouched(before, snapshot(clf))
    clf.set_params(importance=own).partial_fit(X[:60], y[:60], task_id="b")


@pytest.mark.parametrize("value", [0, 1, True, np.float32(2), np.int8(3), torch.ones(()), 1e-300])
def test_numbers_of_all_kinds_are_numbers(digits, value):
    X, y = digits
    clf = make_classifier(net={"max_epochs": 2}, importance=numbers(value))
    clf.fit(np.tile(X[:60], (2, 1)), np.tile(y[:60], 2), np.repeat([0, 1], 60))
    assert clf.report_[1]["layers"][FIRST]["importance"] == pytest.approx(float(value))


def test_a_class_is_none_but_its_objects_are(digits):
    X, y = digits
    clf = make_classifier(importance=Fisher)
    with pytest.raises(TypeError, match=r"importance=Fisher is a class.* it: Fisher\(\)"):
        clf.partial_fit(X[:60], y[:60], task_id=0)
    assert not hasattr(clf, "tasks_")


def far(layers, held_out):
    """Not finite, and so is the loss."""
    with torch.no_grad():
        for layer in layers.values():
            layer.free.fill_(torch.nan)
    return own(layers, held_out)


def test_where_the_loss_is_not_finite_the_training_is_to_blame(digits):
    X, y = digits
    clf = make_classifier(importance=far).partial_fit(X[:60], y[:60], task_id=0)
    with pytest.raises(TrainingDivergedError, match="held-out loss is not finite"):
        clf.partial_fit(X[:60], y[:60], task_id=1)


def test_an_error_of_its_own_comes_through(digits):
    X, y = digits
    clf = make_classifier(importance=lambda layers, held_out: {}["mine"])
    clf.partial_fit(X[:60], y[:60], task_id=0)
    before = snapshot(clf)
    with pytest.raises(KeyError, match="mine"):
        clf.partial_fit(X[:60], y[:60], task_id=1)
    assert_untouched(before, snapshot(clf))


def leading_first(layers, held_out):
    """A ranking that is made by hand: the plain one, with the public parts alone."""
    return {
        name: Ranking(
            scores=2.0 * layer.energies,
            values=layer.spectrum.values,
            split=layer.ranking(2.0).split,
            importance=2.0,
        )
        for name, layer in layers.items()
    }


def test_a_ranking_by_hand_is_as_good_as_any(digits):
    ours, plain = two_tasks(digits, leading_first), two_tasks(digits, "uniform")
    assert ours.ranks_ == plain.ranks_
    assert np.array_equal(ours.predict_proba(digits[0], 1), plain.predict_proba(digits[0], 1))


def test_it_may_look_at_the_loss_with_other_weights(digits):
    """Each layer by what the loss loses without its change, cut away for the time being."""

    def by_loss(layers, held_out):
        before = held_out.mean_loss(100)
        found = {}
        for name, layer in layers.items():
            after = held_out.mean_loss(100, {name: layer.weight})
            found[name] = max(after - before, 0.0) / layer.energies.sum()
        assert held_out.mean_loss(100) == before
        return found

    clf = two_tasks(digits, by_loss)
    assert any(row["importance"] > 0 for row in clf.report_[1]["layers"].values())


def test_the_default_network_takes_it_too(digits):
    X, y = digits
    clf = ContinualClassifier(importance=own, random_state=0)
    clf.fit(np.tile(X[:60], (2, 1)), np.tile(y[:60], 2), np.repeat([0, 1], 60))
    assert clf.tasks_ == [0, 1]
