"""Tasks of few rows, and what a task begins from."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklearn_halrp import ContinualClassifier, ContinualRegressor
from sklearn_halrp.store import Store
from tests.conftest import make_classifier, make_net, permuted
from tests.inside import STRENGTHS, Head, Seen, best_head, network_of, ridge
from tests.modules import MLP
from tests.test_nets import nets
from tests.test_promises import assert_untouched, snapshot


def rows(n_rows, n_columns, n_outputs, seed):
    draw = torch.Generator().manual_seed(seed)
    X = torch.randn(n_rows, n_columns, generator=draw, dtype=torch.float64)
    Y = X @ torch.randn(n_columns, n_outputs, generator=draw, dtype=torch.float64)
    return X, Y + torch.randn(n_rows, n_outputs, generator=draw, dtype=torch.float64)


# --- ridge regression


@settings(max_examples=12, deadline=None)
@given(st.integers(3, 20), st.integers(1, 12), st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_what_is_said_of_rows_left_out_is_what_a_fit_without_them_says(n, d, k, weighted, seed):
    X, Y = rows(n, d, k, seed)
    weights = 0.1 + torch.rand(n, dtype=torch.float64) if weighted else torch.ones(n).double()
    share = weights / weights.sum()
    whole = float(share @ (X - share @ X).square().sum(dim=1))
    without, errors = {}, {}
    for strength in STRENGTHS:
        said = []
        for row in range(n):
            others = np.arange(n) != row
            model = Ridge(alpha=strength * whole)
            model.fit(X[others].numpy(), Y[others].numpy(), share[others].numpy())
            said.append(model.predict(X[[row]].numpy()).reshape(1, -1))
        without[strength] = np.concatenate(said)
        errors[strength] = float(share @ torch.tensor((without[strength] - Y.numpy()) ** 2).sum(1))
    found = ridge(X, Y, weights if weighted else None)
    best = min(errors, key=errors.__getitem__)
    model = Ridge(alpha=best * whole).fit(X.numpy(), Y.numpy(), share.numpy())
    scale = 1 + np.abs(without[best]).max()
    np.testing.assert_allclose(found.left_out, without[best], atol=1e-5 * scale)
    np.testing.assert_allclose(found.weight, np.atleast_2d(model.coef_), atol=1e-6 * scale)
    np.testing.assert_allclose(found.bias, np.atleast_1d(model.intercept_), atol=1e-6 * scale)


# --- a head in closed form


def test_a_head_is_judged_by_rows_that_are_left_out():
    X, _ = rows(40, 30, 1, seed=0)
    noise = torch.arange(40) % 2  # labels that mean nothing
    assert best_head(Seen(X, noise, None), 2).loss > 0.65  # not as if learned by heart
    told = (X[:, 0] > 0).long()
    assert best_head(Seen(X, told, None), 2).loss < 0.65


def test_a_good_head_is_begun_from_and_a_bad_one_is_not():
    right = torch.zeros(2, 20, dtype=torch.float64)
    right[1, :3] = 4
    begun = {"right": 0, "wrong": 0, "of another task": 0}
    heads = {"right": right, "wrong": -right, "of another task": right[:1]}
    for seed in range(20):
        X, _ = rows(12, 20, 1, seed)
        draw = torch.Generator().manual_seed(seed)
        y = torch.bernoulli((X @ right.T).softmax(dim=1)[:, 1], generator=draw).long()
        for name, head in heads.items():
            known = Head(head, torch.zeros(len(head)), 0.0, "base")
            begun[name] += best_head(Seen(X, y, None), 2, known).begun == "base"
    assert begun["right"] >= 18
    assert begun["wrong"] <= 2
    assert begun["of another task"] == 0


def test_a_head_that_begins_from_nothing_is_that_of_scikit_learn(digits):
    X, y = (torch.from_numpy(each[:200]) for each in digits)
    X = X.double()
    head = best_head(Seen(X, y, None), 10)
    deviation = X.std(dim=0, unbiased=False)
    varied = deviation > 0
    scaled = X[:, varied] / deviation[varied] / varied.sum() ** 0.5  # together they vary by 1
    model = LogisticRegression(C=10, max_iter=1000, tol=1e-6).fit(scaled.numpy(), y.numpy())
    said = head(X).softmax(dim=1)
    np.testing.assert_allclose(said, model.predict_proba(scaled.numpy()), atol=0.01)


def test_one_row_of_each_class_is_enough_for_the_nearest_one():
    X = 5 * torch.eye(4, dtype=torch.float64)
    head = best_head(Seen(X, torch.arange(4), None), 4)
    assert ((X + 0.5) @ head.weight.T + head.bias).argmax(dim=1).tolist() == [0, 1, 2, 3]


def test_blocks_of_features_count_alike():
    X, _ = rows(50, 2, 1, seed=2)
    y = (X[:, 0] > 0).long()
    many = torch.cat([X[:, :1], X[:, 1:].repeat(1, 200) * 1e3], dim=1)
    alike = best_head(Seen(many, y, None), 2, blocks=(1, 200))
    alone = best_head(Seen(many, y, None), 2)
    assert alike.loss < alone.loss


# --- on real tables


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
@pytest.mark.parametrize("each", [3, 5, 10])
def test_few_rows_do_no_worse_than_a_linear_model_of_the_columns(load, each):
    # The base is of noise: it knows nothing that could help.
    draw = np.random.RandomState(0)
    X, y = load(return_X_y=True)
    noise = X.mean(axis=0) + X.std(axis=0) * draw.randn(200, X.shape[1])
    clf = ContinualClassifier(random_state=0).fit(noise, draw.randint(2, size=200), "noise")
    ours, linear = [], []
    for seed in range(5):
        X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=seed)
        few = np.concatenate([np.flatnonzero(y_train == label)[:each] for label in np.unique(y)])
        clf.partial_fit(X_train[few], y_train[few], task_id=seed)
        assert clf.report_[seed]["start"] == "head"
        ours.append(clf.score(X_test, y_test, task_id=seed))
        model = make_pipeline(StandardScaler(), LogisticRegression())
        linear.append(model.fit(X_train[few], y_train[few]).score(X_test, y_test))
    assert np.mean(ours) > np.mean(linear) - 0.02


def test_a_task_alike_is_no_worse_than_the_base(digits):
    X, y = digits
    clf = ContinualClassifier(random_state=0).partial_fit(X[:800], y[:800], task_id="base")
    answers = clf.score(X[900:], y[900:], task_id="base")
    scores = []
    for seed in range(5):
        few = np.random.RandomState(seed).permutation(np.arange(800, 900))[:30]
        labels = np.union1d(y[few], y[few])
        if len(labels) == 10:
            clf.partial_fit(X[few], y[few], task_id=seed)
            assert clf.report_[seed]["head"] == "base"
            scores.append(clf.score(X[900:], y[900:], task_id=seed))
    assert len(scores) > 1
    assert np.mean(scores) > answers - 0.01


# --- what is chosen


def test_what_is_begun_from_is_in_the_report(digits):
    X, y = digits
    clf = make_classifier(start="auto").fit(X[:300], y[:300], "base")
    other = permuted(X, 1)
    for task_id, n_rows, start in (
        ("some", 200, "auto"),
        ("many", 520, "auto"),
        ("w", 200, "warm-up"),
    ):
        clf.set_params(start=start)
        clf.partial_fit(other[300 : 300 + n_rows], y[300 : 300 + n_rows], task_id=task_id)
    assert clf.report_["some"]["start"] in ("warm-up", "head")
    assert clf.report_["some"]["head"] in ("base", "nothing")
    for task_id in ("many", "w"):
        assert clf.report_[task_id]["start"] == "warm-up"
        assert "head" not in clf.report_[task_id]
    assert clf.report()["start"].tolist()[2:] == ["warm-up", "warm-up"]


def test_a_task_like_the_base_is_hardly_ever_worse_than_the_base():
    """Labels follow one law in all tasks, and few rows tell less of it than the base's."""
    law = np.random.RandomState(5).randn(10)

    def task(n_rows, seed):
        draw = np.random.RandomState(seed)
        X = draw.randn(n_rows, 10)
        return X, (X @ law + 3 * draw.randn(n_rows) > 0).astype(int)

    X, y = task(5000, 10**6)
    clf = ContinualClassifier(random_state=0).partial_fit(*task(2000, 0), task_id="base")
    as_it_is = clf.score(X, y, task_id="base")
    for n_rows, n_tasks in ((10, 30), (20, 30), (45, 30), (100, 6)):
        scores = []
        for seed in range(n_tasks):
            clf.partial_fit(*task(n_rows, 100 + seed), task_id="new")
            scores.append(clf.score(X, y, task_id="new"))
            clf.forget_task("new")
        worse = [score for score in scores if score < as_it_is - 0.02]
        assert len(worse) <= 0.1 * n_tasks, n_rows
        assert np.mean(scores) > as_it_is - 0.015, n_rows


