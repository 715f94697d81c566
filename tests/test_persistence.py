import copy
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from skorch.exceptions import DeviceWarning

from sklearn_halrp import ContinualClassifier
from sklearn_halrp.persistence import load, save
from tests.conftest import make_classifier, make_net, permuted
from tests.inside import network_of, of_format
from tests.modules import MLP
from tests.test_promises import assert_untouched, snapshot

DATA = Path(__file__).parent / "data"


def test_a_new_process_predicts_the_same(learned, digits, tmp_path):
    X, _ = digits
    joblib.dump(learned, tmp_path / "model.joblib")
    np.save(tmp_path / "X.npy", X[:100])
    code = (
        "import joblib, numpy as np\n"
        f"clf = joblib.load({str(tmp_path / 'model.joblib')!r})\n"
        f"X = np.load({str(tmp_path / 'X.npy')!r})\n"
        f"np.savez({str(tmp_path / 'out.npz')!r},"
        " **{str(t): clf.predict_proba(X, task_id=t) for t in clf.tasks_})\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
    found = np.load(tmp_path / "out.npz")
    for task_id in learned.tasks_:
        assert np.array_equal(found[str(task_id)], learned.predict_proba(X[:100], task_id))


def test_the_state_is_plain_arrays_and_settings(learned):
    state = learned.__getstate__()
    modules = set()

    class Spy(pickle.Pickler):
        def reducer_override(self, obj):
            if isinstance(obj, type):
                modules.add(obj.__module__.split(".")[0])
            return NotImplemented

    with open("/dev/null", "wb") as nowhere:
        Spy(nowhere).dump({k: v for k, v in state.items() if k not in ("net", "net_")})
    assert modules == {"numpy"}


def test_the_file_shrinks_with_what_is_pruned(digits):
    X, y = digits
    sizes = {}
    for threshold in (0.0, 0.1):
        clf = make_classifier(
            prune_threshold=threshold,
            growth_budget=3.0,
            approximation_rate=0.99,
            net={"module__hidden": 120},
        )
        clf.fit(X[:300], y[:300], task_id=0)
        before = len(pickle.dumps(clf)), clf.n_numbers_, clf.n_bytes_
        clf.partial_fit(permuted(X[:300], 1), y[:300], task_id=1)
        sizes[threshold] = np.subtract(
            (len(pickle.dumps(clf)), clf.n_numbers_, clf.n_bytes_), before
        )
    file, numbers, held = sizes[0.0] - sizes[0.1]
    assert numbers > 2000
    # Every number less is four bytes less; the places of the others cost one bit each.
    assert held > 3.5 * numbers - 8 * 120 * 120 / 8
    assert file == pytest.approx(held, rel=0.1, abs=3000)


def test_the_file_is_hardly_larger_than_the_numbers_in_it(digits):
    X, y = digits
    clf = make_classifier(net={"module__hidden": 300}).fit(X[:100], y[:100], task_id=0)
    for task in range(1, 4):
        clf.partial_fit(permuted(X[:100], task), y[:100], task_id=task)
    # numpy 1 and skorch 1.1 write about 700 bytes more.
    share = 1.05 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 1.07
    assert len(pickle.dumps(clf)) < share * clf.n_bytes_


def test_the_file_of_the_default_network_is_hardly_larger_either(digits):
    X, y = digits
    clf = ContinualClassifier(start="warm-up", precision="full", random_state=0)
    for task in range(10):
        clf.partial_fit(permuted(X[:200], task), y[:200], task_id=f"task {task}")
        # numpy 1 and skorch 1.1 write about 700 bytes more.
    share = 1.05 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 1.07
    assert len(pickle.dumps(clf)) < share * clf.n_bytes_


@pytest.mark.parametrize("base", ["pretrained", "first"])
def test_a_module_given_as_an_instance_is_in_the_file_once(digits, base):
    X, y = digits
    clf = make_classifier(MLP(hidden=300), base=base, net={"max_epochs": 2}, growth_budget=0.1)
    given = clf.net.module
    weights = sum(tensor.nbytes for tensor in given.state_dict().values())
    first = copy.deepcopy(clf)
    clf.fit(X[:100], y[:100], task_id=np.repeat([0, 1], 50))
    file = pickle.dumps(clf)
    # A base that was trained is another network than the instance, from which fit begins.
    assert len(file) < 1.05 * (clf.n_bytes_ + (weights if base == "first" else 0))
    loaded = pickle.loads(file)
    assert_untouched(snapshot(clf), snapshot(loaded))
    assert loaded.net.module is not given
    for name, tensor in loaded.net.module.state_dict().items():
        assert torch.equal(tensor, given.state_dict()[name])
    for each in (clf, loaded):
        each.partial_fit(permuted(X[:100], 2), y[:100], task_id=2)
    assert_untouched(snapshot(clf), snapshot(loaded))
    again = [clone(each).fit(X[:100], y[:100]) for each in (first, loaded)]
    assert_untouched(*map(snapshot, again))


def test_an_instance_changed_after_learning_leaves_the_file_right(digits):
    X, y = digits
    clf = make_classifier(MLP(), base="pretrained").fit(X[:100], y[:100])
    before = clf.predict_proba(X)
    with torch.no_grad():
        clf.net.module.body[0].weight.mul_(2)
    assert np.array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(X), before)


