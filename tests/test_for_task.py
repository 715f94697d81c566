"""One task as a plain classifier: the same to the last bit, alone, and good for any tool."""

import copy
import io
import pickle

import joblib
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_blobs
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import (
    DecisionBoundaryDisplay,
    PartialDependenceDisplay,
    permutation_importance,
)
from sklearn.metrics import ConfusionMatrixDisplay, RocCurveDisplay
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from sklearn_halrp import ContinualClassifier, ContinualRegressor
from sklearn_halrp.exceptions import MissingTaskError, UnknownTaskError
from tests.conftest import make_classifier, make_net, permuted
from tests.inside import (
    get_tensor,
    model_of,
    named_tensors,
    net_for,
    network_of,
    predictors_of,
    ready_nets,
)
from tests.modules import MLP

matplotlib.use("Agg")


def own_columns(clf, task_id):
    return np.searchsorted(clf.classes_, clf.task_classes_[task_id])


def dumped(estimator):
    """Written and read by joblib."""
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


COPIES = {
    "itself": lambda one: one,
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),
    "joblib": dumped,
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


def test_it_predicts_the_same_to_the_last_bit(digits, animal):
    X, y = digits
    X = X.reshape(-1, *animal.shape)
    clf = make_classifier(animal.module, net={"max_epochs": 2}, growth_budget=2.0)
    clf.partial_fit(X[:120], y[:120], task_id="first")
    clf.partial_fit(permuted(X[:120], 1), y[:120] % 3 + 5, task_id=1)
    for task_id in clf.tasks_:
        columns = own_columns(clf, task_id)
        expected = clf.predict_proba(X[:300], task_id)[:, columns]
        logarithms = clf.predict_log_proba(X[:300], task_id)[:, columns]
        labels = clf.predict(X[:300], task_id)
        for way in COPIES.values():
            one = way(clf.for_task(task_id))
            found = one.predict_proba(X[:300])
            assert found.dtype == expected.dtype == np.float32
            assert np.array_equal(found, expected)
            assert np.array_equal(one.predict_log_proba(X[:300]), logarithms)
            assert np.array_equal(one.predict(X[:300]), labels)
            assert np.array_equal(one.classes_, clf.task_classes_[task_id])


def test_it_shares_the_base_and_the_ready_networks(learned, digits):
    clf = copy.deepcopy(learned)
    one = clf.for_task(2)
    one.predict(digits[0][:5])
    assert list(ready_nets(predictors_of(clf))) == [2]
    ready = net_for(clf, 2)
    one.predict(digits[0][:5])
    assert net_for(clf, 2) is ready
    base, again = network_of(clf).base, network_of(model_of(clf.for_task("third"))).base
    for name in named_tensors(base):
        assert get_tensor(base, name) is get_tensor(again, name)


def test_what_the_model_does_later_does_not_reach_it(learned, digits):
    X, y = digits
    clf = copy.deepcopy(learned)
    several = {task_id: clf.for_task(task_id) for task_id in clf.tasks_}
    expected = {task_id: one.predict_proba(X[:50]) for task_id, one in several.items()}

    def assert_unchanged():
        for task_id, one in several.items():
            assert np.array_equal(one.predict_proba(X[:50]), expected[task_id])
            assert one.classes_.tolist() == list(range(10))

    clf.partial_fit(X[:50], y[:50] + 10, task_id=2)
    assert_unchanged()
    assert not np.array_equal(clf.for_task(2).predict_proba(X[:50])[:, :10], expected[2])
    assert clf.for_task(2).classes_.tolist() == list(range(20))
    clf.forget_task("first")
    assert_unchanged()
    clf.set_params(net__batch_size=7, net__predict_nonlinearity=None)
    assert_unchanged()
    clf.set_params(net=make_net(module__hidden=5), dtype="float64", task_column=0)
    assert_unchanged()
    clf.set_params(dtype="float32", task_column=None).fit(X[:50], y[:50])
    assert_unchanged()


def test_it_does_not_bring_a_forgotten_task_back(learned, digits):
    clf = copy.deepcopy(learned)
    one = clf.for_task("third")
    clf.predict(digits[0][:5], "third")
    clf.forget_task("third")
    one.predict(digits[0][:5])
    assert list(ready_nets(predictors_of(clf))) == []
    with pytest.raises(UnknownTaskError, match="'third'"):
        clf.for_task("third")


