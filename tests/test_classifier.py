import pickle

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, EarlyStopping, EpochScoring

from sklearn_halrp import ContinualClassifier
from sklearn_halrp.exceptions import GrowthBudgetWarning
from tests.conftest import make_classifier, make_net, permuted
from tests.inside import network_of, task_of
from tests.modules import MLP, Conv2d, Probabilities


def test_it_learns_real_tasks_as_well_as_a_linear_model_can(digits):
    X, y = digits
    clf = ContinualClassifier(random_state=0)
    for seed in range(3):
        rows = permuted(X, seed)
        clf.partial_fit(rows[:1200], y[:1200], task_id=seed)
    for seed in range(3):
        rows = permuted(X, seed)
        known = LogisticRegression(max_iter=500).fit(rows[:1200], y[:1200])
        assert clf.score(rows[1200:], y[1200:], task_id=seed) > (
            known.score(rows[1200:], y[1200:]) - 0.03
        )
    assert all(0 < clf.growth_[task] < 0.6 for task in (1, 2))


def test_probabilities_and_logits_give_the_same_kind_of_model(digits):
    X, y = digits
    scores = {}
    for module, criterion in [
        (MLP, torch.nn.CrossEntropyLoss),
        (Probabilities, torch.nn.NLLLoss),
    ]:
        clf = make_classifier(module, net={"criterion": criterion, "max_epochs": 10})
        clf.partial_fit(X[:800], y[:800], task_id=0)
        clf.partial_fit(permuted(X[:800], 1), y[:800], task_id=1)
        probabilities = clf.predict_proba(permuted(X, 1), task_id=1)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
        scores[module] = clf.score(permuted(X[800:], 1), y[800:], task_id=1)
    assert scores[MLP] == pytest.approx(scores[Probabilities], abs=0.02)
    assert min(scores.values()) > 0.85


def test_fit_learns_the_tasks_of_mixed_rows_in_order(digits):
    X, y = digits
    ids = np.array(["b", "a"])[np.arange(200) % 2]
    labels = np.where(ids == "b", y[:200] % 2, y[:200])
    together = make_classifier().fit(X[:200], labels, task_id=ids)
    apart = make_classifier()
    for task_id in ("b", "a"):
        apart.partial_fit(X[:200][ids == task_id], labels[ids == task_id], task_id)
    assert together.tasks_ == apart.tasks_ == ["b", "a"]
    mixed = together.predict_proba(X[200:400], task_id=ids)
    for task_id in ("b", "a"):
        rows = ids == task_id
        alone = apart.predict_proba(X[200:400][rows], task_id=task_id)
        assert np.array_equal(mixed[rows], alone)
        assert np.array_equal(
            together.predict(X[200:400], task_id=ids)[rows],
            apart.predict(X[200:400][rows], task_id=task_id),
        )


def test_fit_forgets_and_is_reproducible(digits):
    X, y = digits
    clf = make_classifier().fit(X[:100], y[:100], task_id="old")
    clf.fit(X[:100], y[:100], task_id=np.repeat(["a", "b"], 50))
    again = make_classifier().fit(X[:100], y[:100], task_id=np.repeat(["a", "b"], 50))
    assert clf.tasks_ == ["a", "b"]
    for task_id in clf.tasks_:
        assert np.array_equal(clf.predict_proba(X, task_id), again.predict_proba(X, task_id))
    other = make_classifier(random_state=1).fit(X[:100], y[:100], task_id="a")
    assert not np.array_equal(other.predict_proba(X, "a"), clf.predict_proba(X, "a"))


@pytest.mark.parametrize("task_id", ["a", "b"])
def test_every_visit_draws_numbers_of_its_own(digits, task_id):
    class Order(Callback):
        seen = []

        def on_train_begin(self, net, **kwargs):
            Order.seen.append([])

        def on_batch_begin(self, net, batch, training, **kwargs):
            if training:
                Order.seen[-1].append(batch[0].clone())

    X, y = digits
    runs = []
    for _ in range(2):
        clf = make_classifier(net={"train_split": None, "max_epochs": 1}, warmup_epochs=0)
        if task_id == "b":
            clf.partial_fit(X[:100], y[:100], task_id="a")
        clf.set_params(net__callbacks=[Order()])
        Order.seen.clear()
        for _ in range(3):
            clf.partial_fit(X[:100], y[:100], task_id=task_id)
        runs.append([torch.cat(batches) for batches in Order.seen])
    visits, again = runs
    assert len(visits) == 3
    for i, rows in enumerate(visits):
        assert torch.equal(rows, again[i])
        for other in visits[:i]:
            assert not torch.equal(rows, other)
            assert torch.equal(rows.sum(1).sort()[0], other.sum(1).sort()[0])  # the same rows


