"""Tables as they are, without a net: numbers, categories, and what is missing."""

import pickle
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch.utils.data import TensorDataset

from sklearn_halrp import ContinualClassifier, ContinualRegressor
from sklearn_halrp.persistence import load, save
from sklearn_halrp.store import Store
from tests.conftest import make_classifier
from tests.inside import network_of
from tests.test_promises import assert_untouched, snapshot


def table(n_rows=100, seed=0, kinds=("a", "b", "c")):
    """A table of every kind of column, and labels that need two of them."""
    draw = np.random.RandomState(seed)
    frame = pd.DataFrame(
        {
            "size": draw.randn(n_rows),
            "kind": draw.choice(kinds, n_rows),
            "code": pd.Categorical(draw.choice([10, 20], n_rows)),
            "flag": draw.rand(n_rows) < 0.5,
            "same": np.ones(n_rows),
            "gaps": draw.randint(0, 9, n_rows).astype(float),
        }
    )
    high = frame["size"] + 3 * (frame["kind"] == kinds[1]) > 1
    frame.loc[draw.rand(n_rows) < 0.1, "gaps"] = np.nan
    frame.loc[draw.rand(n_rows) < 0.05, "kind"] = None
    return frame, np.where(high, "high", "low")


@pytest.fixture(scope="module")
def learned():
    clf = ContinualClassifier(random_state=0).fit(*table(), task_id="north")
    return clf.partial_fit(*table(seed=1, kinds=("a", "new", "c")), task_id="south")


def test_a_table_is_learned(learned):
    X, y = table(seed=2)
    assert learned.score(X, y, task_id="north") > 0.7
    assert learned.n_features_in_ == 6
    assert learned.feature_names_in_.tolist() == X.columns.tolist()


def test_categories_of_later_tasks_are_other_and_all_alike(learned):
    X, _ = table(seed=2)
    unknown = [X.assign(kind=name) for name in ("new", "newer")]
    found = [learned.predict_proba(rows, "south") for rows in unknown]
    assert np.array_equal(*found)
    assert not np.array_equal(found[0], learned.predict_proba(X.assign(kind="a"), "south"))


def test_what_is_missing_is_one_thing_however_it_is_written(learned):
    X, _ = table(seed=2)
    X = X.assign(kind=None)
    expected = learned.predict_proba(X, "north")
    for missing in (np.nan, pd.NA):
        assert np.array_equal(learned.predict_proba(X.assign(kind=missing), "north"), expected)
    assert np.isfinite(learned.predict_proba(X.assign(size=np.nan), "north")).all()


def test_columns_of_other_types_with_the_same_entries_are_the_same(learned):
    X, _ = table(seed=2)
    expected = learned.predict_proba(X, "north")
    others = [
        X.astype({"kind": "category", "code": int, "flag": "boolean", "size": object}),
        X.astype({"kind": object, "code": object, "gaps": "Float64"}),
        X.astype({"gaps": object, "same": int, "flag": int}),
    ]
    for other in others:
        assert np.array_equal(learned.predict_proba(other, "north"), expected)
    rows = X.to_numpy(dtype=object)
    with pytest.warns(UserWarning, match="valid feature names"):
        assert np.array_equal(learned.predict_proba(rows, "north"), expected)


def test_tables_of_polars_are_the_same(learned):
    polars = pytest.importorskip("polars")
    X, y = table()
    columns = {name: [None if pd.isna(v) else v for v in X[name]] for name in X}
    frame = polars.DataFrame(columns)
    assert np.array_equal(learned.predict_proba(frame, "north"), learned.predict_proba(X, "north"))
    frame = frame.with_columns(polars.col("code").cast(str).cast(polars.Categorical))
    clf = ContinualClassifier(random_state=0).fit(frame, y, task_id="north")
    assert np.array_equal(clf.predict_proba(frame), learned.predict_proba(X, "north"))