def test_a_file_has_the_base_and_one_task(digits):
    X, y = digits
    clf = make_classifier().partial_fit(X[:100], y[:100], task_id="a")
    clf.partial_fit(X[:100, ::-1], y[:100], task_id="b")
    before = pickle.dumps(clf.for_task("b"))
    network = network_of(clf)
    assert len(before) < network.n_bytes + network.tasks["b"].n_bytes + 8000
    for name in "cdef":
        clf.partial_fit(X[:100, ::-1], y[:100], task_id=name)
    assert pickle.dumps(clf.for_task("b")) == before
    assert len(pickle.dumps(clf)) > len(before) + 3 * network.tasks["b"].n_bytes


def test_it_is_a_fitted_classifier(learned, digits):
    X, y = digits
    one = learned.for_task("third")
    check_is_fitted(one)
    assert is_classifier(one)
    assert clone(one) is one
    assert clone(make_pipeline(one))[-1] is one
    assert one.n_features_in_ == 64
    assert not hasattr(one, "feature_names_in_")
    assert not hasattr(one, "partial_fit")
    assert repr(one) == "TaskClassifier(task_id='third')"
    assert "third" in repr(make_pipeline(one))
    assert "third" in one._repr_html_()
    correct = learned.predict(X[:90], "third") == y[:90]
    assert one.score(X[:90], y[:90]) == correct.mean()
    weights = np.arange(90)
    assert one.score(X[:90], y[:90], weights) == pytest.approx(np.average(correct, weights=weights))


def test_tags_tell_binary_tasks_from_others(digits):
    X, y = digits
    clf = make_classifier().fit(
        np.tile(X[:100], (2, 1)), np.r_[y[:100], y[:100] % 2], np.repeat([0, 1], 100)
    )
    several, two = (get_tags(clf.for_task(task_id)) for task_id in (0, 1))
    assert several.classifier_tags.multi_class
    assert not two.classifier_tags.multi_class
    for tags in (several, two):
        assert tags.estimator_type == "classifier"
        assert tags.requires_fit
        assert tags.target_tags.required
        assert tags.input_tags == get_tags(clf).input_tags


@pytest.mark.parametrize("column", ["site", 1])
def test_rows_come_without_the_column_of_ids(digits, column):
    pandas = pytest.importorskip("pandas")
    X, y = digits[0][:120, 20:24], digits[1][:120]
    frame = pandas.DataFrame(X, columns=list("abcd"))
    ids = np.tile(["north", "south"], 60)
    clf = make_classifier(Narrow, task_column=column)
    whole = frame.copy()
    whole.insert(1, "site", ids)
    clf.fit(whole, y)
    one = clf.for_task("south")
    assert one.feature_names_in_.tolist() == list("abcd")
    assert one.n_features_in_ == 4
    expected = clf.predict_proba(whole.assign(site="south"))
    assert np.array_equal(one.predict_proba(frame), expected[:, own_columns(clf, "south")])
    with pytest.raises(ValueError, match="feature names"):
        one.predict(whole)


class Narrow(MLP):
    def forward(self, x):
        return super().forward(x.repeat(1, 16))


def test_the_door():
    clf = ContinualClassifier(random_state=0)
    with pytest.raises(NotFittedError):
        clf.for_task("a")
    X, y = np.repeat(np.eye(2), 20, axis=0), np.repeat([0, 1], 20)
    clf.partial_fit(X, y, task_id="a")
    assert clf.for_task().task_id == "a"
    clf.partial_fit(X, y, task_id=7)
    assert clf.for_task(np.int64(7)).task_id == 7
    with pytest.raises(MissingTaskError, match=r"for_task\(task_id\)\.$"):
        clf.for_task()
    with pytest.raises(UnknownTaskError, match="Unknown task id 'b'"):
        clf.for_task("b")
    with pytest.raises(TypeError, match="an int or a string"):
        clf.for_task(["a"])


def test_it_can_neither_be_fitted_nor_set(learned, digits):
    X, y = digits
    one = learned.for_task(2)
    with pytest.raises(TypeError, match=r"FrozenEstimator\(model.for_task\(2\)\).*partial_fit"):
        one.fit(X, y)
    with pytest.raises(TypeError, match="fitted for good"):
        cross_val_predict(one, X[:200], y[:200])
    with pytest.raises(ValueError, match="task_id cannot be set"):
        one.set_params(task_id="first")
    with pytest.raises(ValueError, match="task_id cannot be set"):
        GridSearchCV(one, {"task_id": ["first"]}, error_score="raise").fit(X[:200], y[:200])
    assert one.set_params() is one
    assert one.get_params() == {"task_id": 2}