def test_learning_leaves_the_random_states_of_the_caller(digits):
    X, y = digits
    torch.manual_seed(3)
    np.random.seed(3)
    expected = torch.rand(2), np.random.rand(2)
    torch.manual_seed(3)
    np.random.seed(3)
    make_classifier().fit(X[:60], y[:60])
    assert torch.equal(torch.rand(2), expected[0])
    assert np.array_equal(np.random.rand(2), expected[1])


def test_a_known_task_goes_on_learning(learned, digits):
    X, y = digits
    clf = clone(learned)
    clf.partial_fit(X[:300], y[:300], task_id=0)
    clf.partial_fit(permuted(X[:60], 1), y[:60], task_id=1)
    before = clf.score(permuted(X[900:], 1), y[900:], task_id=1)
    ranks = clf.ranks_[1]
    for _ in range(3):
        clf.partial_fit(permuted(X[:900], 1), y[:900], task_id=1)
    assert clf.score(permuted(X[900:], 1), y[900:], task_id=1) > before + 0.1
    assert all(clf.ranks_[1][name] <= rank for name, rank in ranks.items())
    assert clf.report_[1]["visits"] == 4
    assert clf.report_[1]["n_samples"] == 60 + 3 * 900
    assert "layers" in clf.report_[1]
    assert sorted({row["visit"] for row in clf.history_[1]}) == [0, 1, 2, 3]


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize("task_id", ["a", "b"])
def test_new_classes_grow_the_head(digits, task_id, others):
    if task_id == "b" and not others:
        pytest.skip("a second task has another beside it")
    X, y = digits
    clf = make_classifier(net={"max_epochs": 10})
    few = y < 5
    clf.partial_fit(X[few][:300], y[few][:300] * 2, task_id="a")
    if others:
        clf.partial_fit(permuted(X, 1)[few][:300], y[few][:300] * 2, task_id="b")
    seed = {"a": None, "b": 1}[task_id]
    rows = X if seed is None else permuted(X, seed)
    clf.partial_fit(rows[:900], y[:900] * 2, task_id=task_id)
    assert clf.task_classes_[task_id].tolist() == list(range(0, 20, 2))
    assert clf.score(rows[900:], y[900:] * 2, task_id=task_id) > 0.8


@pytest.mark.filterwarnings("ignore:The warm-up of task .* changed none")  # lr is 0
@pytest.mark.parametrize("task_id", ["first", 2, "third", "alone"])
def test_going_on_begins_where_the_task_was(learned, digits, task_id):
    X, y = digits
    clf = pickle.loads(pickle.dumps(learned))
    if task_id == "alone":
        clf = make_classifier().fit(X[:200], y[:200], task_id=task_id)
    before = clf.predict_proba(X, task_id=task_id)
    # Without a step to be taken not one bit of it may change; what was pruned is pruned.
    clf.set_params(net__lr=0.0).partial_fit(X[:100], y[:100], task_id=task_id)
    assert clf.report_[task_id]["visits"] == 2
    assert np.array_equal(clf.predict_proba(X, task_id=task_id), before)


@pytest.mark.filterwarnings("ignore:The warm-up of task .* changed none")  # lr is 0
@pytest.mark.parametrize(("task_id", "others"), [("a", False), ("a", True), ("b", True)])
def test_a_grown_head_gives_the_old_classes_the_same_logits(digits, task_id, others):
    X, y = digits
    # The budget leaves room for the larger head, so that no low-rank entry makes way for it.
    clf = make_classifier(growth_budget=2.0)
    clf.partial_fit(X[:200], y[:200] % 5 * 2, task_id="a")
    if others:
        clf.partial_fit(permuted(X[:200], 1), y[:200] % 5 * 2, task_id="b")
    rows = torch.from_numpy(X)
    before = clf.to_module(task_id)(rows).detach().numpy()
    clf.set_params(net__lr=0.0).partial_fit(X[:200], y[:200], task_id=task_id)
    after = clf.to_module(task_id)(rows).detach().numpy()
    assert clf.task_classes_[task_id].tolist() == list(range(10))
    np.testing.assert_allclose(after[:, [0, 2, 4, 6, 8]], before, rtol=1e-4, atol=1e-5)