@pytest.mark.parametrize(
    "given", [{"criterion__weight": torch.tensor([1.0, 30.0])}, {"criterion__label_smoothing": 0.4}]
)
def test_settings_of_the_loss_are_not_left_out(digits, given):
    """A head is found by a loss without them."""
    X, y = digits
    clf = make_classifier(net=given, start="auto").fit(X[:200], y[:200] % 2, "base")
    clf.partial_fit(permuted(X, 1)[200:300], y[200:300] % 2, task_id="few")
    assert clf.report_["few"]["start"] == "warm-up"
    clf.set_params(start="head")
    with pytest.raises(ValueError, match=r"cannot have start='head'.*weights of classes"):
        clf.partial_fit(X[300:320], y[300:320] % 2, task_id="more")


def test_transfer_is_the_same_in_one_call_and_in_several(digits):
    X, y = digits
    rows = [(permuted(X, k)[200 * k : 200 * k + 60], y[200 * k : 200 * k + 60]) for k in (1, 1, 2)]
    base = make_classifier(start="transfer").fit(X[:200], y[:200], "base")
    single, together = pickle.loads(pickle.dumps(base)), base
    for task_id, part in zip("abc", rows, strict=True):
        single.partial_fit(*part, task_id=task_id)
    X_all, y_all = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    together.partial_fit(X_all, y_all, task_id=np.repeat(["a", "b", "c"], 60))
    assert single.report_["b"]["begun_from"] == "task"
    for task_id in "abc":
        assert together.report_[task_id]["begun_from"] == single.report_[task_id]["begun_from"]
        said = [clf.predict_proba(X[:50], task_id=task_id) for clf in (single, together)]
        assert np.array_equal(*said)