@pytest.mark.parametrize("mmap_mode", [None, "r"])
@pytest.mark.parametrize("task_id", ["third", "fourth"])
def test_learning_goes_on_as_if_nothing_had_happened(learned, digits, tmp_path, task_id, mmap_mode):
    X, y = digits
    straight_on = copy.deepcopy(learned)
    joblib.dump(learned, tmp_path / "model.joblib")
    before = (tmp_path / "model.joblib").read_bytes()
    loaded = joblib.load(tmp_path / "model.joblib", mmap_mode=mmap_mode)
    kept = [task.data for task in network_of(loaded).tasks.values()]
    assert sum(data.size for data in kept)
    assert all(isinstance(data, np.memmap) == bool(mmap_mode) for data in kept if data.size)
    for clf in (straight_on, loaded):
        clf.partial_fit(permuted(X[:100], 9), y[:100] % 4, task_id=task_id)
    assert_untouched(snapshot(straight_on), snapshot(loaded))
    assert np.array_equal(
        straight_on.predict_proba(X, task_id=task_id), loaded.predict_proba(X, task_id=task_id)
    )
    assert (tmp_path / "model.joblib").read_bytes() == before


@pytest.mark.parametrize(("number", "last"), [(1, 49), (2, 49), (3, 30), (4, 30), (5, 30), (6, 30)])
def test_files_of_every_format_are_read(number, last):
    file = DATA / f"format_{number}"
    X, expected = load_iris().data / 8, np.load(file.with_suffix(".npz"))
    from_joblib = joblib.load(file.with_suffix(".joblib"))
    for clf in (from_joblib, load(file.with_suffix(".safetensors"))):
        assert clf.tasks_ == ["species", 2]
        for task_id in clf.tasks_:
            np.testing.assert_allclose(
                clf.predict_proba(X, task_id), expected[f"task {task_id}"], atol=1e-5
            )
        before = clf.history_[2]
        assert [row["epoch"] for row in before][-3:] == [last - 2, last - 1, last]
        clf.partial_fit(X, load_iris().target % 2, task_id=2)
        for row, again in zip(before, clf.history_[2][: len(before)], strict=True):
            losses = [
                [kept.get(f"{part}_loss", 0) for part in ("train", "valid")]
                for kept in (row, again)
            ]
            assert losses[1] == pytest.approx(losses[0], rel=1e-4)
            assert row["phase"] == again["phase"]
        clf.partial_fit(X, load_iris().target, task_id="more")
        assert clf.score(X, load_iris().target, task_id="more") > 0.9


@pytest.mark.parametrize("number", [4, 5])
def test_files_of_every_format_that_share_an_instance_are_read(number):
    file = DATA / f"format_{number}_instance"
    X, expected = load_iris().data / 8, np.load(file.with_suffix(".npz"))
    reg = joblib.load(file.with_suffix(".joblib"))
    for each in (reg, load(file.with_suffix(".safetensors"), net=reg.net)):
        assert each.tasks_ == ["petal", 7]
        for task_id in each.tasks_:
            said = each.predict(X, task_id)
            np.testing.assert_allclose(said, expected[f"task {task_id}"], atol=1e-4)
        assert len(each.history_["petal"]) == 20
        each.partial_fit(X, load_iris().data[:, 0], task_id="more")
        np.testing.assert_allclose(each.predict(X, 7), expected["task 7"], atol=1e-4)