def test_declared_classes_have_a_place_from_the_start(digits):
    X, _ = digits
    clf = make_classifier()
    clf.partial_fit(X[:50], np.zeros(50, dtype=int), task_id="a", classes=[0, 1, 2])
    assert clf.task_classes_["a"].tolist() == [0, 1, 2]
    assert clf.predict_proba(X[:5]).shape == (5, 3)
    clf.partial_fit(X[:50], np.ones(50, dtype=int), task_id="a")
    assert clf.task_classes_["a"].tolist() == [0, 1, 2]


def test_labels_come_back_as_they_were_given(digits):
    X, y = digits
    clf = make_classifier()
    names = np.array([f"digit {v}" for v in range(10)])
    clf.partial_fit(X[:100], names[y[:100]], task_id=7)
    assert clf.predict(X[:9]).dtype.kind == "U"
    one_task = clf.predict_proba(X[:9])
    clf.partial_fit(X[:100], y[:100] - 4, task_id="ints")
    assert clf.classes_.tolist() == [*range(-4, 6), *sorted(names)]
    assert set(clf.predict(X[:99], task_id=7)) <= set(names)
    assert set(clf.predict(X[:99], task_id="ints")) <= set(range(-4, 6))
    ids = [7, "ints"] * 50
    mixed = clf.predict(X[:100], task_id=ids)
    assert [type(v) for v in mixed[:3]] == [str, int, str]
    assert clf.predict(X[:9], task_id=7).dtype.kind == "U"
    assert clf.predict(X[:9], task_id="ints").dtype.kind == "i"
    assert np.array_equal(clf.predict_proba(X[:9], task_id=7)[:, 10:], one_task)
    # All at once, as one array of objects or one list.
    labels = [names[v] if i % 2 == 0 else int(v) - 4 for i, v in enumerate(y[:100])]
    for given in (labels, np.array(labels, dtype=object)):
        together = make_classifier().fit(X[:100], given, task_id=ids)
        assert together.task_classes_["ints"].dtype.kind == "i"
        predicted = together.predict(X[:100], task_id=ids)
        share = np.mean([a == b for a, b in zip(predicted, labels, strict=True)])
        assert together.score(X[:100], given, task_id=ids) == pytest.approx(share)


def test_the_score_is_the_share_of_equal_labels(learned, digits):
    X, y = digits
    expected = np.mean(learned.predict(X[:300], task_id="first") == y[:300])
    weights = np.arange(300)
    for labels in (y[:300], y[:300].astype(object), y[:300].tolist(), y[:300].astype(float)):
        assert learned.score(X[:300], labels, task_id="first") == pytest.approx(expected)
    weighted = learned.score(X[:300], y[:300], sample_weight=weights, task_id="first")
    correct = learned.predict(X[:300], task_id="first") == y[:300]
    assert weighted == pytest.approx(np.average(correct, weights=weights))
    with pytest.raises(ValueError, match="inconsistent numbers"):
        learned.score(X[:300], y[:299], task_id="first")


def test_log_probabilities_are_the_logarithms(digits):
    X, y = (
        digits[0][:120],
        np.where(np.arange(120) < 60, digits[1][:120] % 3, 7 + np.arange(120) % 2),
    )
    ids = np.repeat(["a", "b"], 60)
    clf = make_classifier().fit(X, y, ids)
    p, log_p = clf.predict_proba(X, ids), clf.predict_log_proba(X, ids)
    assert log_p.dtype == np.float32
    np.testing.assert_allclose(np.exp(log_p), p, rtol=1e-5)
    own = np.equal.outer(ids == "a", clf.classes_ < 7)
    assert np.array_equal(np.isfinite(log_p), own)
    assert np.array_equal(np.isneginf(log_p), ~own)
    with config_context(enable_metadata_routing=True):
        routed = make_pipeline("passthrough", clf).predict_log_proba(X, task_id=ids)
    assert np.array_equal(routed, log_p)