def test_a_head_alone_is_all_that_a_task_keeps(digits):
    X, y = digits
    clf = make_classifier(start="head", precision="full").fit(X[:300], y[:300], "base")
    clf.partial_fit(permuted(X[300:600], 1), y[300:600] % 4, task_id="new")
    assert set(clf.ranks_["new"].values()) == {0}
    task, network = network_of(clf).tasks["new"], network_of(clf)
    assert set(task.own) == set(network.in_head)
    assert clf.report_["new"]["n_numbers"] == sum(array.size for array in task.own.values())
    # It is linear in what the base makes of a row.
    seen = []
    layer = network.base.get_submodule(network.roles.head)
    hook = layer.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    with torch.no_grad():
        network.base(torch.from_numpy(X[:50]))
    hook.remove()
    weight, bias = (torch.from_numpy(task.own[name]) for name in sorted(task.own)[::-1])
    outputs = (seen[0] @ weight.T + bias).argmax(dim=1).numpy()
    assert clf.predict(X[:50], task_id="new").tolist() == outputs.tolist()


@pytest.mark.parametrize("start", ["warm-up", "transfer"])
def test_without_a_warm_up_factors_have_the_order_of_the_layers(digits, start):
    """It is in the optimizer, so that another order may be another result."""
    X, y = digits
    clf = make_classifier(start=start, warmup_epochs=0).fit(X[:300], y[:300], "base")
    for task_id in ("one", "two"):
        clf.partial_fit(permuted(X[300:900], 1), y[300:900], task_id=task_id)
        network = network_of(clf)
        assert tuple(network.tasks[task_id].factors) == network.roles.perturbed


def test_whichever_does_better_on_held_out_rows_is_kept(digits):
    X, y = digits
    base = make_classifier(start="auto").fit(X[:300], y[:300], "base")
    again = (X[300:400], y[300:400])  # as the base's: a head is all that it needs
    other = (permuted(X, 3)[300:700][:400], (X[300:700, :32].sum(1) > X[300:700, 32:].sum(1)) * 1)
    base.partial_fit(*again, task_id="again")
    base.set_params(net__max_epochs=40).partial_fit(*other, task_id="other")
    assert base.report_["again"]["start"] == "head"
    assert base.report_["other"]["start"] == "warm-up"
    for task_id in ("again", "other"):
        assert ("layers" in base.report_[task_id]) == (task_id == "other")
        assert bool(base.history_[task_id]) == (task_id == "other")


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_no_task_of_few_rows_depends_on_others(digits, n_jobs):
    X, y = digits
    tasks = {name: (permuted(X[:60], seed), y[:60]) for seed, name in enumerate("bcd")}
    alone = {}
    for name, (rows_of, labels) in tasks.items():
        clf = make_classifier(start="auto").fit(X[:200], y[:200], "a")
        alone[name] = clf.partial_fit(rows_of, labels, task_id=name).predict_proba(X, task_id=name)
    clf = make_classifier(start="auto", n_jobs=n_jobs).fit(X[:200], y[:200], "a")
    ids = np.repeat(list(tasks), 60)
    clf.partial_fit(np.concatenate([x for x, _ in tasks.values()]), np.tile(y[:60], 3), task_id=ids)
    for name, expected in alone.items():
        assert np.array_equal(clf.predict_proba(X, task_id=name), expected)


