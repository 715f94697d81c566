"""The regressor: units, losses, several numbers a row, and the ways in and out."""

import pickle
from datetime import date
from inspect import signature

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetRegressor
from skorch.callbacks import Callback
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from sklearn_halrp import ContinualClassifier, ContinualRegressor, published_settings
from sklearn_halrp.exceptions import TrainingDivergedError, UnknownTaskError
from sklearn_halrp.inspection import GrowthDisplay, RanksDisplay, SpectrumDisplay
from sklearn_halrp.model_selection import TaskStratifiedKFold, task_report, task_scorer
from sklearn_halrp.persistence import load, save
from tests.conftest import make_net, make_numbers_net, make_regressor
from tests.inside import Numbers, network_of, target_from_state, task_of

INPUTS, N = 5, 240


class Net(nn.Module):
    def __init__(self, n_outputs=1, bias=True):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(INPUTS, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh())
        self.last = nn.Linear(24, n_outputs, bias=bias)

    def forward(self, x):
        return self.last(self.body(x))


class Exact(Net):
    def __init__(self):
        super().__init__()
        self.double()


class Pinball(nn.Module):
    """The loss of a quantile."""

    def forward(self, z, y):
        return torch.maximum(0.9 * (y - z), 0.1 * (z - y)).mean()


@pytest.fixture(scope="module")
def rows():
    """Rows, one number for each, and three numbers for each, all of a smooth function."""
    rng = np.random.RandomState(0)
    X = rng.randn(N, INPUTS).astype(np.float32)
    several = np.stack([X[:, 0] + np.sin(2 * X[:, 1]), X[:, 2] - X[:, 3], X.sum(1)], axis=1)
    return X, 50 + 7 * several[:, 0].astype(np.float64), several * [1e6, 1e-3, 1] + [5e6, 0, -9]


def make(module=Net, net=None, **settings):
    net = {"max_epochs": 8, "lr": 0.01} | (net or {})
    return make_regressor(module, net, **{"growth_budget": 2.0} | settings)


@pytest.fixture(scope="module")
def learned(rows):
    """A regressor with three tasks, one of which has three numbers; tests must not change it."""
    X, y, several = rows
    reg = make().partial_fit(X, y, task_id="a").partial_fit(X[:, ::-1].copy(), several, task_id="b")
    return reg.partial_fit(-X, 3 * y, task_id="c")


# --- units


