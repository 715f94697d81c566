import copy
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest

from sklearn_halrp import ContinualClassifier
from tests.conftest import make_classifier, make_net, permuted
from tests.modules import MLP


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
    assert len(pickle.dumps(clf)) < 1.05 * clf.n_bytes_


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
    state = learned.__getstate__()
    state["_network"] = {**state["_network"], "format": 99}
    with pytest.raises(ValueError, match="newer version"):
        ContinualClassifier().__setstate__(state)


def test_another_module_than_the_saved_one_is_refused(learned):
    state = copy.copy(learned.__getstate__())
    state["net_"] = make_net(module__hidden=5)
    with pytest.raises(ValueError, match=r"saved with shape \(24, 64\).*\(5, 64\)"):
        ContinualClassifier().__setstate__(state)
