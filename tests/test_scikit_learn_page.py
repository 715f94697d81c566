"""The code of docs/guide/scikit-learn.md runs, and what it says of scikit-learn is so."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import sklearn
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version
from skorch.dataset import ValidSplit

from sklearn_halrp.exceptions import MissingTaskError
from sklearn_halrp.model_selection import TaskStratifiedKFold, task_scorer
from tests.conftest import make_classifier
from tests.modules import MLP

matplotlib.use("Agg")
PAGE = Path(__file__).parent.parent / "docs" / "guide" / "scikit-learn.md"


@pytest.fixture
def data(digits):
    X, y = digits[0][:120], digits[1][:120] % 3
    return X, y, np.repeat(["north", "south"], 60)


@pytest.fixture
def clf():
    return make_classifier(net={"module__hidden": 8})


def test_the_code_of_the_page_runs(monkeypatch, capsys):
    pytest.importorskip("pandas")
    monkeypatch.setitem(sys.modules, "my_networks", SimpleNamespace(MyNet=MLP))
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    code = code.replace("verbose=0", "verbose=0, max_epochs=2")  # the tests are in a hurry
    names = {}
    with config_context():
        exec(compile(code, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["task", "north", "south"]
    assert names["model"][-1].tasks_ == ["north", "south", "west"]
    assert len(names["search"].cv_results_["params"]) == 4
    assert np.isfinite(names["scores"]["test_accuracy"]).all()


TOOLS = {
    "cross_val_predict": lambda clf, X, y, ids: cross_val_predict(
        clf, X, y, cv=2, params={"task_id": ids}
    ),
    "calibration": lambda clf, X, y, ids: CalibratedClassifierCV(clf, cv=2).fit(X, y, task_id=ids),
    "stacking": lambda clf, X, y, ids: StackingClassifier([("a", clf)], cv=2).fit(
        X, y, task_id=ids
    ),
    "voting": lambda clf, X, y, ids: (
        VotingClassifier([("a", clf)]).fit(X, y, task_id=ids).predict(X)
    ),
    "tuned threshold": lambda clf, X, y, ids: TunedThresholdClassifierCV(clf, cv=2).fit(
        X, y > 0, task_id=ids
    ),
    "display": lambda clf, X, y, ids: ConfusionMatrixDisplay.from_estimator(
        clf.fit(X, y, task_id=ids), X, y
    ),
    "permutation": lambda clf, X, y, ids: permutation_importance(
        clf.fit(X, y, task_id=ids), X, y, n_repeats=1
    ),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_tools_that_pass_no_ids_to_predict(tool, clf, data):
    X, y, ids = data
    mixed = np.random.RandomState(0).permutation(len(y))
    with config_context(enable_metadata_routing=True):
        with pytest.raises(MissingTaskError, match="task_column"):
            TOOLS[tool](clf, X[mixed], y[mixed], ids[mixed])


def test_a_frozen_estimator_takes_ids_from_a_column(clf, data):
    X, y, ids = data
    with config_context(enable_metadata_routing=True):
        frozen = FrozenEstimator(clone(clf).fit(X, y, task_id=ids))
        model = make_pipeline("passthrough", frozen).fit(X, y)
        with pytest.raises(TypeError, match=r"unexpected argument.*task_id"):
            model.predict(X, task_id=ids)
    rows = np.insert(X, 0, ids == "south", axis=1)
    inside = clone(clf).set_params(task_column=0).fit(rows, y)
    model = make_pipeline("passthrough", FrozenEstimator(inside)).fit(rows, y)
    assert np.array_equal(model.predict(rows), inside.predict(rows))
    assert ConfusionMatrixDisplay.from_estimator(inside, rows, y).confusion_matrix.sum() == len(y)
    plt.close("all")


@pytest.mark.parametrize("heeded", [True, False])
def test_weights_of_a_search_must_be_asked_for_by_the_scorer(heeded, clf, data):
    X, y, ids = data
    given = {"task_id": ids, "sample_weight": np.ones(len(y))}
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(clf, {}, scoring=task_scorer("accuracy"), cv=TaskStratifiedKFold(2))
        with pytest.raises(ValueError, match="set_score_request"):
            search.fit(X, y, **given)
        scorer = task_scorer("accuracy").set_score_request(sample_weight=heeded)
        search.set_params(scoring=scorer).fit(X, y, **given)
    assert search.best_score_ >= 0


def test_halving_needs_enough_rows_for_a_split(clf, data):
    X, y, ids = data
    rows = np.insert(X, 0, ids == "south", axis=1)
    cv = TaskStratifiedKFold(2, task_column=0, random_state=0)
    settings = {"cv": cv, "random_state": 0, "error_score": "raise"}
    clf.set_params(task_column=0, net__train_split=ValidSplit(5))
    grid = {"max_rank": [1, 2, 3, 4]}
    with pytest.raises(ValueError, match="train_split cannot split"):
        HalvingGridSearchCV(clf, grid, min_resources="smallest", **settings).fit(rows, y)
    assert HalvingGridSearchCV(clf, grid, min_resources=40, **settings).fit(rows, y).n_resources_


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.7"),
    reason="bagging passed no ids to predict",
)
def test_bagging_passes_ids_to_both(clf, data):
    X, y, ids = data
    with config_context(enable_metadata_routing=True):
        bagging = BaggingClassifier(clf, n_estimators=2, random_state=0).fit(X, y, task_id=ids)
        found = bagging.predict_proba(X, task_id=ids)
    expected = np.zeros((len(y), 3))
    for member, drawn in zip(bagging.estimators_, bagging.estimators_samples_, strict=True):
        alone = clone(clf).set_params(random_state=member.random_state)
        alone.fit(X, y, ids, sample_weight=np.bincount(drawn, minlength=len(y)))
        expected += alone.predict_proba(X, task_id=ids) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_boosting_takes_ids_from_a_column(clf, data):
    X, y, ids = data
    rows = np.insert(X, 0, np.unique(ids, return_inverse=True)[1], axis=1)
    inside = clone(clf).set_params(task_column=0)
    boosted = AdaBoostClassifier(inside, n_estimators=1, random_state=0).fit(rows, y)
    alone = clone(inside).set_params(random_state=boosted.estimators_[0].random_state)
    alone.fit(rows, y, sample_weight=np.full(len(y), 1 / len(y)))
    np.testing.assert_array_equal(boosted.predict(rows), alone.predict(rows))


@pytest.mark.parametrize("routed", [True, False])
def test_learning_on_in_a_pipeline_keeps_what_was_learned(clf, data, routed):
    X, y, ids = data
    with config_context(enable_metadata_routing=routed):
        request = {"task_id": ids} if routed else {"continualclassifier__task_id": ids}
        model = make_pipeline(StandardScaler(), clf).fit(X, y, **request)
        before = model[-1].predict_proba(model[0].transform(X), task_id=ids)
        model[-1].partial_fit(model[:-1].transform(X[:, ::-1]), y, task_id="west")
        assert model.predict(X[:, ::-1], task_id="west").shape == (len(y),)
        assert np.array_equal(
            model.predict(X, task_id=ids), model[-1].classes_[before.argmax(axis=1)]
        )
    mean, scale = X.mean(axis=0), X.std(axis=0)
    Z = StandardScaler().fit(X)
    alone = clone(clf).fit(Z.transform(X), y, task_id=ids)
    alone.partial_fit(Z.transform(X[:, ::-1]), y, task_id="west")
    for name, rows in {"north": X, "west": X[:, ::-1]}.items():
        scaled = model[0].transform(rows)
        np.testing.assert_allclose(scaled, (rows - mean) / np.where(scale, scale, 1), atol=1e-4)
        assert np.array_equal(
            model[-1].predict_proba(scaled, task_id=name), alone.predict_proba(scaled, task_id=name)
        )


def test_learning_on_with_ids_in_a_column(clf, data):
    X, y, ids = data
    rows = np.insert(X, 0, ids == "south", axis=1)
    new = np.insert(X[:, ::-1], 0, 2, axis=1)
    model = make_pipeline("passthrough", clf.set_params(task_column=0)).fit(rows, y)
    before = model.predict_proba(rows)
    model[-1].partial_fit(model[:-1].transform(new), y)
    assert model[-1].tasks_ == [0, 1, 2]
    assert np.array_equal(model.predict_proba(rows), before)
