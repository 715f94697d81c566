"""Ids in a column of X: what takes any classifier takes this one, with metadata routing off.

Each result is compared with that of a loop over plain arrays, with ids passed as task_id.
"""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.inspection import permutation_importance
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_halrp.model_selection import TaskStratifiedKFold
from tests.conftest import make_classifier, polars_with_names

N = 120
PIXELS = [f"pixel{i}" for i in range(64)]


@pytest.fixture(scope="module")
def data(digits):
    """Two tasks with labels of their own."""
    X, y = digits[0][:N], digits[1][:N]
    ids = (np.arange(N) % 5 > 2).astype(int)
    return X, np.where(ids == 0, y % 3, 10 + y % 2), ids


@pytest.fixture(scope="module")
def folds(data):
    X, y, ids = data
    return list(TaskStratifiedKFold(2, random_state=0).split(X, y, task_id=ids))


@pytest.fixture(scope="module")
def plain():
    """The classifier that takes ids as an argument."""
    return make_classifier(net={"module__hidden": 8, "max_epochs": 2, "lr": 0.03})


def frame(library, X, ids):
    """A table with the pixels, and the ids in its fourth column."""
    library = pytest.importorskip(library)
    columns = dict(zip(PIXELS, X.T, strict=True))
    columns = {**dict(list(columns.items())[:3]), "site": ids, **columns}
    return library.DataFrame(columns)


@pytest.fixture(params=["array", "pandas by position", "pandas", "polars"])
def column(request, data, plain):
    """X with the ids inside, and the classifier that finds them there."""
    X, _, ids = data
    kind, *by_position = request.param.split(maxsplit=1)
    if kind == "array":
        return np.insert(X, 3, ids, axis=1), clone(plain).set_params(task_column=3)
    return frame(kind, X, ids), clone(plain).set_params(task_column=3 if by_position else "site")


def test_the_column_never_reaches_the_network(column, plain, data):
    (rows, clf), (X, y, ids) = column, data
    clf = clone(clf).fit(rows, y)
    expected = clone(plain).fit(X, y, task_id=ids)
    assert np.array_equal(clf.predict_proba(rows), expected.predict_proba(X, task_id=ids))
    assert clf.score(rows, y) == expected.score(X, y, task_id=ids)
    assert clf.n_features_in_ == 64
    assert clf.tasks_ == [0, 1]


@pytest.mark.parametrize(
    ("kind", "limit"), [(np.float16, 2**11), (np.float32, 2**24), (np.float64, 2**53)]
)
def test_ids_that_a_float_cannot_tell_apart_are_refused(kind, limit, data, plain):
    X, y, ids = data
    clf = clone(plain).set_params(task_column=0)
    rows = np.insert(X.astype(kind), 0, limit - 2 + ids, axis=1)
    assert clf.fit(rows, y).tasks_ == [limit - 2, limit - 1]
    for base in (limit, -limit):
        merged = np.insert(X.astype(kind), 0, base + ids, axis=1)
        with pytest.raises(ValueError, match=rf"came as {kind.__name__}.* array of ints"):
            clf.fit(merged, y)
        with pytest.raises(ValueError, match="merged"):
            clf.predict(merged)
        with pytest.raises(ValueError, match="merged"):
            TaskStratifiedKFold(2, task_column=0).split(merged, y)
    whole = np.insert((16 * X).astype(np.int64), 0, limit + ids, axis=1)
    assert clf.fit(whole, y).tasks_ == [limit, limit + 1]


def test_ids_in_bfloat16_are_refused(data, plain):
    X, y, ids = data
    rows = torch.tensor(np.insert(X, 0, ids, axis=1), dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="bfloat16, which rounds ids from 256"):
        clone(plain).set_params(task_column=0).fit(rows, y)


@pytest.mark.parametrize("missing", [None, np.nan, "NA"])
def test_rows_without_an_id_are_named(missing, data, plain):
    pd = pytest.importorskip("pandas")
    X, y, ids = data
    column = [pd.NA if missing == "NA" else missing, *np.array(["a", "b"])[ids[1:]]]
    clf = clone(plain).set_params(task_column="site")
    for site in (column, pd.array([None, *ids[1:]], dtype="Int64")):
        with pytest.raises(TypeError, match=r"Some rows have no task id.*leave those rows out"):
            clf.fit(pd.DataFrame(X, columns=PIXELS).assign(site=site), y)