def test_a_module_takes_the_places_of_categories(learned):
    X, _ = table(seed=2)
    X = X.assign(kind="b", code=20, gaps=1.0)
    # The most frequent come first; see the columns of the first call.
    first, _ = table()
    place = {name: list(first[name].value_counts().index) for name in ("kind", "code")}
    counts = [first[name].value_counts().tolist() for name in place]
    assert all(len(set(count)) == len(count) for count in counts)  # else their order is by name
    rows = X.assign(**{name: order.index(X[name].iloc[0]) for name, order in place.items()})
    module = learned.to_module("north")
    with torch.no_grad():
        found = torch.softmax(module(torch.tensor(rows.to_numpy(np.float32))), dim=1).numpy()
    assert np.allclose(found, learned.for_task("north").predict_proba(X), atol=1e-6)


def test_files_pickles_and_stores_take_the_same_tables(learned, tmp_path):
    X, y = table(seed=2)
    save(learned, tmp_path / "safe")
    joblib.dump(learned, tmp_path / "model.joblib")
    store = Store.create(tmp_path / "store", learned)
    others = [load(tmp_path / "safe"), joblib.load(tmp_path / "model.joblib"), store]
    for other in others:
        for task_id in ("north", "south"):
            expected = learned.predict_proba(X, task_id)
            assert np.array_equal(other.predict_proba(X, task_id), expected)
    again = pickle.loads(pickle.dumps(learned)).partial_fit(X[:20], y[:20], "west")
    expected = again.predict_proba(X, "west")
    for other in others:
        other.partial_fit(X[:20], y[:20], task_id="west")
        assert np.array_equal(other.predict_proba(X, "west"), expected)
    store.close()
    one = pickle.loads(pickle.dumps(learned.for_task("south")))
    assert np.array_equal(one.predict_proba(X), learned.for_task("south").predict_proba(X))


@pytest.mark.parametrize("kind", [str, int])
def test_a_category_of_another_type_is_no_unknown_one(kind):
    """pandas may read zip codes as numbers in one file, and as text in the next."""
    draw = np.random.RandomState(0)
    codes = draw.choice([10115, 80331, 1067], 200)
    X = pd.DataFrame({"code": pd.Categorical(codes.astype(kind).tolist()), "size": draw.randn(200)})
    clf = ContinualClassifier(random_state=0).fit(X, (codes > 20000).astype(int))
    other = int if kind is str else str
    for entries in (codes.astype(other), codes.astype(float) if kind is str else codes.astype(str)):
        with pytest.raises(ValueError, match=r"'code' of X has .* when the base was learned"):
            clf.predict(X.assign(code=pd.Categorical(entries.tolist())))
    new = X.assign(code=pd.Categorical([kind(99999)] * 200))
    assert len(clf.predict(new)) == 200


def test_the_encoding_belongs_to_the_base(learned):
    network = network_of(learned)
    tensors = [name for name in dict(network.base.named_parameters()) if name.startswith("0.")]
    assert set(tensors) == set(network.roles.frozen)
    first, X = table()[0], torch.tensor(table()[0][["size", "gaps"]].to_numpy(np.float32))
    module = learned.to_module("south")
    numbers = module[0].numbers
    assert [first.columns[i] for i in numbers] == ["size", "flag", "same", "gaps"]
    assert module[0].center[0].item() == pytest.approx(X[:, 0].mean().item(), abs=1e-6)
    assert module[0].center[3].item() == pytest.approx(X[:, 1].nanmean().item(), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda X: X.assign(size=np.inf), "infinity"),
        (lambda X: X.assign(size="large"), "'size' of X has 'large', and had numbers"),
        (lambda X: X[X.columns[::-1]], "feature names"),
        (lambda X: X.drop(columns="flag"), "flag"),
        (lambda X: np.zeros((3, 6)), "2 of the 6 columns"),
        (lambda X: X.to_numpy(dtype=object)[:, :5], "5 features"),
        (lambda X: X.assign(kind=[[1]] * len(X)), "'kind' of X has a list"),
        (lambda X: X.assign(kind=pd.Timestamp("2020-01-01")), "'kind' of X has a Timestamp"),
        (lambda X: X.assign(kind=object()), "'kind' of X has a object"),
    ],
)
def test_another_table_is_refused_and_changes_nothing(learned, change, says):
    X, y = table()
    state, tensors = dict(vars(learned)), snapshot(learned)
    with pytest.raises((ValueError, TypeError), match=says):
        learned.predict(change(X), "north")
    with pytest.raises((ValueError, TypeError), match=says):
        learned.partial_fit(change(X), y[: len(change(X))], "north")
    assert vars(learned) == state
    assert_untouched(tensors, snapshot(learned))