def test_ids_may_come_in_many_types(digits):
    X, y = digits
    clf = make_classifier().fit(X[:100], y[:100], task_id=np.repeat([3, 4], 50).astype(np.int16))
    assert clf.tasks_ == [3, 4]
    expected = clf.predict(X[:4], task_id=[3, 4, 3, 4])
    for ids in (np.array([3.0, 4.0, 3.0, 4.0]), (3, 4, 3, 4), np.array([3, 4, 3, 4], dtype=object)):
        assert np.array_equal(clf.predict(X[:4], task_id=ids), expected)
    assert np.array_equal(clf.predict(X[:4], task_id=np.int64(3)), clf.predict(X[:4], task_id=3))


@pytest.mark.parametrize("frame", [False, True])
def test_ids_may_travel_in_a_column_of_X(digits, frame):
    X, y = digits
    ids = np.arange(200) % 2
    expected = make_classifier().fit(X[:200], y[:200], task_id=ids)
    if frame:
        pd = pytest.importorskip("pandas")
        with_ids = pd.DataFrame(X[:200], columns=[f"pixel {i}" for i in range(64)])
        with_ids.insert(10, "site", ids)
        clf = make_classifier(task_column="site").fit(with_ids, y[:200])
        assert clf.feature_names_in_.tolist() == [f"pixel {i}" for i in range(64)]
    else:
        with_ids = np.insert(X[:200], 64, ids, axis=1)
        clf = make_classifier(task_column=-1).fit(with_ids, y[:200])
    assert np.array_equal(clf.predict_proba(with_ids), expected.predict_proba(X[:200], task_id=ids))
    with pytest.raises(ValueError, match="task_column"):
        clf.predict(with_ids, task_id=ids)


