"""Each method of the benchmarks has the property that defines it."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import nn

from benchmarks import methods
from benchmarks.contestants import CONTESTANTS, FOR_ALL, LIBRARY, PER_TASK, possible
from benchmarks.methods import Training
from benchmarks.methods._method import logits, parts, tensors_of, train
from benchmarks.methods.replay import different
from benchmarks.networks import LeNet
from benchmarks.running import learn_stream
from benchmarks.streams import Stream, Task, users
from sklearn_halrp import ContinualClassifier

# The network is so small that what a task stores besides low-rank terms is over the small budgets.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn_halrp.exceptions.GrowthBudgetWarning")

TRAINING = Training(epochs=6, batch_size=32, lr=1e-2)
FORGETFUL = {"fine-tuning", "L2", "EWC", "LwF", "replay, 50 rows", "replay, 200 rows"}


class Net(nn.Sequential):
    """A convolution, a norm, a hidden layer."""

    def __init__(self, n_classes=10):
        super().__init__(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(96, 24),
            nn.ReLU(),
            nn.Linear(24, n_classes),
        )


def make_task(seed, n_classes=10):
    X, y = load_digits(return_X_y=True)
    order = np.random.RandomState(seed).permutation(64)
    X = (X[:, order] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    rows = np.flatnonzero(y < n_classes)
    part = [(X[r], y[r].astype(np.int64)) for r in np.split(rows, [300, 360, 460])]
    return Task(
        name=f"shuffle {seed}", n_classes=n_classes, train=part[0], valid=part[1], test=part[2]
    )


TASKS = [make_task(0), make_task(1, 7), make_task(2)]


def learned(method, n_tasks=2, **settings):
    one = method(Net, TRAINING, 0, **settings)
    for task in TASKS[:n_tasks]:
        one.learn(task)
    one.finish()
    return one


def accuracy(method, task):
    X, y = task.test
    return np.mean(method.predict(task.name, X) == y)


def shared_weights(method):
    return torch.cat([t.detach().flatten() for n, t in method.shared.items() if "weight" in n])


@pytest.mark.parametrize("name", CONTESTANTS)
def test_all_methods_learn_what_they_just_saw_and_draw_the_same_again(name):
    one = CONTESTANTS[name]
    settings = one.settings()[0]
    twice = [learned(one.method, **settings) for _ in range(2)]
    assert accuracy(twice[0], TASKS[1]) > 1.5 / 7  # chance
    X = TASKS[0].test[0]
    assert np.array_equal(*(m.predict("shuffle 0", X) for m in twice))
    assert twice[0].n_bytes() >= 4 * sum(p.numel() for p in Net().parameters())


@pytest.mark.parametrize("name", sorted(CONTESTANTS.keys() - FORGETFUL - {"joint training"}))
def test_what_keeps_tasks_apart_forgets_nothing(name):
    one = CONTESTANTS[name]
    method = one.method(Net, TRAINING, 0, **one.settings()[0])
    method.learn(TASKS[0])
    before = method.predict("shuffle 0", TASKS[0].test[0])
    for task in TASKS[1:]:
        method.learn(task)
    assert np.array_equal(before, method.predict("shuffle 0", TASKS[0].test[0]))


def test_the_first_task_is_the_same_network_for_all_that_do_nothing_special_with_it():
    networks = [
        learned(method, 1)
        for method in (methods.Separate, methods.Copies, methods.BatchEnsemble, methods.LoRA)
    ]
    predicted = [n.predict("shuffle 0", TASKS[0].test[0]) for n in networks]
    assert all(np.array_equal(predicted[0], p) for p in predicted)


def test_separate_networks_do_not_know_of_each_other():
    both = learned(methods.Separate)
    alone = methods.Separate(Net, TRAINING, 0)
    alone.learn(TASKS[1])
    X = TASKS[1].test[0]
    assert np.array_equal(both.predict("shuffle 1", X), alone.predict("shuffle 1", X))
    assert both.n_numbers() == sum(
        t.numel() for task in TASKS[:2] for t in Net(task.n_classes).state_dict().values()
    )


def test_copies_begin_as_the_first():
    untrained = methods.Copies(Net, Training(epochs=0, anew=False), 0)
    untrained.own["first"] = tensors_of(Net())
    untrained.learn(TASKS[1])
    head = parts(Net())["head"]
    for name, tensor in untrained.own["first"].items():
        assert torch.equal(tensor, untrained.own["shuffle 1"][name]) == (name not in head)


def test_changes_are_drawn_in_the_order_of_the_module_and_not_of_a_hash():
    method = methods.LoRA(LeNet, Training(epochs=0, anew=False), 0)
    for task in TASKS[:2]:
        method.learn(task)
    weights = [name for name, _ in LeNet().named_parameters() if name in method.parts["weight"]]
    assert len(weights) == 4  # a set has them in this order by chance only
    assert list(method.shared) == list(method.changes[TASKS[1].name]) == weights


@pytest.mark.parametrize("method", [methods.L2, methods.EWC])
def test_a_penalty_of_nothing_is_fine_tuning_and_one_without_end_fixes_the_weights(method):
    # EWC draws signs for its Fisher information; fresh draws for every task keep them apart.
    plain, free = learned(methods.FineTuning), learned(method, strength=0.0)
    assert torch.equal(shared_weights(plain), shared_weights(free))
    strict = (
        partial(method, strength=1e9) if method is methods.L2 else partial(method, strength=1e6)
    )
    before, after = learned(strict, 1), learned(strict, 2)
    moved = (shared_weights(after) - shared_weights(before)).abs()
    change = (shared_weights(plain) - shared_weights(learned(methods.FineTuning, 1))).abs()
    assert moved.mean() < 0.1 * change.mean()


def test_the_penalty_is_the_sum_of_those_of_all_tasks():
    method = learned(methods.EWC, 1)
    anchors = [(dict(method.total), {n: t.detach().clone() for n, t in method.shared.items()})]
    method.learn(TASKS[1])
    total = {n: method.total[n] - anchors[0][0][n] for n in method.total}
    anchors.append((total, {n: t.detach().clone() for n, t in method.shared.items()}))

    def slow(weights):
        return (
            method.strength
            / 2
            * sum(
                (importance[n] * (weights[n] - old[n]) ** 2).sum().item()
                for importance, old in anchors
                for n in importance
            )
        )

    # Equal but for a constant: differences between two places agree.
    places = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        places.append(
            {n: t.detach() + 0.1 * torch.randn(t.shape) for n, t in method.shared.items()}
        )
    penalty = method.extra(TASKS[2])
    values = []
    for place in places:
        method.shared = place
        values.append(float(penalty(None)))
    assert values[0] - values[1] == pytest.approx(slow(places[0]) - slow(places[1]), rel=1e-3)


@pytest.mark.parametrize("sureness", [1, 10])
def test_fisher_information_of_a_logistic_regression_is_the_known_one(sureness):
    class Two(nn.Sequential):
        def __init__(self, n_classes=2):
            super().__init__(nn.Linear(3, 2, bias=False), nn.Linear(2, n_classes, bias=False))

    n_rows = 8_000  # signs are drawn for each: so many leave little noise
    rows = sureness * np.random.RandomState(0).randn(n_rows, 3).astype(np.float32)
    task = Task("any", 3, (rows, np.zeros(n_rows, int)), None, None)
    method = methods.EWC(Two, Training(epochs=0), 0, n_rows=n_rows)
    method.start(task)
    torch.manual_seed(0)
    found = method.importance(task)["0.weight"]
    W, H = method.shared["0.weight"].detach(), method.own["any"]["1.weight"].detach()
    x = torch.from_numpy(rows)
    p = (x @ W.T @ H.T).softmax(1)
    # d log p(y) / d logit = onehot(y) - p, and its covariance over y is diag(p) - p p^T.
    cov = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    back = torch.einsum("ki,nkl,lj->nij", H, cov, H)
    known = torch.einsum("nii,nj->ij", back, x.square()) / len(x)
    assert torch.allclose(found, known, rtol=0.06)


def test_replay_keeps_so_many_rows_of_each_task_and_only_from_it():
    method = learned(methods.Replay, memory=20)
    for task in TASKS[:2]:
        X, y = method.kept[task.name]
        assert len(X) == len(y) == 20
        rows = torch.as_tensor(task.train[0]).half().flatten(1)
        assert all((rows == x.flatten()).all(1).any() for x in X)


def test_replay_forgets_less_than_fine_tuning():
    plain, with_rows = learned(methods.FineTuning, 3), learned(methods.Replay, 3, memory=60)
    assert accuracy(with_rows, TASKS[0]) > accuracy(plain, TASKS[0])


def test_distillation_is_the_divergence_of_softened_answers():
    method = learned(methods.LearningWithoutForgetting, 1)
    method.start(TASKS[1])
    X = torch.as_tensor(TASKS[1].train[0][:50])

    def answers():
        out, earlier = method.answers("shuffle 1", X, False, ["shuffle 0"])
        assert torch.equal(out, logits(method.module, method.tensors("shuffle 1"), X, False))
        known = logits(method.module, method.tensors("shuffle 0"), X, False)
        assert torch.allclose(earlier["shuffle 0"], known)
        return known.detach()

    before = answers()
    assert method.divergence(before, before).item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        method.shared["5.weight"] += 0.05
    now = answers()
    p, q = ((z / 2).softmax(1) for z in (before, now))
    expected = 4 * (p * (p / q).log()).sum(1).mean()
    assert expected > 0
    assert method.divergence(before, now).item() == pytest.approx(float(expected), rel=1e-4)


def test_distillation_of_strength_0_is_fine_tuning_and_a_strong_one_keeps_the_answers():
    plain = learned(methods.FineTuning, norm="shared")
    free, strong = (
        learned(methods.LearningWithoutForgetting, strength=strength) for strength in (0.0, 30.0)
    )
    assert torch.equal(shared_weights(plain), shared_weights(free))
    first = learned(methods.LearningWithoutForgetting, 1)
    heads = [m.own["shuffle 0"]["7.weight"] for m in (first, free, strong)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])  # the old head is trained along
    X = TASKS[1].train[0]
    kept = [
        np.mean(m.predict("shuffle 0", X) == first.predict("shuffle 0", X)) for m in (free, strong)
    ]
    assert kept[1] > kept[0]


def test_packnet_gives_every_weight_one_owner_and_never_moves_it_again():
    method = methods.PackNet(Net, TRAINING, 0, share=0.25)
    for number, task in enumerate(TASKS):
        before = {n: w.detach().clone() for n, w in method.shared.items()}
        owners = {n: owner.clone() for n, owner in method.owner.items()}
        method.learn(task)
        for name, owner in method.owner.items():
            owned = owners[name] >= 0
            assert torch.equal(method.shared[name][owned], before[name][owned])
            assert torch.equal(owner[owned], owners[name][owned])
            assert (owner == number).sum() == round(0.25 * owner.numel())
            assert not method.shared[name][owner == -1].any()
    # Three bits say which of four owners a weight has, or that it has none.
    weights = sum(owner.numel() for owner in method.owner.values())
    assert method.n_bytes() == pytest.approx(4 * method.n_numbers() + 3 * weights / 8, abs=3)


def test_rows_that_are_kept_count_a_byte_for_each_different_number():
    X = torch.rand(2, 1, 4, 4)
    assert different(X.repeat(1, 3, 1, 1)).numel() == X.numel()
    three = torch.rand(2, 3, 4, 4)
    assert different(three) is three


@pytest.mark.parametrize("rank", [1, 3])
def test_lora_changes_the_base_by_matrices_of_the_rank_asked_for(rank):
    method = learned(methods.LoRA, rank=rank)
    tensors = method.tensors("shuffle 1")
    for name, weight in method.shared.items():
        change = (tensors[name] - weight).detach().flatten(1)
        assert torch.linalg.matrix_rank(change, rtol=1e-4) == rank


def test_batch_ensemble_changes_the_base_by_scales_of_rows_and_columns():
    method = learned(methods.BatchEnsemble)
    tensors = method.tensors("shuffle 1")
    ratio = (tensors["5.weight"] / method.shared["5.weight"]).detach()
    assert torch.linalg.matrix_rank(ratio, rtol=1e-4) == 1
    assert not torch.allclose(ratio, torch.ones(()))


def test_joint_training_sees_all_tasks():
    method = learned(methods.Joint, 3)
    assert min(accuracy(method, task) for task in TASKS) > 0.4


class SameStart(Net):
    """Begins with the same weights every time, and writes down the rows of training batches."""

    batches = []

    def __init__(self, n_classes=10):
        with torch.random.fork_rng():
            torch.manual_seed(5)
            super().__init__(n_classes)

    def forward(self, X):
        if self.training:
            self.batches.append(len(X))
        return super().forward(X)


def test_the_base_of_ours_is_what_a_network_of_its_own_is():
    """With one batch for all rows nothing is left to chance: the optimisers must agree.

    But for the bias before the norm, which the norm takes out again: its gradient is rounding.
    """
    training = Training(epochs=8, batch_size=1000, lr=1e-2, averaged=0)
    ours, alone = (one(SameStart, training, 0) for one in (methods.HALRP, methods.Separate))
    ours.learn(TASKS[0])
    alone.learn(TASKS[0])
    weights = ours.classifier.to_module(TASKS[0].name).state_dict()
    start = SameStart().state_dict()
    nets = alone.own[TASKS[0].name].items()
    for name, expected in [item for item in nets if item[0] not in ("0.bias", "1.running_mean")]:
        torch.testing.assert_close(weights[name], expected.detach(), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(start[name].float(), expected.float(), rtol=1e-2)


@pytest.mark.parametrize("name", [name for name in CONTESTANTS if "replay" not in name])
def test_all_train_on_a_later_task_in_the_same_batches_for_as_many_epochs(name):
    """300 rows in batches of 128, for 6 epochs; replay has batches of other tasks between them."""
    one = CONTESTANTS[name]
    settings = one.settings()[0]
    if "factor_lr_scale" in settings:  # a race would have batches of its own
        settings |= {"factor_lr_scale": 1.0, "start": "warm-up"}
    method = one.with_settings(Training(epochs=6, batch_size=128), 0, settings)(SameStart)
    if not method.incremental:
        pytest.skip("learns all tasks at once")
    method.learn(TASKS[0])
    SameStart.batches.clear()
    method.learn(TASKS[2])
    assert SameStart.batches[: 3 * 6] == [128, 128, 44] * 6


def test_replay_counts_a_byte_for_each_number_of_its_rows():
    plain = learned(methods.FineTuning)
    assert learned(methods.Replay, memory=50).n_bytes() == plain.n_bytes() + 2 * 50 * (64 + 1)


def test_what_is_trained_ends_as_the_mean_of_the_last_steps():
    weight, seen = nn.Parameter(torch.tensor([3.0])), []
    training = Training(epochs=5, batch_size=4, averaged=0.3)
    # 9 rows are batches of 4, 4 and 1, which is left out: ten steps, of which three count.
    train(
        lambda rows: (weight * rows.float().mean()).square().sum(),
        [weight],
        9,
        training,
        after=lambda: seen.append(weight.detach().clone()),
    )
    assert len(seen) == 10
    torch.testing.assert_close(weight.detach(), torch.stack(seen[-3:]).mean(0))


@pytest.mark.parametrize("method", [methods.Separate, methods.LoRA, methods.PackNet])
def test_statistics_are_those_of_the_rows_under_the_final_weights(method):
    one = method(Net, Training(epochs=3, batch_size=1000, lr=1e-2), 0)
    for task in TASKS[:2]:
        one.learn(task)
    tensors = one.tensors("shuffle 1")
    X = torch.as_tensor(TASKS[1].train[0])  # one batch
    before = nn.functional.conv2d(X, tensors["0.weight"], tensors["0.bias"], padding=1).detach()
    rows = before.transpose(0, 1).flatten(1)
    torch.testing.assert_close(tensors["1.running_mean"], rows.mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tensors["1.running_var"], rows.var(1), rtol=1e-4, atol=1e-5)


def made_up(seed):
    """Return a task of two classes told by a word, and by a number that may be missing."""
    rng = np.random.RandomState(seed)
    word, number = rng.choice(["a", "b", "c"], 300), rng.randn(300).astype(np.float32)
    y = ((word == "b") + number + 0.5 * rng.randn(300) > 0.5).astype(np.int64)
    number[rng.rand(300) < 0.1] = np.nan
    words = pd.Categorical(word, ["a", "b", "c", "never"])
    X = pd.DataFrame({"word": words, "number": number})
    parts = [(X[a:b].reset_index(drop=True), y[a:b]) for a, b in ((0, 150), (150, 200), (200, 300))]
    return Task(f"task {seed}", 2, *parts)


def test_models_of_scikit_learn_and_networks_learn_tables_each_in_its_way():
    tasks = (made_up(0), made_up(1))
    encode = users.Encoder([tasks[0].train[0]])
    network = partial(Two, n_features=encode.n_columns)
    stream = Stream("made up", tasks, network, encode, "AUC", alike=True)
    chosen = {**PER_TASK, **FOR_ALL, "separate networks": CONTESTANTS["separate networks"]}
    for name, one in chosen.items():
        make = one.with_settings(TRAINING, 0, one.settings()[0])
        result = learn_stream(stream, make)
        assert min(result["accuracy"][-1]) > (0.5 if "SGD" in name else 0.65), name
        method = make(network)
        for task in (stream if method.tables else stream.encoded()).tasks:
            method.learn(task)
        method.finish()
        X, y = (stream if method.tables else stream.encoded()).tasks[1].test
        score = roc_auc_score(y, method.ranked("task 1", X))
        assert result["accuracy"][-1][1] == pytest.approx(score, abs=1e-6)
        assert np.mean(method.predict("task 1", X) == y) > (0.4 if "SGD" in name else 0.6)
        assert method.n_bytes() > 0


class Two(nn.Sequential):
    def __init__(self, n_classes=2, n_features=4):
        super().__init__(nn.Linear(n_features, 16), nn.ReLU(), nn.Linear(16, n_classes))


def test_an_encoder_marks_what_is_missing_and_knows_no_new_word():
    table = made_up(0).train[0]
    encode = users.Encoder([table])
    X = encode(table)
    assert X.dtype == np.float32
    assert np.isfinite(X).all()
    missing = table["number"].isna().to_numpy()
    marks = [X[missing, i].min() > X[~missing, i].max() for i in range(X.shape[1])]
    assert sum(marks) == 1
    new = table.assign(word=pd.Categorical(["never"] * len(table), table["word"].cat.categories))
    assert not encode(new)[:, -3:].any()


def test_one_model_for_all_counts_the_rows_that_it_keeps():
    one = methods.OneForAll(None, None, 0, max_iter=2)
    for task in (made_up(0), made_up(1)):
        one.learn(task)
    one.finish()
    assert one.n_bytes() - methods.Models.n_bytes(one) == 2 * 150 * (1 + 4 + 1)


def test_first_tasks_that_come_in_one_call_are_learned_as_by_fit():
    one = methods.FromSeveral(Net, TRAINING, 0, first=2)
    one.learn(TASKS[0])
    assert one.n_bytes() == 0
    one.learn(TASKS[1])
    net = one.classifier.net
    clf = ContinualClassifier(clone(net), random_state=0)
    X, y = zip(*(task.train for task in TASKS[:2]), strict=True)
    clf.fit(
        np.concatenate(X), np.concatenate(y), task_id=np.repeat(["shuffle 0", "shuffle 1"], 300)
    )
    X = TASKS[1].test[0]
    assert np.array_equal(one.predict("shuffle 1", X), clf.predict(X, task_id="shuffle 1"))
    one.learn(TASKS[2])
    assert one.classifier.tasks_ == ["shuffle 0", "shuffle 1", "shuffle 2"]


@pytest.mark.parametrize("name", LIBRARY)
def test_adapters_of_the_library_forget_nothing_and_count_what_they_train(name):
    pytest.importorskip("peft")
    one = possible(name)
    method = one.method(Net, TRAINING, 0, **one.settings()[0])
    method.learn(TASKS[0])
    before = method.outputs("shuffle 0", TASKS[0].test[0])
    numbers = method.n_numbers()
    method.learn(TASKS[1])
    assert torch.equal(before, method.outputs("shuffle 0", TASKS[0].test[0]))
    assert accuracy(method, TASKS[1]) > 1.5 / 7
    ours = learned(methods.LoRA, rank=4)
    if name.startswith("LoRA"):
        assert method.n_numbers() == ours.n_numbers()
    assert method.n_numbers() > numbers