class Same(ContinualClassifier):
    """A user's own class, with a parameter more."""

    def __init__(self, net=None, *, share=0.5, random_state=None):
        super().__init__(net, random_state=random_state)
        self.share = share

    def predict_proba(self, X, task_id=None):
        p = super().predict_proba(X, task_id)
        return self.share * p + (1 - self.share) / p.shape[1]


def test_what_a_subclass_changes_is_changed_here_too(digits):
    X, y = digits
    clf = Same(make_net(), share=0.25, random_state=0).fit(X[:100], y[:100])
    assert np.array_equal(clf.for_task().predict_proba(X), clf.predict_proba(X, 0))


# --- tools: one task of several serves them as a model that never knew another task


@pytest.fixture(scope="module")
def points():
    """Two features, three classes, in overlapping clouds."""
    X, y = make_blobs(300, centers=3, cluster_std=2.0, random_state=0)
    return (X / 5).astype(np.float32), y


def taught(X, labels):
    """A task of a model of two, and a model that knows it alone."""
    alone = ContinualClassifier(random_state=0).partial_fit(X[:150], labels[:150], task_id="a")
    clf = pickle.loads(pickle.dumps(alone)).partial_fit(X[:150, ::-1], labels[:150], task_id="b")
    return clf.for_task("a"), alone


@pytest.fixture(scope="module")
def three(points):
    X, y = points
    labels = np.array(["low", "mid", "top"])[y]
    return *taught(X, labels), X[150:], labels[150:]


@pytest.fixture(scope="module")
def two(points):
    X, y = points
    return *taught(X, y % 2), X[150:], y[150:] % 2


def calibrated(clf, X, y):
    fitted = CalibratedClassifierCV(FrozenEstimator(clf)).fit(X[:100], y[:100])
    return fitted.predict_proba(X[100:])


def boundary(clf, X, y):
    shown = DecisionBoundaryDisplay.from_estimator(clf, X, grid_resolution=9)
    return shown.response


def dependence(clf, X, y):
    shown = PartialDependenceDisplay.from_estimator(
        clf, X, [0, (0, 1)], target=clf.classes_[0], grid_resolution=5
    )
    return np.concatenate([result["average"].ravel() for result in shown.pd_results])


def pipeline(clf, X, y):
    model = make_pipeline(StandardScaler().fit(X), FrozenEstimator(clf)).fit(X, y)
    return model.predict_proba(X)


TOOLS = {
    "permutation importance": lambda clf, X, y: (
        permutation_importance(clf, X, y, n_repeats=3, random_state=0).importances
    ),
    "partial dependence": dependence,
    "decision boundary": boundary,
    "confusion": lambda clf, X, y: (
        ConfusionMatrixDisplay.from_estimator(clf, X, y).confusion_matrix
    ),
    "calibration": calibrated,
    "pipeline": pipeline,
    "cross_val_predict": lambda clf, X, y: cross_val_predict(
        FrozenEstimator(clf), X, y, method="predict_proba"
    ),
    "voting": lambda clf, X, y: (
        VotingClassifier([("a", FrozenEstimator(clf))], voting="soft").fit(X, y).predict(X)
    ),
    "stacking": lambda clf, X, y: (
        StackingClassifier([("a", clf)], cv="prefit").fit(X, y).predict_proba(X)
    ),
}
OF_TWO_CLASSES = {
    "roc": lambda clf, X, y: RocCurveDisplay.from_estimator(clf, X, y).tpr,
    "fixed threshold": lambda clf, X, y: (
        FixedThresholdClassifier(FrozenEstimator(clf), threshold=0.8).fit(X, y).predict(X)
    ),
    "tuned threshold": lambda clf, X, y: (
        TunedThresholdClassifierCV(FrozenEstimator(clf), cv="prefit", refit=False)
        .fit(X, y)
        .predict(X)
    ),
}


def assert_serves(tool, one, alone, X, y):
    found, expected = tool(one, X, y), tool(alone, X, y)
    plt.close("all")
    assert len(np.unique(expected)) > 1
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("tool", TOOLS)
def test_tools_that_know_no_tasks(tool, three):
    assert_serves(TOOLS[tool], *three)


@pytest.mark.parametrize("tool", OF_TWO_CLASSES)
def test_tools_for_two_classes(tool, two):
    assert_serves(OF_TWO_CLASSES[tool], *two)


def test_partial_dependence_is_the_mean_over_the_rows(three):
    one, _, X, _ = three
    shown = PartialDependenceDisplay.from_estimator(one, X, [1], target="mid", grid_resolution=4)
    plt.close("all")
    (found,) = shown.pd_results
    for value, mean in zip(found["grid_values"][0], found["average"][1], strict=True):
        rows = np.column_stack([X[:, 0], np.full(len(X), value)])
        assert mean == pytest.approx(one.predict_proba(rows)[:, 1].mean(), abs=1e-6)