class Table:
    """Behaves as a table of pyarrow: its columns are data, and their names apart."""

    def __init__(self, columns):
        self.column_names, self.columns = list(columns), list(columns.values())

    def __getitem__(self, name):
        return self.columns[self.column_names.index(name)]

    def drop(self, name):
        return Table({n: self[n] for n in self.column_names if n != name})

    def __array__(self, dtype=None, copy=None):
        return np.array(self.columns, dtype=dtype).T


def pyarrow_table(columns):
    return pytest.importorskip("pyarrow").table(columns)


@pytest.mark.parametrize("table", [Table, pyarrow_table])
def test_tables_of_pyarrow_have_columns_of_ids_too(table, data, plain):
    X, y, ids = data
    names = np.array(["north", "south"])[ids]
    columns = {**dict(zip(PIXELS, X.T, strict=True)), "site": names}
    clf = clone(plain).set_params(task_column="site").fit(table(columns), y)
    expected = clone(plain).fit(X, y, task_id=names)
    assert np.array_equal(clf.predict(table(columns)), expected.predict(X, task_id=names))
    with pytest.raises(ValueError, match="'town' is no column of X; it has 'pixel0'") as caught:
        clone(plain).set_params(task_column="town").fit(table(columns), y)
    assert len(str(caught.value)) < 400


def test_a_number_that_names_one_column_and_counts_to_another_is_refused(data, plain):
    pd = pytest.importorskip("pandas")
    X, y, ids = data
    clf = clone(plain).set_params(task_column=1)
    rows = pd.DataFrame(np.insert(X, 0, ids, axis=1), columns=range(1, 66))
    with pytest.raises(ValueError, match=r"name of one column.* position of another, 2"):
        clf.fit(rows, y)
    rows.columns = [1, *range(100, 164)]
    with pytest.raises(ValueError, match="position of another, 100"):
        clf.fit(rows, y)
    assert clf.set_params(task_column=0).fit(rows, y).tasks_ == [0, 1]
    rows.columns = [100, *range(64)]  # 100 counts to no column
    assert clf.set_params(task_column=100).fit(rows, y).tasks_ == [0, 1]


def test_cross_validation_and_search(column, plain, data, folds):
    (rows, clf), (X, y, ids) = column, data
    settings = {"cv": folds, "scoring": "accuracy", "error_score": "raise"}
    search = GridSearchCV(clf, {"max_rank": [1, 20]}, **settings).fit(rows, y)
    predicted = np.empty((N, 5), dtype=np.float32)
    for i, max_rank in enumerate([1, 20]):
        expected = []
        for train, test in folds:
            alone = clone(plain).set_params(max_rank=max_rank)
            alone.fit(X[train], y[train], task_id=ids[train])
            predicted[test] = alone.predict_proba(X[test], task_id=ids[test])
            expected.append(np.mean(alone.predict(X[test], task_id=ids[test]) == y[test]))
        assert search.cv_results_["mean_test_score"][i] == pytest.approx(np.mean(expected))
    clf = clone(clf).set_params(max_rank=20)
    assert cross_val_score(clf, rows, y, **settings) == pytest.approx(expected)
    found = cross_val_predict(clf, rows, y, cv=folds, method="predict_proba")
    assert np.array_equal(found, predicted)
    labels = np.unique(y)[predicted.argmax(axis=1)]
    assert np.array_equal(cross_val_predict(clf, rows, y, cv=folds), labels)


