"""Files without code: what comes back, and what is refused."""

import json
import pickle
import re
import struct

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from sklearn_halrp import ContinualClassifier, ContinualRegressor
from sklearn_halrp.persistence import dump, load, save
from sklearn_halrp.store import Store
from tests.conftest import make_classifier, make_net, permuted
from tests.inside import Task, digest
from tests.modules import ZOO
from tests.test_promises import assert_untouched, snapshot

safetensors = pytest.importorskip("safetensors.numpy")
numpy_of, save_file = safetensors.load, safetensors.save_file


def test_every_network_comes_back(animal, digits, tmp_path, monkeypatch):
    X, y = digits
    X = X.reshape(-1, *animal.shape)
    clf = make_classifier(animal.module, growth_budget=2.0, random_state=np.random.RandomState(0))
    clf.partial_fit(X[:100], y[:100], task_id="first")
    clf.partial_fit(permuted(X[:100], 1), [f"c{label % 3}" for label in y[:100]], task_id=1)
    save(clf, tmp_path / "model.safetensors")
    loaded = load(tmp_path / "model.safetensors", net=make_net(animal.module))
    assert loaded.tasks_ == ["first", 1]
    assert loaded.classes_.tolist() == clf.classes_.tolist()
    assert_untouched(snapshot(clf), snapshot(loaded))
    for each in (clf, loaded):
        each.partial_fit(permuted(X[:100], 2), y[:100], task_id="more")
    for task_id in clf.tasks_:
        assert np.array_equal(loaded.predict_proba(X, task_id), clf.predict_proba(X, task_id))
    assert loaded.history_["first"] == clf.history_["first"]
    assert loaded.report_[1] == clf.report_[1]


class TiedToHead(ZOO["mlp"].module):
    """A layer that has the weight of the head."""

    def __init__(self):
        super().__init__()
        self.other = nn.Linear(24, 10, bias=False)
        self.other.weight = self.last.weight

    def forward(self, x):
        x = self.body(x)
        return self.last(x + self.other(x).mean())


@pytest.mark.parametrize("base", ["first", "pretrained"])
def test_a_weight_that_is_tied_to_the_head_comes_back(base, digits, tmp_path):
    X, y = digits
    clf = make_classifier(TiedToHead(), base=base, growth_budget=2.0)
    clf.fit(X[:100], y[:100]).partial_fit(X[:100], y[:100] % 3, task_id="b")
    save(clf, tmp_path / "model")
    for loaded in (
        load(tmp_path / "model", net=make_net(TiedToHead)),
        pickle.loads(pickle.dumps(clf)),
    ):
        for task_id in clf.tasks_:
            assert np.array_equal(loaded.predict_proba(X, task_id), clf.predict_proba(X, task_id))


def test_the_default_network_needs_no_net(digits, tmp_path):
    X, y = digits
    frame = pd.DataFrame(X, columns=[f"pixel {i}" for i in range(64)])
    clf = ContinualClassifier(random_state=3, max_rank=7, dtype=np.float32)
    clf.fit(frame[:200], y[:200], np.repeat(["a", "b"], 100))
    file = tmp_path / "model"
    save(clf, str(file))
    loaded = load(str(file))
    assert loaded.max_rank == 7
    assert loaded.feature_names_in_.tolist() == clf.feature_names_in_.tolist()
    assert np.array_equal(loaded.predict_proba(frame, "b"), clf.predict_proba(frame, "b"))
    assert file.stat().st_size < clf.n_bytes_ + 10_000  # mostly the history of 100 epochs
    assert [f.name for f in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("seed", [3, np.int64(3), np.uint8(3)])
def test_the_random_state_comes_back(seed, digits, tmp_path):
    X, y = digits
    clf = ContinualClassifier(random_state=seed).fit(X[:60], y[:60])
    save(clf, tmp_path / "model")
    assert load(tmp_path / "model").random_state == 3


class Elsewhere(ZOO["mlp"].module):
    """The same tensors under another name."""


def test_a_module_of_another_name_is_said(learned, digits, tmp_path, recwarn):
    save(learned, tmp_path / "model")
    load(tmp_path / "model", net=make_net(ZOO["mlp"].module()))  # as an instance
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"module=tests.modules.MLP, .* with .*Elsewhere"):
        loaded = load(tmp_path / "model", net=make_net(Elsewhere))
    assert np.array_equal(loaded.predict_proba(digits[0], 2), learned.predict_proba(digits[0], 2))