def test_more_rows_make_a_head_a_perturbation(digits):
    X, y = digits
    other = permuted(X, 1)
    clf = make_classifier(start="auto", net={"max_epochs": 10}).fit(X[:300], y[:300], "base")
    clf.set_params(start="head").partial_fit(other[300:340], y[300:340], task_id="new")
    few = clf.score(other[1200:], y[1200:], task_id="new")
    clf.set_params(start="auto").partial_fit(other[340:1100], y[340:1100], task_id="new")
    assert clf.report_["new"]["start"] == "warm-up"
    assert clf.report_["new"]["head"] == "itself"
    assert clf.report_["new"]["visits"] == 2
    assert clf.score(other[1200:], y[1200:], task_id="new") > few + 0.05


def test_rows_without_weight_do_not_count(digits):
    X, y = digits[0][:60], digits[1][:60] % 3
    wrong = (y + 1) % 3
    clf = make_classifier(start="head", net={"train_split": None}).fit(*digits, "base")
    both = (np.concatenate([X, X]), np.concatenate([y, wrong]))
    weights = np.repeat([1.0, 0.0], 60)
    clf.partial_fit(*both, task_id="weighted", sample_weight=weights)
    clf.partial_fit(X, y, task_id="alone")
    weighted, alone = (clf.predict_proba(digits[0], task_id=name) for name in ("weighted", "alone"))
    np.testing.assert_allclose(weighted, alone, atol=1e-4)


def test_numbers_have_heads_too():
    draw = np.random.RandomState(0)
    X = draw.randn(400, 6)
    reg = ContinualRegressor(random_state=0).fit(X[:300], X[:300, 0] * 10, "base")
    few = X[300:320]
    reg.partial_fit(few, few @ np.arange(6) + 50, task_id="few")
    assert reg.report_["few"]["start"] == "head"
    assert reg.score(X[320:], X[320:] @ np.arange(6) + 50, task_id="few") > 0.95


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_rows", [100, 600])
def test_a_head_that_is_begun_from_stays_as_it_is(digits, dtype, n_rows):
    X, y = digits
    clf = ContinualClassifier(
        nets(None)["double"] if dtype == "float64" else make_net(), dtype=dtype
    )
    clf.set_params(random_state=0).fit(X[:300], y[:300], "base")
    before = snapshot(clf)
    clf.partial_fit(X[300 : 300 + n_rows], y[300 : 300 + n_rows], task_id="alike")
    assert clf.report_["alike"]["head"] == "base"
    assert_untouched(before, snapshot(clf))


# --- from another task


def test_transfer_begins_from_the_task_that_is_alike(digits):
    X, y = digits
    families = [permuted(X, seed) for seed in (1, 2)]
    clf = make_classifier(net={"max_epochs": 15}).fit(X[:300], y[:300], "base")
    for number, other in enumerate(families):
        clf.partial_fit(other[:500], y[:500], task_id=f"family {number}")
    for number, other in enumerate(families):
        X_new, y_new = other[700:730], y[700:730]
        clf.set_params(start="transfer").partial_fit(X_new, y_new, task_id=f"new {number}")
        clf.set_params(start="auto").partial_fit(X_new, y_new, task_id=f"auto {number}")
        assert clf.report_[f"new {number}"]["begun_from"] == "task"
        near, far = (
            clf.score(other[800:], y[800:], task_id=f"{x} {number}") for x in ("new", "auto")
        )
        assert near > far + 0.05
    said = clf.predict_proba(X, task_id="new 0")
    clf.forget_task("family 0")
    assert np.array_equal(clf.predict_proba(X, task_id="new 0"), said)


def test_transfer_finds_the_base_where_nothing_is_nearer(digits):
    X, y = digits
    clf = make_classifier(net={"max_epochs": 10}, start="transfer").fit(X[:400], y[:400], "base")
    clf.partial_fit(permuted(X[:400], 1), y[:400], task_id="other")
    clf.partial_fit(X[400:440], y[400:440], task_id="near")
    assert clf.report_["near"]["begun_from"] == "base"