def test_its_methods_are_functions_of_rows_for_explainers(three):
    """As SHAP's explainers ask: rows of float64, mixed from several, in another process too."""
    one, alone, X, _ = three
    ask = pickle.loads(pickle.dumps(one.predict_proba))
    mixed = np.column_stack([X[:50, 0], X[50:100, 1]]).astype(np.float64)
    assert np.array_equal(ask(mixed), alone.predict_proba(mixed))


# --- MAPIE, which probes what it is given


@pytest.fixture
def conformal():
    return pytest.importorskip("mapie.classification")


def test_conformal_sets_of_mapie(conformal, three):
    one, _, X, y = three
    mapie = conformal.SplitConformalClassifier(one, confidence_level=0.9, prefit=True)
    labels, sets = mapie.conformalize(X[:100], y[:100]).predict_set(X[100:])
    assert np.array_equal(labels, one.predict(X[100:]))
    # The least ambiguous sets of Sadinle et al., 2019: all labels at least as probable as the
    # true ones are in all but a tenth of the rows, corrected for their number.
    p = one.predict_proba(X[:100])
    scores = np.sort(1 - p[np.arange(100), np.searchsorted(one.classes_, y[:100])])
    limit = scores[int(np.ceil(101 * 0.9)) - 1]
    assert np.array_equal(sets[:, :, 0], 1 - one.predict_proba(X[100:]) <= limit)
    assert 1 <= sets.sum(axis=1).mean() < 3


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")  # it has an array tried
def test_mapie_takes_a_task_of_rows_with_names(conformal, points):
    pandas = pytest.importorskip("pandas")
    X, y = points
    frame = pandas.DataFrame(X, columns=["width", "height"])
    one = ContinualClassifier(random_state=0).fit(frame[:150], y[:150]).for_task()
    mapie = conformal.SplitConformalClassifier(one, prefit=True)
    mapie.conformalize(frame[150:], y[150:])
    assert np.array_equal(mapie.predict(frame), one.predict(frame))


def learned_numbers():
    """A regressor with two tasks of one output, and rows of the second."""
    X, y = make_blobs(200, n_features=4, random_state=0)
    y = 10 * X[:, 0] + y
    reg = ContinualRegressor(random_state=0).partial_fit(X, y, task_id="a")
    return reg.partial_fit(X[:, ::-1], -y, task_id="b"), X[:, ::-1].copy(), -y


def test_a_task_of_a_regressor_is_a_plain_regressor():
    reg, X, y = learned_numbers()
    one = reg.for_task("b")
    check_is_fitted(one)
    assert is_regressor(one)
    assert clone(one) is one
    assert np.array_equal(one.predict(X), reg.predict(X, task_id="b"))
    assert np.array_equal(dumped(one).predict(X), one.predict(X))
    assert one.score(X, y) == pytest.approx(reg.score(X, y, task_id="b"))
    found = permutation_importance(one, X, y, n_repeats=2, random_state=0)
    assert found.importances_mean.argmax() == 3  # where y comes from, columns turned round
    display = PartialDependenceDisplay.from_estimator(one, X, [3])
    assert display.pd_results[0]["average"].shape[0] == 1
    plt.close("all")
    frozen = make_pipeline(StandardScaler(with_mean=False, with_std=False), FrozenEstimator(one))
    assert np.array_equal(frozen.fit(X, y).predict(X), one.predict(X))


def test_mapie_gives_intervals_of_a_task_of_a_regressor():
    mapie = pytest.importorskip("mapie.regression")
    reg, X, y = learned_numbers()
    one = reg.for_task("b")
    conformal = mapie.SplitConformalRegressor(one, confidence_level=0.9, prefit=True)
    predicted, intervals = conformal.conformalize(X[:100], y[:100]).predict_interval(X[100:])
    assert np.array_equal(predicted, one.predict(X[100:]))
    # By the formula: the residual of rank ceil((n + 1) 0.9) on either side.
    residuals = np.sort(np.abs(y[:100] - one.predict(X[:100])))
    half = residuals[int(np.ceil(101 * 0.9)) - 1]
    np.testing.assert_allclose(intervals[:, 0, 0], predicted - half, rtol=1e-6)
    np.testing.assert_allclose(intervals[:, 1, 0], predicted + half, rtol=1e-6)