LOSSES = {
    # What outputs mean is other, and so are the predictions.
    "probabilities": (ContinualClassifier, nn.CrossEntropyLoss, nn.NLLLoss, True),
    "logarithms": (ContinualRegressor, nn.MSELoss, nn.PoissonNLLLoss, True),
    "distances": (ContinualRegressor, nn.MSELoss, nn.L1Loss, False),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_net_with_another_loss_is_said(name, digits, tmp_path, recwarn):
    kind, saved, other, refused = LOSSES[name]
    X, y = digits
    net_class = NeuralNetClassifier if kind is ContinualClassifier else NeuralNetRegressor

    n_outputs = 10 if kind is ContinualClassifier else 1
    module = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, n_outputs))

    def net(criterion):
        return net_class(module, criterion=criterion, max_epochs=1, verbose=0)

    clf = kind(net(saved), random_state=0).fit(X[:100], y[:100])
    save(clf, tmp_path / "model")
    load(tmp_path / "model", net=net(saved))
    assert not recwarn.list
    message = f"criterion=.*{saved.__name__}, .* with .*{other.__name__}"
    if refused:
        with pytest.raises(ValueError, match=f"computes something else.*{message}"):
            load(tmp_path / "model", net=net(other))
    else:
        with pytest.warns(UserWarning, match=message):
            load(tmp_path / "model", net=net(other))


class Own(ContinualClassifier):
    pass


def test_what_would_not_come_back_is_not_saved(learned, digits, tmp_path):
    X, y = digits
    file = tmp_path / "model"
    pipe = make_pipeline("passthrough", learned)
    search = GridSearchCV(make_classifier(), {}, cv=2, refit=False)
    search.best_estimator_ = pipe
    for estimator, message in [
        (pipe, r"got a Pipeline\. .* save\(model\[-1\], path\)"),
        (search, r"got a GridSearchCV\. .*best_estimator_\[-1\]"),
        (GaussianNB().fit(X, y), r"got a GaussianNB\.$"),
        (Own().fit(X[:60], y[:60]), "Own would come back as a plain .* Use joblib"),
    ]:
        with pytest.raises(TypeError, match=message):
            save(estimator, file)
        assert not file.exists()


def test_loading_runs_no_pickle(learned, tmp_path, monkeypatch):
    save(learned, tmp_path / "model")

    def refuse(*args, **kwargs):
        raise AssertionError("a pickle was read")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    assert load(tmp_path / "model", net=make_net()).tasks_ == learned.tasks_


def test_a_file_needs_the_net_it_was_saved_with(learned, tmp_path):
    save(learned, tmp_path / "model")
    (tmp_path / "other").touch()
    with pytest.raises(ValueError, match=r"pass a net with tests\.modules\.MLP and the same arg"):
        load(tmp_path / "model")
    with pytest.raises(TypeError, match="NeuralNetClassifier"):
        load(tmp_path / "model", net=ZOO["mlp"].module)
    with pytest.raises(ValueError, match=r"body\.0\.\w+ was saved, and the net's module has no"):
        load(tmp_path / "model", net=make_net(ZOO["einsum"].module))
    assert (tmp_path / "model").stat().st_mode == (tmp_path / "other").stat().st_mode
    with pytest.raises(ValueError, match="saved with shape"):
        load(tmp_path / "model", net=make_net(module__hidden=7))


def rewrite(file, change, seal=True):
    """Change the settings of a file, leaving its numbers; then its digest, as an attacker may."""
    data = file.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    about = json.loads(header["__metadata__"]["sklearn_halrp"])
    change(about)
    if seal:
        about.pop("digest", None)
        about["digest"] = digest(about, numpy_of(data))
    header["__metadata__"]["sklearn_halrp"] = json.dumps(about)
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def network_in(about):
    """The part of a file's settings that is about base and tasks."""
    return about["learned"]["_network"]