def test_the_default_network_learns_small_tables():
    X, y = load_wine(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    clf = ContinualClassifier(random_state=0).fit(X, y)
    assert clf.score(X, y) > 0.97
    assert clf.tasks_ == [0]
    images, labels = load_digits(return_X_y=True)
    clf.fit((images / 16).reshape(-1, 8, 8), labels)
    assert clf.score((images / 16).reshape(-1, 8, 8), labels) > 0.95


def test_parameters_reach_the_net_in_a_search(digits):
    X, y = digits
    clf = make_classifier().set_params(net__module__hidden=7, net__lr=0.02, max_rank=2)
    clf.fit(X[:200], y[:200], task_id=np.repeat([0, 1], 100))
    assert network_of(clf).base.body[0].out_features == 7
    assert max(clf.ranks_[1].values()) <= 2
    assert clf.net.initialized_ is False


@pytest.mark.parametrize(
    ("setting", "low", "high", "measure"),
    [
        ("max_rank", 1, 50, lambda clf: sum(clf.ranks_[1].values())),
        ("approximation_rate", 0.3, 0.999, lambda clf: sum(clf.ranks_[1].values())),
        ("growth_budget", 0.55, 1.5, lambda clf: clf.growth_[1]),
        ("prune_threshold", 0.3, 0.0, lambda clf: clf.growth_[1]),
        ("l1_penalty", 1.0, 0.0, lambda clf: _size(clf, "uv", 1)),
        ("l2_penalty", 1.0, 0.0, lambda clf: _size(clf, "rs", 2)),
    ],
)
def test_every_parameter_acts(digits, setting, low, high, measure):
    X, y = digits
    found = []
    for value in (low, high):
        settings = {"approximation_rate": 0.95, "growth_budget": 2.0} | {setting: value}
        clf = make_classifier(**settings).fit(X[:300], y[:300], task_id=0)
        clf.partial_fit(permuted(X[:300], 1), y[:300], task_id=1)
        found.append(measure(clf))
    assert found[0] < found[1]


def _size(clf, parts, power):
    factors = task_of(clf, 1).factors.values()
    arrays = [getattr(f, part) for f in factors for part in parts]
    arrays = [a.dense() if hasattr(a, "dense") else a for a in arrays]
    return sum(float((np.abs(a) ** power).sum()) for a in arrays)


def test_the_warm_up_counts_towards_the_epochs(digits):
    X, y = digits
    for warmup, epochs, expected in [
        (1, 3, 1),
        (0, 3, 0),
        (3, 3, 3),
        (9, 3, 3),
        (0.5, 4, 2),
        (0.3, 6, 2),
        (0.9, 6, 5),
        (0.1, 3, 1),  # of one epoch at least
        (np.float32(0.5), 1, 1),
        (np.int64(1), 3, 1),
    ]:
        clf = make_classifier(net={"max_epochs": epochs}, warmup_epochs=warmup)
        clf.fit(X[:99], y[:99], task_id=0)
        clf.partial_fit(permuted(X[:99], 1), y[:99], task_id=1)
        phases = [row["phase"] for row in clf.history_[1]]
        assert len(phases) == epochs
        assert phases.count("warm-up") == expected


def test_growth_stays_within_the_budget_of_each_task(digits):
    X, y = digits
    for budget in (0.48, 0.6, 1.0):
        clf = make_classifier(growth_budget=budget, approximation_rate=1.0)
        clf.fit(X[:200], y[:200], task_id=0)
        clf.partial_fit(permuted(X[:200], 1), y[:200], task_id=1)
        assert 0.4 < clf.growth_[1] <= budget
        report = clf.report_[1]
        assert report["n_numbers"] <= report["n_numbers_before_pruning"]


def test_a_budget_that_cannot_be_kept_is_said(digits):
    X, y = digits
    clf = make_classifier(growth_budget=0.05, net={"max_epochs": 15})
    clf.fit(X[:400], y[:400], task_id=0)
    with pytest.warns(GrowthBudgetWarning, match=r"growth_budget of 5%, which allows \d+:") as said:
        clf.partial_fit(permuted(X[:400], 1), y[:400], task_id=1)
    assert said[0].filename == __file__  # the call is shown, not a line of the package
    assert set(clf.ranks_[1].values()) == {0}
    assert not any(f.r.size + f.s.size for f in task_of(clf, 1).factors.values())
    assert clf.score(permuted(X[:400], 1), y[:400], task_id=1) > 0.5


def test_the_report_says_what_happened(learned):
    report = learned.report_[2]
    assert set(report["seconds"]) == {"warm-up", "ranks", "report", "race", "low-rank", "pruning"}
    for name, row in report["layers"].items():
        values = np.array(row["spectrum"])
        assert (np.diff(values) <= 0).all()
        assert row["kept"] == pytest.approx(
            (values[: row["rank"]] ** 2).sum() / (values**2).sum(), rel=1e-4
        )
        dropped = (values[row["rank"] :] ** 2).sum()
        assert row["predicted_increase"] == pytest.approx(
            row["importance"] / 2 * dropped, rel=1e-3, abs=1e-12
        )
        assert report["ranks"][name] <= row["rank"]
    assert report["n_numbers"] == task_of(learned, 2).n_numbers


def test_the_measured_increase_is_the_loss_of_the_cut_network(digits):
    X, y = digits[0][:200], digits[1][:200]
    # One epoch, all of it warm-up: the cut network is not trained, and without pruning it is
    # what the task keeps. A rank as high as it gets keeps the free network.
    net = {"max_epochs": 1, "train_split": None, "batch_size": 256, "lr": 0.05}
    losses, reports = {}, {}
    for rate in (0.3, 1.0):
        settings = {"approximation_rate": rate, "prune_threshold": 0.0, "growth_budget": 10.0}
        clf = make_classifier(net=net, **settings, measured_losses="layers").fit(X, y, task_id=0)
        clf.partial_fit(permuted(X, 1), y, task_id=1)
        probabilities = clf.predict_proba(permuted(X, 1), task_id=1)
        losses[rate] = -np.log(probabilities[np.arange(200), y]).mean()
        reports[rate] = clf.report_[1]
    increase = losses[0.3] - losses[1.0]
    assert increase > 1e-3
    assert reports[0.3]["measured_increase"] == pytest.approx(increase, rel=1e-3)
    assert reports[1.0]["measured_increase"] == pytest.approx(0, abs=1e-5)
    layers = reports[0.3]["layers"].values()
    assert sum(row["measured_increase"] for row in layers) == pytest.approx(increase, rel=0.5)


@pytest.mark.parametrize("measured", ["none", "network"])
def test_losses_are_measured_as_far_as_is_asked_for_and_change_nothing_else(digits, measured):
    X, y = digits[0][:100], digits[1][:100]
    one, other = (
        make_classifier(measured_losses=each).fit(X, y, 0).partial_fit(permuted(X, 1), y, 1)
        for each in (measured, "layers")
    )
    assert np.array_equal(one.predict_proba(X, 1), other.predict_proba(X, 1))
    found, whole = one.report_[1], other.report_[1]
    for name, row in whole["layers"].items():
        increase = row.pop("measured_increase")
        assert isinstance(increase, float)
        assert found["layers"][name] == row
    assert found["predicted_increase"] == whole["predicted_increase"]
    if measured == "network":
        assert found["measured_increase"] == whole["measured_increase"]
    else:
        assert "measured_increase" not in found
        assert np.isnan(one.report()["measured_increase"].astype(float)).all()


def test_tables_of_the_report(learned):
    pd = pytest.importorskip("pandas")
    tasks, layers, epochs = (learned.report(level) for level in ("task", "layer", "epoch"))
    assert all(isinstance(t, pd.DataFrame) for t in (tasks, layers, epochs))
    assert tasks.index.tolist() == learned.tasks_
    assert tasks.loc[2, "growth"] == learned.growth_[2]
    assert len(layers) == 2 * len(learned.ranks_[2])
    assert len(epochs) == 3 * 8
    with pytest.raises(ValueError, match="level"):
        learned.report("week")


def test_early_stopping_ends_a_phase_and_is_no_interruption(digits):
    X, y = digits
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=10, threshold_mode="abs")
    clf = make_classifier(net={"callbacks": [stop], "max_epochs": 20}, warmup_epochs=1)
    clf.fit(X[:100], y[:100], task_id=0)
    assert len(clf.history_[0]) == 3
    clf.partial_fit(permuted(X[:100], 1), y[:100], task_id=1)
    assert len(clf.history_[1]) == 1 + 3