def test_what_the_network_learns_has_mean_0_and_deviation_1_for_each_task(rows):
    several = rows[2]
    target, encoded = Numbers.of_task("a", several)
    np.testing.assert_allclose(target.center, several.mean(0))
    np.testing.assert_allclose(target.scale, several.std(0))
    assert encoded.dtype == np.float32
    np.testing.assert_allclose(encoded.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(encoded.std(0), 1, rtol=1e-6)
    weights = np.random.RandomState(0).rand(N)
    target, _ = Numbers.of_task("a", several, weights)
    mean = np.average(several, axis=0, weights=weights)
    np.testing.assert_allclose(target.center, mean)
    variance = np.average((several - mean) ** 2, axis=0, weights=weights)
    np.testing.assert_allclose(target.scale, np.sqrt(variance))


def test_another_unit_gives_the_same_in_that_unit(rows, learned):
    X, y, _ = rows
    other = clone(learned).partial_fit(X, 1024 * y, task_id="a")  # a power of 2 rounds nothing
    one = clone(learned).partial_fit(X, y, task_id="a")
    assert np.array_equal(other.predict(X), 1024 * one.predict(X))


def test_units_are_of_the_task(rows, learned):
    X, y, several = rows
    for task_id, (data, expected) in {
        "a": (X, y),
        "b": (X[:, ::-1], several),
        "c": (-X, 3 * y),
    }.items():
        assert learned.score(data, expected, task_id=task_id) > 0.8
        center, scale = learned.target_means_[task_id], learned.target_scales_[task_id]
        np.testing.assert_allclose(center, np.ravel(expected.mean(0)))
        np.testing.assert_allclose(scale, np.ravel(expected.std(0)))


def test_going_on_keeps_the_units(rows, learned):
    X, y, _ = rows
    reg = pickle.loads(pickle.dumps(learned))
    before = reg.target_means_["a"], reg.target_scales_["a"]
    reg.partial_fit(X, 2 * y, task_id="a")
    assert (reg.target_means_["a"], reg.target_scales_["a"]) == before
    # It has learned the new ones all the same.
    assert mean_absolute_error(2 * y, reg.predict(X, "a")) < 0.2 * y.mean()


@pytest.mark.parametrize("value", [0, 7, -1e9, 0.1])
def test_constant_targets_are_predicted_as_what_they_are(value, rows):
    X, y, _ = rows
    reg = make().partial_fit(X, np.full(N, value), task_id="flat")
    assert reg.target_scales_["flat"] == 1
    reg.partial_fit(X, np.stack([y, np.full(N, value)], axis=1), task_id="half flat")
    np.testing.assert_allclose(reg.predict(X, "flat"), value, atol=0.3)
    np.testing.assert_allclose(reg.predict(X, "half flat")[:, 1], value, atol=0.3)


def test_targets_are_left_as_they_are_if_asked(rows):
    X, y, _ = rows
    reg = make(standardize=False).fit(X, y)
    assert (reg.target_means_[0], reg.target_scales_[0]) == (0, 1)
    assert type(reg.to_module()) is Net


# --- several numbers a row


def test_shapes_of_predictions(rows, learned):
    X, y, _ = rows
    assert learned.predict(X, "a").shape == (N,)
    assert learned.predict(X, "b").shape == (N, 3)
    both = learned.predict(X, np.repeat(["a", "c"], N // 2))
    assert np.array_equal(both[: N // 2], learned.predict(X[: N // 2], "a"))
    assert np.array_equal(both[N // 2 :], learned.predict(X[N // 2 :], "c"))
    column = make().fit(X, y[:, None])
    assert column.predict(X).shape == (N,)
    assert np.array_equal(column.predict(X), make().fit(X, y).predict(X))
    with pytest.raises(ValueError, match=r"predict 1 number a row and others 3"):
        learned.predict(X, np.repeat(["a", "b"], N // 2))


def test_a_known_task_keeps_its_number_of_outputs(rows, learned):
    X, y, _ = rows
    reg = pickle.loads(pickle.dumps(learned))
    with pytest.raises(ValueError, match="Task 'b' predicts 3 numbers a row, and y now has 1"):
        reg.partial_fit(X, y, task_id="b")
    assert np.array_equal(reg.predict(X, "b"), learned.predict(X, "b"))


# --- losses


LOSSES = {
    "squared": {"criterion": nn.MSELoss},
    "absolute": {"criterion": nn.L1Loss},
    "smooth": {"criterion": nn.SmoothL1Loss, "criterion__beta": 0.5},
    "huber": {"criterion": nn.HuberLoss(delta=0.7)},
    "own function": {"criterion": lambda: nn.MSELoss()},
}


@pytest.mark.parametrize("importance", ["fisher", "kfac"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_differences_learn_standardised_targets(name, importance, rows):
    X, y, _ = rows
    reg = make(net=LOSSES[name], importance=importance)
    reg.partial_fit(X, y, task_id=0).partial_fit(-X, y, task_id=1)
    assert reg.target_means_[1] == pytest.approx(y.mean())
    assert reg.score(-X, y, task_id=1) > 0.7
    assert all(np.isfinite(row["importance"]) for row in reg.report_[1]["layers"].values())


def test_a_loss_of_ones_own_is_given_targets_as_they_are_unless_asked(rows):
    X, y, _ = rows
    reg = make(net={"criterion": Pinball}).fit(X, y)
    assert reg.target_scales_[0] == 1
    reg = make(net={"criterion": Pinball, "max_epochs": 20}, standardize=True).fit(X, y)
    assert reg.target_means_[0] == pytest.approx(y.mean())
    assert 0.8 < (y < reg.predict(X)).mean() < 0.97  # the quantile 0.9


@pytest.fixture(scope="module")
def counts(rows):
    X = rows[0]
    return np.random.RandomState(1).poisson(np.exp(1 + 0.5 * X[:, 0])).astype(np.float64)


def test_counts_keep_their_meaning_and_predictions_are_means(rows, counts):
    X = rows[0]
    reg = make(net={"criterion": nn.PoissonNLLLoss, "max_epochs": 20}).fit(X, counts)
    assert (reg.target_means_[0], reg.target_scales_[0]) == (0, 1)
    predicted = reg.predict(X)
    assert np.corrcoef(np.log(predicted), X[:, 0])[0, 1] > 0.8
    assert predicted.mean() == pytest.approx(counts.mean(), rel=0.15)
    with torch.no_grad():
        logarithm = reg.to_module()(torch.from_numpy(X)).numpy()[:, 0]
    np.testing.assert_allclose(predicted, np.exp(logarithm), rtol=1e-5)


class Positive(Net):
    def forward(self, x):
        return nn.functional.softplus(super().forward(x))


def test_of_counts_the_net_may_say_what_to_make_of_outputs(rows, counts):
    X = rows[0]
    plain = {"criterion": nn.PoissonNLLLoss, "predict_nonlinearity": None}
    reg = make(net=plain).fit(X, counts)
    with torch.no_grad():
        outputs = reg.to_module()(torch.from_numpy(X)).numpy()[:, 0]
    np.testing.assert_allclose(reg.predict(X), outputs, rtol=1e-5)
    means = {"criterion": nn.PoissonNLLLoss, "criterion__log_input": False, "max_epochs": 20}
    reg = make(Positive, net=means).fit(X, counts)
    assert reg.predict(X).mean() == pytest.approx(counts.mean(), rel=0.15)


@pytest.mark.parametrize(
    ("settings", "shift", "message"),
    [({}, -1, "takes counts or rates, and y of task 0 has -1"), ({"standardize": True}, 0, "auto")],
)
def test_what_is_no_count_is_refused(settings, shift, message, rows, counts):
    reg = make(net={"criterion": nn.PoissonNLLLoss}, **settings)
    with pytest.raises(ValueError, match=message):
        reg.fit(rows[0], counts - counts.min() + shift)


def test_outputs_that_can_never_be_negative_are_questioned(rows):
    class Rectified(Net):
        def forward(self, x):
            return super().forward(x).relu()

    with pytest.warns(UserWarning, match="as after a ReLU: targets are standardised"):
        make(Rectified).fit(rows[0], rows[2])


# --- bad and unusual targets


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.where(np.arange(N) == 3, np.nan, 1.0), "NaN"),
        (np.where(np.arange(N) == 3, np.inf, 1.0), "infinity"),
        (np.ma.masked_array(np.arange(N), np.arange(N) == 3), "NaN"),
        ([None] + [1.0] * (N - 1), "NaN"),
        ([date(2020, 1, 1)] * N, "y must have numbers for targets"),
        (["low", "high"] * (N // 2), r"y has strings, such as 'low'.*ContinualClassifier"),
        (np.array(["1.5"] * N), r"y has strings, such as '1.5'"),
        (np.array([1, "a"] * (N // 2), dtype=object), r"y has strings, such as 'a'"),
        (pd.Series(["low"] * N), r"y has strings, such as 'low'"),
        (np.zeros((N, 0)), "."),
        (np.zeros((N, 2, 2)), "."),
        (np.zeros(N - 1), "inconsistent"),
        (np.full(N, np.datetime64("2020-01-01")), "must be numbers"),
        (np.arange(N) * 1e300, "as large as 2.39e\\+302, too large"),
        (None, "requires y"),
    ],
    ids=str,
)
def test_targets_that_are_no_numbers_are_refused_and_nothing_changes(y, message, rows, learned):
    X = rows[0]
    for reg in (make(), pickle.loads(pickle.dumps(learned))):
        before = dict(vars(reg))
        with pytest.raises(ValueError, match=message):
            reg.partial_fit(X, y, task_id="new")
        assert vars(reg) == before


@pytest.mark.parametrize("value", [np.nan, "a", [[1.0]]], ids=str)
def test_targets_in_a_dataset_are_looked_at_too(value, rows):
    pairs = zip(rows[0], rows[1], strict=True)
    entries = [(row, value if i == 3 else number) for i, (row, number) in enumerate(pairs)]

    class Rows(Dataset):
        def __len__(self):
            return N

        def __getitem__(self, i):
            return entries[i]

    with pytest.raises(ValueError, match=r"NaN|strings|X must have numbers for targets"):
        make().fit(Rows())


def test_types_of_targets(rows):
    X, y, _ = rows
    whole = y.round()
    expected = make().fit(X, whole).predict(X)
    for same in (
        whole.astype(np.float32),
        whole.astype(int),
        whole.tolist(),
        pd.Series(whole, index=range(5, N + 5)),
        torch.from_numpy(whole),
        whole.astype(object),
    ):
        assert np.array_equal(make().fit(X, same).predict(X), expected)


@pytest.mark.parametrize("loss", [nn.MSELoss, nn.HuberLoss])
def test_a_network_of_double_precision(loss, rows):
    X, y, _ = rows
    reg = make(Exact, net={"criterion": loss}, dtype="float64")
    assert reg.fit(X, y).score(X, y) > 0.7


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (make_net(Net), "must be a skorch.NeuralNetRegressor.*MSELoss"),
        (NeuralNetRegressor, "must be an instance"),
        (Net(), "must be a skorch.NeuralNetRegressor"),
    ],
    ids=["classifier", "class", "module"],
)
def test_nets_of_another_kind_are_refused(net, message, rows):
    with pytest.raises(TypeError, match=message):
        ContinualRegressor(net).fit(rows[0], rows[1])


def test_a_network_that_drops_its_last_axis_is_told(rows):
    class Flat(Net):
        def forward(self, x):
            return super().forward(x).squeeze(-1)

    with pytest.raises(ValueError, match=r"must give an output of shape \(n_samples, n_outputs\)"):
        make(Flat).fit(rows[0], rows[1])


# --- scikit-learn


def test_all_parameters_arrive_and_have_the_defaults_of_a_classifier():
    defaults = ContinualClassifier().get_params()
    del defaults["class_weight"]
    assert ContinualRegressor().get_params() == defaults | {"standardize": "auto"}
    marks = {name: object() for name in signature(ContinualRegressor).parameters}
    assert ContinualRegressor(**marks).get_params(deep=False) == marks


@pytest.mark.parametrize("face", [ContinualClassifier, ContinualRegressor])
def test_every_parameter_is_described_once(face):
    section = face.__doc__.split("Parameters\n----------\n")[1].split("\nAttributes\n")[0]
    described = [line.split(" : ")[0] for line in section.splitlines() if line[:1].isalpha()]
    assert described == list(signature(face).parameters)
    assert "<" not in face.__doc__.replace("<BLANKLINE>", "")


@pytest.mark.parametrize(("standardize", "fits"), [("auto", True), (False, True), ("yes", False)])
def test_standardize_is_checked(standardize, fits, rows):
    reg = make(net={"max_epochs": 1}, standardize=standardize)
    if fits:
        reg.fit(rows[0], rows[1])
    else:
        with pytest.raises(ValueError, match="'standardize' parameter"):
            reg.fit(rows[0], rows[1])


def test_scores_are_those_of_scikit_learn(rows, learned):
    X, y, several = rows
    weights = np.random.RandomState(0).rand(N)
    predicted = learned.predict(X, "b")
    assert learned.score(X, several, task_id="b") == r2_score(several, predicted)
    expected = r2_score(several, predicted, sample_weight=weights)
    assert learned.score(X, several, task_id="b", sample_weight=weights) == expected
    with pytest.raises(TypeError, match="positional"):
        learned.score(X, y, "a")


@pytest.fixture
def frame(rows):
    X, y, _ = rows
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(INPUTS)])
    site = np.tile(["north", "south"], N // 2)
    return frame.assign(site=site), np.where(site == "north", y, -100 * y)


def test_a_column_of_ids_in_a_pipeline_and_a_search(frame):
    X, y = frame
    scale = make_column_transformer(
        (StandardScaler(), [f"x{i}" for i in range(INPUTS)]),
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    model = make_pipeline(scale, make(task_column="site"))
    search = GridSearchCV(
        model,
        {"continualregressor__net__lr": [1e-6, 0.01]},
        cv=TaskStratifiedKFold(2, task_column="site", random_state=0),
        scoring=task_scorer("r2", average="tasks"),
    ).fit(X, y)
    assert search.best_params_ == {"continualregressor__net__lr": 0.01}
    assert search.best_score_ > 0.5
    last = search.best_estimator_[-1]
    assert last.tasks_ == ["north", "south"]
    assert last.target_means_["south"] == pytest.approx(y[X["site"] == "south"].mean())


def test_ids_are_routed(frame):
    X, y = frame
    ids, rows = X["site"], X.drop(columns="site")
    with config_context(enable_metadata_routing=True):
        model = make_pipeline(StandardScaler(), make())
        model.fit(rows, y, task_id=ids)
        expected = model.score(rows, y, task_id=ids)
        scores = cross_val_score(
            model, rows, y, params={"task_id": ids}, cv=TaskStratifiedKFold(2, random_state=0)
        )
    assert expected == r2_score(y, model.predict(rows, task_id=ids)) > 0.8
    assert scores.min() > 0.5


def test_a_metric_over_tasks_of_several_numbers(rows):
    X, _, several = rows
    ids = np.repeat([0, 1], N // 2)
    reg = make().fit(X, several, ids)
    found = task_scorer("r2", average="tasks")(reg, X, several, task_id=ids)
    parts = [r2_score(several[ids == i], reg.predict(X[ids == i], i)) for i in (0, 1)]
    assert found == pytest.approx(np.mean(parts))
    with pytest.raises(ValueError, match="task_report measures how labels are told apart"):
        task_report(reg, X, several, ids)


@pytest.mark.parametrize("several", [False, True])
def test_folds_hold_every_task_of_numbers(several, rows):
    X, y, more = rows
    ids = np.repeat([0, 1, 2], [12, 100, N - 112])
    cv = TaskStratifiedKFold(4, random_state=0)
    for _, test in cv.split(X, more if several else y, task_id=ids):
        assert np.bincount(ids[test]).tolist() == [3, 25, 32]


@pytest.mark.parametrize("hold", [np.asarray, list, pd.Series])
def test_numbers_that_no_label_could_be_are_scored_and_folded(hold, rows, learned):
    X, y = rows[0], np.round(np.arange(N) * 2.0**50)
    expected = mean_absolute_error(y, learned.predict(X, task_id="a"))
    scorer = task_scorer("neg_mean_absolute_error")
    assert scorer(learned, X, hold(y), task_id="a") == -expected
    folds = list(TaskStratifiedKFold(4).split(X, hold(y), task_id=np.arange(N) % 2))
    assert [len(test) for _, test in folds] == [N // 4] * 4


# --- rows, weights, processes


@pytest.mark.parametrize("column", [1, 2])
def test_datasets_teach_what_their_arrays_do(column, rows):
    X, y = rows[0], rows[column]
    reg = make().fit(TensorDataset(torch.from_numpy(X), torch.from_numpy(y)))
    assert np.array_equal(reg.predict(X), make().fit(X, y).predict(X))
    dataset = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    assert reg.score(dataset) == pytest.approx(reg.score(X, y))


@pytest.mark.parametrize("column", [1, 2])
@pytest.mark.parametrize("importance", ["fisher", "kfac", "empirical"])
def test_rows_of_no_weight_teach_nothing(column, importance, rows):
    X, y = rows[0], rows[column]
    net = {"batch_size": -1, "train_split": None, "max_epochs": 4}
    heavy = np.arange(N) % 3 > 0
    wrong = np.where(heavy.reshape(-1, *(1,) * (y.ndim - 1)), y, 1e9)
    # A row without weight counts in no sum, but as a row of the batch and of the importance.
    one = make(net=net, importance=importance)
    other = clone(one)
    for task_id in ("a", "b"):
        one.partial_fit(X, wrong, task_id, sample_weight=heavy)
        other.partial_fit(X, y, task_id, sample_weight=heavy)
    np.testing.assert_allclose(one.predict(X, "b"), other.predict(X, "b"), rtol=1e-5)
    assert one.ranks_ == other.ranks_


def test_a_task_all_of_whose_weights_are_zero_is_refused(rows):
    ids = np.repeat([0, 1], N // 2)
    with pytest.raises(ValueError, match="All sample weights of task 1 are zero"):
        make().fit(rows[0], rows[1], ids, sample_weight=1 - ids)


@pytest.mark.slow
def test_processes_learn_the_same(rows):
    X, _, several = rows
    ids = np.repeat([0, 1, 2], N // 3)
    one, two = (make(n_jobs=n_jobs).fit(X, several, ids) for n_jobs in (1, 2))
    assert np.array_equal(one.predict(X, ids), two.predict(X, ids))


class Interrupt(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"net__callbacks": [Interrupt()]}, KeyboardInterrupt),
        ({"net__optimizer": torch.optim.SGD, "net__lr": 1e20}, TrainingDivergedError),
    ],
    ids=["interrupted", "diverged"],
)
def test_what_is_broken_off_changes_nothing(settings, error, rows, learned):
    X, y, several = rows
    reg = pickle.loads(pickle.dumps(learned)).set_params(**settings)
    for task_id, target in {"new": y, "b": several}.items():
        with pytest.raises(error):
            reg.partial_fit(X, target, task_id=task_id)
    assert reg.tasks_ == learned.tasks_
    for task_id in reg.tasks_:
        assert np.array_equal(reg.predict(X, task_id), learned.predict(X, task_id))


# --- files, modules, forgetting


def there_and_back(reg, way, folder):
    if way == "joblib":
        joblib.dump(reg, folder / "model.joblib")
        return joblib.load(folder / "model.joblib")
    pytest.importorskip("safetensors")
    save(reg, folder / "model.safetensors")
    net = None if reg.net is None else make_numbers_net(Net, max_epochs=8, lr=0.01)
    return load(folder / "model.safetensors", net)


@pytest.mark.parametrize("way", ["joblib", "safe"])
def test_files_bring_back_units_and_learning_goes_on(way, rows, learned, tmp_path):
    X, y, several = rows
    reg = there_and_back(learned, way, tmp_path)
    assert type(reg) is ContinualRegressor
    for task_id in learned.tasks_:
        assert np.array_equal(reg.predict(X, task_id), learned.predict(X, task_id))
    other = pickle.loads(pickle.dumps(learned))
    for each in (reg, other):
        each.partial_fit(X, several[:, :2], task_id="more").partial_fit(X, y, task_id="a")
    for task_id in reg.tasks_:
        assert np.array_equal(reg.predict(X, task_id), other.predict(X, task_id))


def test_a_file_of_the_default_network(rows, tmp_path):
    X, _, several = rows
    reg = ContinualRegressor(random_state=0, standardize=True).fit(X[:60], several[:60])
    loaded = there_and_back(reg, "safe", tmp_path)
    assert loaded.standardize is True
    assert np.array_equal(loaded.predict(X), reg.predict(X))


def test_a_file_needs_a_net_of_its_kind(learned, tmp_path):
    pytest.importorskip("safetensors")
    save(learned, tmp_path / "model")
    with pytest.raises(TypeError, match="NeuralNetRegressor"):
        load(tmp_path / "model", make_net(Net))
    with pytest.raises(TypeError, match=r"Save the ContinualRegressor inside, save\(model\[-1\]"):
        save(make_pipeline("passthrough", learned), tmp_path / "other")


@pytest.mark.parametrize(
    "state",
    [
        {"center": np.zeros(2), "scale": np.ones(3)},
        {"center": np.zeros((2, 1)), "scale": np.ones((2, 1))},
    ],
    ids=["lengths", "axes"],
)
def test_units_that_do_not_fit_are_damage(state):
    with pytest.raises(ValueError, match="shape"):
        target_from_state(state)


def test_a_task_is_forgotten_and_learned_in_new_units(rows, learned):
    X, y, _ = rows
    reg = pickle.loads(pickle.dumps(learned)).forget_task("b")
    for task_id in ("a", "c"):
        assert np.array_equal(reg.predict(X, task_id), learned.predict(X, task_id))
    with pytest.raises(UnknownTaskError):
        reg.predict(X, "b")
    reg.partial_fit(X, y, task_id="b")  # with another number of outputs
    assert reg.target_means_["b"] == pytest.approx(y.mean())


class NoBias(Net):
    def __init__(self):
        super().__init__(bias=False)


class Readout(Net):
    """Reads the head's weight, and leaves its layer alone."""

    def forward(self, x):
        return nn.functional.linear(self.body(x), self.last.weight, self.last.bias)


class Squashed(Net):
    def forward(self, x):
        return 3 * super().forward(x).tanh()


class Clamped(Net):
    def forward(self, x):
        return super().forward(x).clamp(-5, 5)


class Shifted(Net):
    def forward(self, x):
        return super().forward(x) + x[:, :1]


MODULES = {Net: True, NoBias: True, Readout: False, Squashed: False, Clamped: False, Shifted: False}


@pytest.mark.parametrize("kind", MODULES)
def test_a_plain_module_gives_the_units_of_y(kind, rows):
    X, y, several = rows
    reg = make(kind).partial_fit(X, y, task_id="a").partial_fit(X, several[:, 2], task_id="b")
    for task_id in "ab":
        module = reg.to_module(task_id)
        assert (type(module) is kind) == MODULES[kind]
        assert not module.training
        with torch.no_grad():
            found = module(torch.from_numpy(X)).numpy()[:, 0]
        before = reg.predict(X, task_id)
        np.testing.assert_allclose(found, before, rtol=1e-4, atol=1e-4 * np.abs(before).max())
        assert all(parameter.requires_grad for parameter in module.parameters())
    assert np.array_equal(reg.to_module("b")(torch.from_numpy(X)).detach().numpy()[:, 0], found)


def test_what_a_module_counts_is_not_counted_by_looking_at_it(rows):
    class Counting(Net):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros((), dtype=torch.long))

        def forward(self, x):
            self.calls += 1
            return super().forward(x)

    reg = make(Counting).fit(rows[0], rows[1])
    assert reg.to_module().calls == network_of(reg).base.calls


# --- what is shown


def test_reports_and_notebooks_speak_of_outputs(learned):
    assert learned.report_["b"]["n_outputs"] == 3
    assert learned.report()["n_outputs"].tolist() == [1, 3, 1]
    html = learned._repr_html_()
    assert "outputs" in html
    assert "held-out loss" in html
    assert "0, 1, 2" in html
    assert f"{task_of(learned, 'b').history[-1]['valid_loss']:.3g}" in html


# --- the rest of the package


def test_a_pretrained_module_is_the_base(rows):
    X, y, several = rows
    module = Net(n_outputs=7)
    weights = module.body[0].weight.detach().clone()
    reg = make(module, base="pretrained").fit(X, several)
    reg.partial_fit(X, y, task_id="b")
    assert torch.equal(network_of(reg).base.body[0].weight, weights)
    assert all(growth > 0 for growth in reg.growth_.values())
    assert reg.score(X, y, task_id="b") > 0.6


def test_the_settings_of_the_publication(rows):
    X, y, _ = rows
    reg = make(**published_settings(3)).fit(X, y, np.repeat([0, 1], N // 2))
    assert reg.score(X, y, task_id=np.repeat([0, 1], N // 2)) > 0.3


def test_displays_take_a_regressor(learned):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    for display in (
        RanksDisplay.from_estimator(learned),
        GrowthDisplay.from_estimator(learned),
        SpectrumDisplay.from_estimator(learned, "b"),
    ):
        matplotlib.pyplot.close(display.figure_)