def test_files_whose_default_network_has_another_head_are_read():
    file = DATA / "format_5_encoded"
    X, y, said = (np.load(file.with_suffix(".npz"))[name] for name in ("X", "y", "said"))
    for clf in (joblib.load(file.with_suffix(".joblib")), load(file.with_suffix(".safetensors"))):
        for task_id, expected in zip("ab", said, strict=True):
            np.testing.assert_allclose(clf.predict_proba(X, task_id=task_id), expected, atol=1e-5)
        clf.partial_fit(X, y, task_id="more")
        assert clf.report_["more"]["start"] == "head"
        assert clf.score(X, y, task_id="more") > 0.8


def test_a_buffer_that_came_since_is_no_fault_of_an_earlier_file(tmp_path):
    """A later version of torch may have added it."""
    file = DATA / "format_4_instance.safetensors"
    reg = joblib.load(file.with_suffix(".joblib"))
    net = copy.deepcopy(reg.net)
    net.module[1].register_buffer("counted", torch.zeros(8))
    loaded = load(file, net=net)
    X = load_iris().data / 8
    assert np.array_equal(loaded.predict(X, 7), reg.predict(X, 7))
    save(reg, tmp_path / "model")
    with pytest.raises(ValueError, match=r"has 1\.counted, which was not saved"):
        load(tmp_path / "model", net=net)


def test_a_file_from_a_gpu_is_read_without_one(digits, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    X, y = digits
    clf = make_classifier().fit(X[:100], y[:100], task_id=np.repeat([0, 1], 50))
    expected = clf.predict_proba(X, 1)
    for net in (clf.net, clf.net_):
        vars(net)["device"] = "cuda"  # all else in a file is the same there
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = pickle.loads(pickle.dumps(clf))
    assert {warning.category for warning in caught} == {DeviceWarning}
    assert {str(net.device) for net in (loaded.net, loaded.net_)} == {"cpu"}
    assert np.array_equal(loaded.predict_proba(X, 1), expected)
    assert loaded.partial_fit(X[:50], y[:50], task_id=2).tasks_ == [0, 1, 2]


class OfAScript(MLP):
    __module__ = "__main__"


RESCUE = """
import joblib, __main__
try:
    joblib.load("model.joblib")
except AttributeError as error:
    print(error)
from tests.test_persistence import OfAScript  # or define it here
__main__.OfAScript = OfAScript
print(joblib.load("model.joblib").tasks_)
"""


def test_a_class_of_the_script_that_was_run_is_named(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("__main__.OfAScript", OfAScript, raising=False)
    clf = make_classifier(OfAScript).fit(digits[0][:60], digits[1][:60])
    joblib.dump(clf, tmp_path / "model.joblib")
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", RESCUE],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert "Can't get attribute 'OfAScript' on <module '__main__'" in found.stdout, found.stderr
    assert found.stdout.endswith("[0]\n")


def test_copies_are_independent(learned, digits):
    X, y = digits
    other = copy.deepcopy(learned)
    other.partial_fit(X[:100], y[:100], task_id="more")
    assert "more" not in learned.tasks_
    assert np.array_equal(other.predict_proba(X, 2), learned.predict_proba(X, 2))


def test_an_unfitted_estimator_can_be_pickled():
    clf = pickle.loads(pickle.dumps(make_classifier(max_rank=7)))
    assert clf.max_rank == 7
    assert not hasattr(clf, "classes_")


def test_the_default_network_and_instances_come_back(digits):
    X, y = digits
    for net in (None, make_net(MLP(n_classes=10))):
        clf = ContinualClassifier(net, random_state=0)
        clf.fit(X[:100], y[:100], task_id=np.repeat([0, 1], 50))
        loaded = pickle.loads(pickle.dumps(clf))
        assert np.array_equal(loaded.predict_proba(X, 1), clf.predict_proba(X, 1))


def test_a_file_of_a_later_format_is_refused(learned):
    state = of_format(learned.__getstate__(), 99)
    with pytest.raises(ValueError, match="newer version"):
        ContinualClassifier().__setstate__(state)


def test_another_module_than_the_saved_one_is_refused(learned):
    state = copy.copy(learned.__getstate__())
    state["net_"] = make_net(module__hidden=5)
    with pytest.raises(ValueError, match=r"saved with shape \(24, 64\).*\(5, 64\)"):
        ContinualClassifier().__setstate__(state)