def test_callbacks_of_the_user_see_every_phase(digits):
    X, y = digits
    scoring = EpochScoring("balanced_accuracy", name="balanced", lower_is_better=False)
    clf = make_classifier(net={"callbacks": [scoring]})
    clf.fit(X[:200], y[:200], task_id=np.repeat([0, 1], 100))
    assert all(0 <= row["balanced"] <= 1 for task in (0, 1) for row in clf.history_[task])


def test_nets_given_as_instances_work_and_stay_untouched(digits):
    X, y = digits
    module = Conv2d()
    before = {n: t.clone() for n, t in module.state_dict().items()}
    clf = ContinualClassifier(make_net(module, max_epochs=12), random_state=0)
    X = X.reshape(-1, 1, 8, 8)
    clf.fit(X[:200], y[:200], task_id=np.repeat([0, 1], 100))
    assert clf.score(X[:100], y[:100], task_id=0) > 0.5
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_progress_is_shown_when_asked(digits, capfd):
    X, y = digits
    make_classifier(verbose=1).fit(X[:100], y[:100], task_id=np.repeat(["a", "b"], 50))
    shown = capfd.readouterr().err
    assert "task a" in shown
    assert "3/3" in shown
    assert "phase=low-rank" in shown
    make_classifier().fit(X[:60], y[:60])
    assert capfd.readouterr().err == ""


def test_labels_too_large_for_one_type_stay_apart(digits):
    X, y = digits
    huge = np.array([2**63 + 5, 2**63 + 7], dtype=np.uint64)
    clf = make_classifier().fit(X[:60], huge[y[:60] % 2], task_id="huge")
    clf.partial_fit(X[:60], y[:60] % 2 - 1, task_id="small")
    assert clf.classes_.tolist() == [-1, 0, 2**63 + 5, 2**63 + 7]
    np.testing.assert_allclose(clf.predict_proba(X, "huge").sum(axis=1), 1, rtol=1e-5)