@pytest.mark.parametrize("value", [pd.Timestamp("2020-01-01"), (1, 2), b"north"])
def test_entries_of_no_category_are_refused(value):
    X, y = table(40)
    with pytest.raises(TypeError, match=f"Column 'kind' of X has a {type(value).__name__}"):
        ContinualClassifier().fit(X.assign(kind=pd.Series([value] * 40, dtype=object)), y)


def test_text_comes_too_late_for_a_base_of_numbers():
    X, y = table(40)
    clf = ContinualClassifier(random_state=0).fit(X[["size", "gaps"]], y)
    with pytest.raises(ValueError, match="column 'gaps' has the type"):
        clf.partial_fit(X[["size", "gaps"]].assign(gaps="many"), y, task_id=0)


def test_of_many_categories_the_most_frequent_have_a_place():
    names = np.repeat([f"{i}" for i in range(100)], np.r_[np.full(50, 3), np.full(50, 1)])
    X = pd.DataFrame({"name": names, "size": np.arange(200.0)})
    clf = ContinualClassifier(random_state=0).fit(X, np.arange(200) % 2)
    rows = X.drop_duplicates("name").assign(size=0.0)
    found = clf.predict_proba(rows)
    assert len(np.unique(found, axis=0)) == 64 + 1  # and one for all others


def test_a_net_of_ones_own_takes_numbers_alone():
    X, y = table(40)
    with pytest.raises(ValueError, match="NaN"):
        make_classifier().fit(np.full((40, 64), np.nan), y)
    with pytest.raises(ValueError, match="column 'kind' has the type"):
        make_classifier().fit(X, y)


def test_files_of_earlier_networks_take_no_missing_numbers():
    clf = load(Path(__file__).parent / "data" / "format_5.safetensors")
    X, y = load_iris(return_X_y=True)
    assert np.isfinite(clf.predict_proba(X / 8, "species")).all()
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        clf.predict(X, "species")
    with pytest.raises(ValueError, match="NaN"):
        clf.partial_fit(X, y, "new")


def test_in_a_search_with_the_ids_in_a_column():
    X, y = table(80)
    X["site"] = np.resize(["north", "south"], 80)
    model = make_pipeline(
        FunctionTransformer(), ContinualClassifier(task_column="site", random_state=0)
    )
    halves = [(np.arange(40), np.arange(40, 80))]
    search = GridSearchCV(model, {"continualclassifier__max_rank": [2]}, cv=halves).fit(X, y)
    clf = search.best_estimator_[-1]
    assert search.best_score_ > 0.6
    beside = clf.for_task("south").predict(X[1::2].drop(columns="site"))
    assert np.array_equal(clf.predict(X)[1::2], beside)


def test_a_dataset_may_miss_numbers_too():
    X, y = table(20)
    rows = X[["size", "gaps"]].to_numpy(np.float32).copy()
    number = (y == "high").astype(int)
    of_dataset = ContinualClassifier(random_state=0)
    of_dataset.fit(TensorDataset(torch.from_numpy(rows), torch.from_numpy(number)))
    of_array = ContinualClassifier(random_state=0).fit(rows, number)
    assert np.array_equal(of_dataset.predict_proba(rows), of_array.predict_proba(rows))
    rows[3, 0] = np.inf
    with pytest.raises(ValueError, match="Row 3 of X contains infinity"):
        of_dataset.fit(TensorDataset(torch.from_numpy(rows), torch.from_numpy(number)))


def test_a_regressor_takes_tables_too(tmp_path):
    X, _ = table(200)
    y = 2 * X["size"] + 3 * (X["kind"] == "b")
    reg = ContinualRegressor(random_state=0).fit(X, y)
    assert reg.score(X, y) > 0.9
    save(reg, tmp_path / "model")
    assert np.array_equal(load(tmp_path / "model").predict(X), reg.predict(X))