DAMAGE = {
    "no tasks": (lambda about: network_in(about).pop("tasks"), "damaged"),
    "other parameters": (lambda about: about["parameters"].update(evil=1), "damaged.*evil"),
    "other count": (lambda about: network_in(about)["tasks"][1].update(n_numbers=3), "damaged"),
    "unknown type": (
        lambda about: network_in(about)["tasks"][1].update(classes={"type": "zz", "labels": []}),
        "damaged",
    ),
    "later format": (lambda about: about.update(format=99), "newer version"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_refused(learned, tmp_path, name):
    change, message = DAMAGE[name]
    file = tmp_path / "model"
    save(learned, file)
    rewrite(file, change)
    with pytest.raises(ValueError, match=message):
        load(file, net=make_net())


def test_other_files_are_refused(learned, tmp_path):
    file = tmp_path / "model"
    file.write_bytes(pickle.dumps(learned))
    with pytest.raises(ValueError, match="is no file of"):
        load(file, net=make_net())
    save(learned, file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is no file of"):
        load(file, net=make_net())
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere", net=make_net())


OTHERS = {
    "pickle": (lambda model, path: path.write_bytes(pickle.dumps(model)), r"joblib\.load"),
    "joblib": (dump, r"looks like a pickle: use joblib\.load, if you trust its author"),
    "zlib": (lambda model, path: dump(model, path, compress=3), "a pickle"),
    "gzip": (lambda model, path: dump(model, path, compress=("gzip", 3)), "a pickle"),
    "xz": (lambda model, path: dump(model, path, compress=("xz", 1)), "a pickle"),
    "lzma": (lambda model, path: dump(model, path, compress=("lzma", 1)), "a pickle"),
    "bz2": (lambda model, path: dump(model, path, compress=("bz2", 1)), "a pickle"),
    "store": (lambda model, path: Store.create(path, model).close(), r"a store, .*store\.Store"),
    "text": (lambda model, path: path.write_text("hello world\n" * 30), "is no file of"),
    "empty": (lambda model, path: path.touch(), "is no file of"),
    "numbers": (lambda model, path: save_file({"a": np.ones(3)}, path), "is no file of"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_files_of_other_kinds_are_named(learned, tmp_path, name):
    write, message = OTHERS[name]
    file = tmp_path / "model"
    write(learned, file)
    with pytest.raises(ValueError, match=rf"{re.escape(str(file))}.*{message}") as caught:
        load(file, net=make_net())
    assert "make a" not in str(caught.value)


@pytest.mark.parametrize("place", range(9))
def test_a_flipped_first_byte_is_no_advice_on_size(learned, tmp_path, place):
    file = tmp_path / "model"
    save(learned, file)
    content = bytearray(file.read_bytes())
    for bit in range(8):
        content[place] ^= 1 << bit
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged") as caught:
            load(file, net=make_net())
        assert "Store" not in str(caught.value)
        content[place] ^= 1 << bit


def test_a_net_for_a_file_of_the_default_network(digits, tmp_path):
    X, y = digits
    clf = ContinualClassifier(random_state=0).fit(X[:100], y[:100])
    save(clf, tmp_path / "model")
    with pytest.raises(ValueError, match=r"with the default network: leave net out, load\(path\)"):
        load(tmp_path / "model", net=make_net())
    same = load(tmp_path / "model", net=clf.net_)
    assert np.array_equal(same.predict_proba(X), clf.predict_proba(X))


def test_a_failure_leaves_the_old_file(learned, tmp_path, monkeypatch):
    file = tmp_path / "model"
    save(learned, file)
    before = file.read_bytes()
    monkeypatch.setattr("os.replace", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(learned, file)
    assert file.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("net", [None, make_net()])
def test_skops_keeps_a_classifier_too(net, digits, tmp_path):
    skops = pytest.importorskip("skops.io")
    X, y = digits
    clf = ContinualClassifier(net, random_state=0).fit(X[:100], y[:100], np.repeat(["a", "b"], 50))
    skops.dump(clf, tmp_path / "model.skops")
    trusted = skops.get_untrusted_types(file=tmp_path / "model.skops")
    assert not [name for name in trusted if name.startswith(Task.__module__)]
    loaded = skops.load(tmp_path / "model.skops", trusted=trusted)
    for each in (clf, loaded):
        each.partial_fit(permuted(X[:100], 2), y[:100], task_id="c")
    for task_id in clf.tasks_:
        assert np.array_equal(loaded.predict_proba(X, task_id), clf.predict_proba(X, task_id))