# --- where it cannot be


class Softmax(MLP):
    """Gives probabilities."""

    def forward(self, x):
        return super().forward(x).softmax(dim=-1)


@pytest.mark.parametrize("start", ["head", "transfer"])
def test_what_a_net_does_not_allow_is_said(digits, start):
    X, y = digits
    clf = ContinualClassifier(make_net(Softmax, criterion=nn.NLLLoss), start=start, random_state=0)
    clf.fit(X[:100], y[:100], "a")
    with pytest.raises(ValueError, match=f"start='{start}'.*CrossEntropyLoss"):
        clf.partial_fit(X[:100], y[:100], task_id="b")
    assert clf.tasks_ == ["a"]
    clf.set_params(start="auto").partial_fit(X[:100], y[:100], task_id="b")
    assert clf.report_["b"]["start"] == "warm-up"


def test_a_start_that_there_is_not_is_refused(digits):
    with pytest.raises(ValueError, match="start"):
        make_classifier(start="cold").fit(*digits, "a")


def test_a_store_refuses_transfer(digits, tmp_path):
    X, y = digits
    Store.create(tmp_path / "tasks", ContinualClassifier().fit(X[:60], y[:60], "a"))
    with Store(tmp_path / "tasks", start="transfer") as store:
        with pytest.raises(ValueError, match=r"start='transfer' looks at all learned tasks"):
            store.partial_fit(X[60:120], y[60:120], task_id="b")
        assert list(store) == ["a"]


# --- modules that are told apart


class ByKeyword(MLP):
    """Calls its head in another way."""

    def forward(self, x):
        return self.last(input=self.body(x))


class Cosine(nn.Linear):
    """No plain linear layer."""

    def forward(self, x):
        return nn.functional.linear(x, nn.functional.normalize(self.weight), self.bias)


class EndsInCosine(MLP):
    def __init__(self):
        super().__init__()
        self.last = Cosine(self.last.in_features, self.last.out_features)


class InPlace(MLP):
    """Changes what its head gave."""

    def forward(self, x):
        return super().forward(x).div_(20)


@pytest.mark.parametrize(
    ("module", "possible"), [(ByKeyword, True), (EndsInCosine, False), (InPlace, False)]
)
def test_a_head_is_linear_and_the_last_thing_in_a_module(digits, module, possible):
    X, y = digits
    clf = make_classifier(module, start="auto").fit(X[:100], y[:100], "a")
    clf.partial_fit(permuted(X[:100], 1), y[:100], task_id="b")
    assert ("head" in clf.report_["b"]) == possible


def test_one_row_of_a_known_kind_is_answered_by_the_base(digits):
    X, y = digits
    clf = ContinualClassifier(random_state=0).fit(X[:900], y[:900], "base")
    clf.partial_fit(X[900:901], y[900:901], task_id="new", classes=np.arange(10))
    assert clf.report_["new"]["head"] == "base"
    assert clf.score(X[901:], y[901:], task_id="new") == clf.score(X[901:], y[901:], task_id="base")


def test_a_cleared_head_is_not_begun_from(digits):
    X, y = digits
    clf = make_classifier(start="auto").fit(X[:300], y[:300], "a")
    clf.partial_fit(permuted(X[:300], 1), y[:300], task_id="b")
    clf.forget_task("a").partial_fit(X[300:420], y[300:420], task_id="c")
    assert clf.report_["c"]["head"] == "nothing"


def test_no_units_are_mixed_up():
    draw = np.random.RandomState(0)
    X = draw.randn(400, 6)
    y = X @ np.arange(6)
    reg = ContinualRegressor(random_state=0).fit(X[:300], y[:300], "base")
    reg.partial_fit(X[300:330], 1000 * y[300:330] + 7, task_id="in other units")
    assert reg.score(X[330:], 1000 * y[330:] + 7, task_id="in other units") > 0.9
    assert reg.report_["in other units"]["head"] == "nothing"


def test_new_classes_of_a_head_alone(digits):
    X, y = digits
    clf = ContinualClassifier(random_state=0).fit(permuted(X, 1)[:900], y[:900], "base")
    two = np.flatnonzero(y[:200] < 2)
    four = 200 + np.flatnonzero(y[200:320] < 4)
    clf.partial_fit(X[two], y[two], task_id="new").partial_fit(X[four], y[four], task_id="new")
    test = 400 + np.flatnonzero(y[400:] < 4)
    assert clf.score(X[test], y[test], task_id="new") > 0.93