def test_calibration(column, plain, data, folds):
    (rows, clf), (X, y, ids) = column, data
    calibrated = CalibratedClassifierCV(clf, method="isotonic", cv=folds).fit(rows, y)
    expected = []
    for train, test in folds:
        alone = clone(plain).fit(X[train], y[train], task_id=ids[train])
        p = alone.predict_proba(X, task_id=ids)
        curves = [
            IsotonicRegression(out_of_bounds="clip").fit(p[test, k], y[test] == label)
            for k, label in enumerate(alone.classes_)
        ]
        p = np.stack([curve.predict(p[:, k]) for k, curve in enumerate(curves)], axis=1)
        expected.append(p / p.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(
        calibrated.predict_proba(rows), np.mean(expected, axis=0), rtol=1e-4, atol=1e-6
    )


def test_stacking_and_voting(column, plain, data, folds):
    (rows, clf), (X, y, ids) = column, data
    members = [("low", clone(clf).set_params(max_rank=1)), ("high", clf)]
    stack = StackingClassifier(members, GaussianNB(), cv=folds).fit(rows, y)
    vote = VotingClassifier(members, voting="soft").fit(rows, y)
    inside, outside = [], []
    for max_rank in (1, clf.max_rank):
        alone = clone(plain).set_params(max_rank=max_rank)
        held_out = np.empty((N, 5))
        for train, test in folds:
            alone.fit(X[train], y[train], task_id=ids[train])
            held_out[test] = alone.predict_proba(X[test], task_id=ids[test])
        outside.append(held_out)
        inside.append(alone.fit(X, y, task_id=ids).predict_proba(X, task_id=ids))
    final = GaussianNB().fit(np.hstack(outside), y)
    np.testing.assert_allclose(
        stack.predict_proba(rows), final.predict_proba(np.hstack(inside)), rtol=1e-4, atol=1e-7
    )
    np.testing.assert_allclose(vote.predict_proba(rows), np.mean(inside, axis=0), rtol=1e-6)


def test_bagging_needs_a_position(column, plain, data):
    (rows, clf), (X, y, ids) = column, data
    bagging = BaggingClassifier(clf, n_estimators=2, random_state=0)
    if isinstance(clf.task_column, str):  # bagging makes an array of the table
        with pytest.raises(ValueError, match=r"'site'.* array, without names.*position"):
            bagging.fit(rows, y)
        return
    bagging.fit(rows, y)
    expected = np.zeros((N, 5))
    for member, drawn in zip(bagging.estimators_, bagging.estimators_samples_, strict=True):
        alone = clone(plain).set_params(random_state=member.random_state)
        alone.fit(
            X, np.searchsorted(np.unique(y), y), ids, sample_weight=np.bincount(drawn, minlength=N)
        )
        expected += alone.predict_proba(X, task_id=ids) / 2
    np.testing.assert_allclose(bagging.predict_proba(rows), expected, rtol=1e-6)


def test_permutation_importance(column, plain, data):
    (rows, clf), (X, y, ids) = column, data
    clf = clone(clf).fit(rows, y)
    if not isinstance(rows, np.ndarray) and not hasattr(rows, "iloc"):  # polars
        with pytest.raises(ValueError, match=r"'site'.* array, without names.*position"):
            permutation_importance(clf, rows, y)
        return
    found = permutation_importance(clf, rows, y, n_repeats=1, random_state=0).importances[:, 0]
    alone = clone(plain).fit(X, y, task_id=ids)
    order = np.arange(N)
    seed = np.random.RandomState(0).randint(np.iinfo(np.int32).max + 1)
    np.random.RandomState(seed).shuffle(order)
    whole = alone.score(X, y, task_id=ids)
    for place in (0, 3, 25, 40):
        mixed = np.insert(X, 3, ids, axis=1)
        mixed[:, place] = mixed[order, place]
        score = alone.score(np.delete(mixed, 3, axis=1), y, task_id=mixed[:, 3])
        assert found[place] == pytest.approx(whole - score)
    assert found.argmax() == 3  # the labels of the other task are all wrong


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_pipeline_that_scales_all_other_columns(library, plain, data, folds):
    if library == "polars":
        polars_with_names()
    X, y, ids = data
    rows = frame(library, X, np.array(["north", "south"])[ids])
    scaler = make_column_transformer(
        (StandardScaler(), PIXELS), remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform=library)
    model = make_pipeline(scaler, clone(plain).set_params(task_column="site"))
    found = cross_val_score(model, rows, y, cv=folds, scoring="accuracy", error_score="raise")
    for score, (train, test) in zip(found, folds, strict=True):
        Z = StandardScaler().fit(X[train]).transform(X)
        alone = clone(plain).fit(
            Z[train], y[train], task_id=np.array(["north", "south"])[ids[train]]
        )
        names = np.array(["north", "south"])[ids[test]]
        assert score == pytest.approx(alone.score(Z[test], y[test], task_id=names))
    assert model.fit(rows, y)[-1].feature_names_in_.tolist() == PIXELS


@pytest.mark.parametrize("column", ["town", 70, -70])
def test_a_column_that_is_not_there(plain, data, column):
    X, y, ids = data
    clf = clone(plain).set_params(task_column=column)
    with pytest.raises(ValueError, match=f"task_column={column!r} is no column of X"):
        clf.fit(frame("pandas", X, ids), y)
    with pytest.raises(ValueError, match=f"task_column={column!r}.*position"):
        clf.fit(np.insert(X, 3, ids, axis=1), y)


def test_a_scaled_column_is_refused(plain, data):
    X, y, ids = data
    model = make_pipeline(StandardScaler(), clone(plain).set_params(task_column=3))
    with pytest.raises(TypeError, match=r"int or a string.*column of ids scaled"):
        model.fit(np.insert(X, 3, ids, axis=1), y)


SETTINGS = {
    "net__lr": [0.01, 0.05],
    "net__module__hidden": [6, 12],
    "approximation_rate": [0.3, 0.99],
    "max_rank": [1, 8],
    "l1_penalty": [0.0, 0.1],
    "l2_penalty": [0.0, 0.1],
    "growth_budget": [0.55, 2.0],
}


@pytest.mark.slow
def test_every_setting_can_be_searched_inside_a_pipeline(plain, data, folds):
    pytest.importorskip("pandas")
    X, y, ids = data
    rows = frame("pandas", X, ids)
    scaler = make_column_transformer(
        (StandardScaler(), PIXELS), remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform="pandas")
    base = clone(plain).set_params(task_column="site", net__module__hidden=12, growth_budget=2.0)
    model = make_pipeline(scaler, base)
    grids = [{f"continualclassifier__{name}": values} for name, values in SETTINGS.items()]
    search = GridSearchCV(
        model, grids, scoring="accuracy", cv=folds[:1], n_jobs=2, error_score="raise"
    )
    search.fit(rows, y)
    scores = search.cv_results_["mean_test_score"]
    assert len(scores) == 2 * len(SETTINGS)
    train, test = folds[0]
    Z = StandardScaler().fit(X[train]).transform(X)
    candidates = [{name: value} for name, values in SETTINGS.items() for value in values]
    for found, params in zip(scores, candidates, strict=True):
        alone = clone(base).set_params(task_column=None, **params)
        alone.fit(Z[train], y[train], task_id=ids[train])
        assert found == alone.score(Z[test], y[test], task_id=ids[test])
    best = clone(model).set_params(**search.best_params_).fit(rows, y)
    assert np.array_equal(search.predict_proba(rows), best.predict_proba(rows))


@pytest.mark.filterwarnings("ignore:.*experimental")
@pytest.mark.filterwarnings("ignore:.*optuna.terminator")
@pytest.mark.filterwarnings("ignore:The OptunaSearchCV or classes")  # scikit-learn 1.6, of its tags
def test_optuna_searches(plain, data, folds):
    optuna = pytest.importorskip("optuna")
    integration = pytest.importorskip("optuna_integration")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    X, y, ids = data
    rows = np.insert(X, 3, ids, axis=1)
    clf = clone(plain).set_params(task_column=3)
    space = {"net__lr": optuna.distributions.FloatDistribution(0.005, 0.05, log=True)}
    search = integration.OptunaSearchCV(
        clf, space, n_trials=2, cv=folds, scoring="accuracy", random_state=0, error_score="raise"
    )
    search.fit(rows, y)
    expected = []
    for train, test in folds:
        alone = clone(plain).set_params(**search.best_params_)
        alone.fit(X[train], y[train], task_id=ids[train])
        expected.append(alone.score(X[test], y[test], task_id=ids[test]))
    assert search.best_score_ == pytest.approx(np.mean(expected))
    assert search.predict(rows).shape == (N,)
