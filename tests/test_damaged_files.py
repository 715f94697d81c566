"""A damaged or hostile file gives one ValueError that names it, and never another model."""

import io
import json
import lzma
import pickle
import random
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from skorch import NeuralNetRegressor
from torch import nn

from sklearn_halrp import ContinualClassifier, ContinualRegressor
from sklearn_halrp.persistence import load, save
from tests.conftest import make_net, permuted
from tests.inside import digest, many_tasks, network_of

safetensors = pytest.importorskip("safetensors.numpy")
numpy_of, to_safe = safetensors.load, safetensors.save

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def small(digits):
    """A model of few bytes, with the kinds of ids and labels that there are."""
    X, y = digits
    X, y = X[:60, 20:28], y[:60]
    net = small_net()
    clf = ContinualClassifier(net, random_state=0)
    clf.partial_fit(X, y % 2, task_id="a")
    clf.partial_fit(permuted(X, 1), np.array(["no", "yes", "maybe"])[y % 3], task_id=7)
    clf.partial_fit(permuted(X, 2), y % 4 > 1, task_id="ü")
    return clf, X


class Small(nn.Module):
    def __init__(self, n_layers=2, activation=nn.ReLU, mask=False):
        super().__init__()
        self.first = nn.Linear(8, 6)
        self.rest = nn.ModuleList(nn.Linear(6, 6) for _ in range(n_layers - 1))
        self.activation = activation()
        self.last = nn.Linear(6, 2)
        if mask:
            self.register_buffer("mask", nn.init.ones_(self.first.bias.detach().clone()))

    def forward(self, x):
        x = self.activation(self.first(x))
        for layer in self.rest:
            x = self.activation(layer(x))
        return self.last(x * self.mask if hasattr(self, "mask") else x)


def small_net(module=Small, **settings):
    return make_net(module, **{"max_epochs": 2, "train_split": None, **settings})


def refusal_of(error, path):
    """The text of an error, which names the file; a net of the other kind is a TypeError."""
    text = str(error)
    assert str(path) in text or (isinstance(error, TypeError) and "skorch" in text), text
    return text


def said(clf, X):
    """All that a model says, to the last bit."""
    return [
        (task_id, clf.task_classes_[task_id].tolist(), clf.predict_proba(X, task_id).tobytes())
        for task_id in clf.tasks_
    ]


def settings_of(clf):
    return {k: v for k, v in clf.get_params(deep=False).items() if k != "net"}


# --- bits --------------------------------------------------------------------------------


def flip_safe(content, number):
    file = bytearray(content)
    file[number // 8] ^= 1 << number % 8
    return bytes(file)


def assert_same_or_refused(clf, X, path, content):
    """Load a file of which a bit was flipped; return whether the fault was named."""
    path.write_bytes(content)
    try:
        loaded = load(path, net=small_net())
    except ValueError as error:
        text = refusal_of(error, path)
        return any(word in text for word in ("damaged", "no file of", "newer version"))
    assert said(loaded, X) == said(clf, X)
    assert settings_of(loaded) == settings_of(clf)
    return None


def flips(n_bits, n_flips, seed):
    return random.Random(seed).sample(range(n_bits), n_flips)


def flip_bits_of_safe(clf, X, path, n_flips, seed):
    save(clf, path)
    content = path.read_bytes()
    found = [
        assert_same_or_refused(clf, X, path, flip_safe(content, number))
        for number in flips(8 * len(content), n_flips, seed)
    ]
    assert False not in found
    assert found.count(True) >= 0.98 * n_flips  # the case of an escaped letter changes nothing


def test_a_flipped_bit_of_a_safe_file_is_found(small, tmp_path):
    flip_bits_of_safe(*small, tmp_path / "model", 300, seed=0)


@pytest.mark.slow
def test_thousands_of_flipped_bits_of_a_safe_file_are_found(small, tmp_path):
    flip_bits_of_safe(*small, tmp_path / "model", 5000, seed=1)


def test_every_length_of_a_safe_file_is_refused(small, tmp_path):
    clf, X = small
    save(clf, tmp_path / "model")
    content = (tmp_path / "model").read_bytes()
    for length in range(0, len(content), 97):
        assert assert_same_or_refused(clf, X, tmp_path / "model", content[:length])
    assert assert_same_or_refused(clf, X, tmp_path / "model", content + b"\0")


def learned_part(clf):
    """What pickle makes of a model: all but its net, which is the user's."""
    state = clf.__getstate__()
    return {name: value for name, value in state.items() if name not in ("net", "net_")}


def is_flag(content, number):
    """Whether this bit is one of the flags of a numpy type, the last of what a pickle says of it.

    With it set numbers may be references, and whoever drops the array may end the process.
    """
    place = number // 8
    return content[place - 1 : place + 3] == b"K\0t\x94" and content[place + 3 : place + 4] == b"b"


def flip_bits_of_pickle(clf, X, dump, read, n_flips, seed):
    """Flip bits of what was learned as pickle or joblib write it."""
    content = dump(learned_part(clf))
    found = 0
    for number in flips(8 * len(content), n_flips, seed):
        if is_flag(content, number):
            found += 1  # see test_numbers_that_one_bit_has_made_objects_are_found
            continue
        try:
            state = read(flip_safe(content, number))
        except Exception:  # pickle's own: it says what it finds
            found += 1
            continue
        loaded = ContinualClassifier()
        try:
            whole = isinstance(state, dict)
            nets = {"net": clf.net, "net_": clf.net_}
            loaded.__setstate__(state | nets if whole else state)
        except ValueError as error:
            found += "damaged" in str(error) or "newer version" in str(error)
            continue
        assert said(loaded, X) == said(clf, X)
        assert settings_of(loaded) == settings_of(clf)
    assert found >= 0.9 * n_flips


def joblibs(value):
    file = io.BytesIO()
    joblib.dump(value, file)
    return file.getvalue()


PICKLES = {
    "pickle": (pickle.dumps, pickle.loads),
    "joblib": (joblibs, lambda content: joblib.load(io.BytesIO(content))),
}


@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.filterwarnings("ignore")
def test_a_flipped_bit_of_a_pickle_is_found(name, small):
    flip_bits_of_pickle(*small, *PICKLES[name], 300, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.filterwarnings("ignore")
def test_thousands_of_flipped_bits_of_a_pickle_are_found(name, small):
    flip_bits_of_pickle(*small, *PICKLES[name], 5000, seed=1)


READ_FLAGGED = """
import os, pickle, sys
from sklearn_halrp import ContinualClassifier
from tests.test_damaged_files import small_net

net = small_net()
state = pickle.loads(open(sys.argv[1], "rb").read())
try:
    ContinualClassifier(net).__setstate__(state | {"net": net, "net_": net})
except ValueError as error:
    print(error)
sys.stdout.flush()
os._exit(0)  # numpy takes the numbers for references, and would give them back
"""


def test_numbers_that_one_bit_has_made_objects_are_found(small, tmp_path):
    content = pickle.dumps(learned_part(small[0]))
    (tmp_path / "whole").write_bytes(content)
    places = [i for i in range(len(content)) if is_flag(content, 8 * i)]
    assert places
    for place in places:
        flagged = content[:place] + b"\x01" + content[place + 1 :]
        (tmp_path / "flagged").write_bytes(flagged)
        done = subprocess.run(
            [sys.executable, "-c", READ_FLAGGED, str(tmp_path / "flagged")],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "damaged" in done.stdout, done


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_a_flipped_bit_of_a_given_instance_is_found(part, digits):
    X, y = digits
    net = small_net(module=Small())
    clf = ContinualClassifier(net, base="pretrained", random_state=0).fit(X[:60, :8], y[:60] % 2)
    state = clf.__getstate__()
    assert state["_network"]["base"]["first.weight"] is None  # it is in the module alone
    getattr(net.module.first, part).data[0] += 1e-6
    with pytest.raises(ValueError, match="damaged"):
        ContinualClassifier().__setstate__(state)


# --- settings, with the digest of an attacker ---------------------------------------------


def parts_of(file):
    """The settings of a safe file, and its arrays."""
    content = file.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    return json.loads(header["__metadata__"]["sklearn_halrp"]), numpy_of(content)


def write(file, about, arrays):
    """Write a safe file as anybody may, whatever it says."""
    about = {name: value for name, value in about.items() if name != "digest"}
    about["digest"] = digest(about, arrays)
    file.write_bytes(to_safe(arrays, metadata={"sklearn_halrp": json.dumps(about)}))


def places_in(value, path=()):
    """Every entry of nested settings."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, entry in list(entries):
        yield (*path, key)
        if isinstance(entry, dict | list):
            yield from places_in(entry, (*path, key))


OTHERS = [None, -1, 0, 2, 1.5, "", "x", [], {}, [1], True, 10**30, "last.weight", 2**31, [[]]]


def changed(about, place, chance):
    """Another value in one place of the settings, or none."""
    about = json.loads(json.dumps(about))
    *way, key = place
    inside = about
    for step in way:
        inside = inside[step]
    other = chance.choice([*OTHERS, "gone", "twice"])
    if other == "gone":
        del inside[key]
    elif other == "twice" and isinstance(inside, list):
        inside.append(inside[key])
    else:
        inside[key] = other
    return about


def change_settings(clf, X, file, n_changes, seed, net):
    """Change settings; a file is refused, or all of the model works."""
    save(clf, file)
    about, arrays = parts_of(file)
    places = [p for p in places_in(about) if p[0] != "digest" and p[-1] != "task_column"]
    # The parameters decide what is learned later, and are many.
    places = [p for p in places if p[0] != "parameters"] * 3 + places
    chance, refused = random.Random(seed), 0
    for _ in range(n_changes):
        other = changed(about, chance.choice(places), chance)
        write(file, other, arrays)
        try:
            loaded = load(file, net=net())
        except (ValueError, TypeError) as error:
            refused += bool(refusal_of(error, file))
            continue
        for task_id in loaded.tasks_:
            assert len(loaded.predict(X, task_id)) == len(X)
        assert loaded.report().shape[0] == len(loaded.tasks_)
        assert loaded.history_.keys() == loaded.report_.keys() == loaded.growth_.keys()
        loaded.to_module(loaded.tasks_[0])(torch.from_numpy(X))
        loaded.predict(X[:2], [loaded.tasks_[0], loaded.tasks_[-1]])
    assert refused > n_changes / 2


@pytest.mark.filterwarnings("ignore:.*It was saved with")
def test_other_settings_are_refused_or_work(small, tmp_path):
    clf, X = small
    change_settings(clf, X, tmp_path / "model", 250, 0, small_net)


def numbers_net():
    return NeuralNetRegressor(Small, max_epochs=2, train_split=None, verbose=0)


@pytest.fixture(scope="module")
def numbers(digits):
    X, y = digits
    X, y = X[:60, 20:28], y[:60].astype(np.float32)
    reg = ContinualRegressor(numbers_net(), random_state=0)
    reg.partial_fit(X, np.stack([y, -y], 1), task_id=0)
    return reg.partial_fit(X, np.stack([y + 1, y**2], 1), task_id=1), X


@pytest.mark.filterwarnings("ignore:.*It was saved with")
def test_other_settings_of_a_regressor_are_refused_or_work(numbers, tmp_path):
    change_settings(*numbers, tmp_path / "model", 100, 0, numbers_net)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*It was saved with")
@pytest.mark.parametrize("seed", range(4))
def test_thousands_of_other_settings_are_refused_or_work(small, numbers, seed, tmp_path):
    change_settings(*small, tmp_path / "model", 1000, seed + 1, small_net)
    change_settings(*numbers, tmp_path / "model", 500, seed + 1, numbers_net)


HOSTILE = {
    "labels of another number": lambda n: n["tasks"][0]["classes"]["labels"].append(9),
    "labels not sorted": lambda n: n["tasks"][0]["classes"]["labels"].reverse(),
    "labels twice": lambda n: n["tasks"][0]["classes"].update(labels=[1, 1]),
    "labels that are cut": lambda n: n["tasks"][1]["classes"].update(type="<U1"),
    "labels of another type": lambda n: n["tasks"][1]["classes"].update(type="<f8"),
    "an id that is none": lambda n: n["tasks"][1].update(id=1.5),
    "an id twice": lambda n: n["tasks"][1].update(id="a"),
    "no id": lambda n: n["tasks"][1].pop("id"),
    "another head": lambda n: n["roles"].update(head="first"),
    "no head": lambda n: n["roles"].update(head="nowhere"),
    "a role twice": lambda n: n["roles"]["shared"].append("first.weight"),
    "a role of nothing": lambda n: n["roles"]["own"].append("nowhere"),
    "a role less": lambda n: n["roles"]["own"].remove("first.bias"),
    "another name": lambda n: n["roles"]["aliases"].update({"first.weight": ["rest.0.weight"]}),
    "another form": lambda n: n.update(form="diagonal"),
    "too few numbers": lambda n: n["tasks"][1].update(data=16),
    "a task less": lambda n: n["tasks"].pop(),
    "no tasks": lambda n: n["tasks"].clear(),
    "no visit": lambda n: n["tasks"][0].update(visits=0),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_does_not_fit_together_is_refused(name, small, tmp_path):
    file = tmp_path / "model"
    save(small[0], file)
    about, arrays = parts_of(file)
    HOSTILE[name](about["learned"]["_network"])
    write(file, about, arrays)
    with pytest.raises(ValueError, match=r"model (is damaged|does not fit the net)"):
        load(file, net=small_net())


# --- memory ---------------------------------------------------------------------------------


def with_notes(notes):
    return lambda about, arrays: arrays.update(
        {"_network/notes": np.frombuffer(lzma.compress(notes, preset=0), np.uint8)}
    )


def in_task(**entries):
    return lambda about, arrays: network_part(about)["tasks"][1].update(entries)


def network_part(about):
    return about["learned"]["_network"]


def empty_head(about, arrays):
    name = network_part(about)["roles"]["head"]
    arrays[f"_network/base/{name}.weight"] = np.zeros((10**9, 0), np.float32)


def deep_json(about, arrays):
    about["learned"]["_seed"] = "NEST"


HUGE = {
    "notes": with_notes(b" " * 2**27),
    "notes of many": with_notes(b"\n" * 2**25),
    "rows": lambda about, arrays: about["learned"].update(
        sample_shape_=[10**6, 10**6], n_features_in_=10**6
    ),
    "wide labels": in_task(classes={"type": "<U100000000", "labels": ["no", "yes"]}),
    "a head without inputs": empty_head,
    "many features": lambda about, arrays: about["learned"].update(
        sample_shape_=[2**28], n_features_in_=2**28
    ),
    "deep settings": deep_json,
    "nested labels": in_task(classes={"type": "(100000000,)<i8", "labels": [1, 2]}),
}

LIMITED = """
import resource, sys, warnings
import torch
from sklearn_halrp.persistence import load
from tests.test_damaged_files import small_net
usage = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (usage + 2**27,) * 2)
for path in sys.argv[1:]:
    try:
        load(path, net=None if path.endswith("none") else small_net())
        print("loaded")
    except ValueError as error:
        print("MemoryError" if "MemoryError" in str(error) else "refused")
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited on Linux")
def test_small_files_take_little_memory(small, digits, tmp_path):
    """Each is refused, or does no harm, in a process that gets 128 MiB more."""
    default = ContinualClassifier(random_state=0).fit(digits[0][:60, :8], digits[1][:60] % 2)
    files = []
    for name, change in HUGE.items():
        for model, ending in [(small[0], "net"), (default, "none")]:
            if ending == "none" and name not in ("rows", "many features", "a head without inputs"):
                continue  # they are the same to both
            file = tmp_path / f"{name}.{ending}"
            save(model, file)
            about, arrays = parts_of(file)
            change(about, arrays)
            write(file, about, arrays)
            if name == "deep settings":
                nest = b"[" * 100_000 + b"]" * 100_000
                content = file.read_bytes().replace(b'\\"NEST\\"', nest)
                (size,) = struct.unpack("<Q", content[:8])
                file.write_bytes(struct.pack("<Q", size + len(nest) - 8) + content[8:])
            assert file.stat().st_size < 500_000
            files.append(str(file))
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *files],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert len(done.stdout.split()) == len(files), done.stderr[-2000:]
    found = dict(zip([Path(f).name for f in files], done.stdout.split(), strict=True))
    assert set(found.values()) <= {"refused", "loaded"}, (found, done.stderr[-2000:])
    assert {name for name, what in found.items() if what == "loaded"} <= {"wide labels.net"}


@pytest.mark.parametrize(
    ("number", "name", "notes"),
    [
        (1, "task/1/notes", zlib.compress(b" " * 2**27, 1)),
        (2, "task/0/notes", zlib.compress(b"[" * 2**27, 1)),
        (3, "notes", lzma.compress(b" " * 2**26, preset=0)),
        (4, "_network/notes", lzma.compress(b"\n" * 2**22, preset=0)),
    ],
)
def test_files_of_earlier_formats_take_little_memory(number, name, notes, tmp_path):
    content = (DATA / f"format_{number}.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    about = json.loads(content[8 : 8 + size])["__metadata__"]
    arrays = numpy_of(content)
    assert name in arrays
    arrays[name] = np.frombuffer(notes, np.uint8)
    (tmp_path / "model").write_bytes(to_safe(arrays, metadata=about))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"model is damaged: .*notes"):
            load(tmp_path / "model")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2**26


# --- another network ------------------------------------------------------------------------


OTHER_MODULES = {
    "more layers": ({"module__n_layers": 3}, r"has rest\.1\.weight, which was not saved"),
    "fewer layers": ({"module__n_layers": 1}, r"rest\.0\.weight was saved, and .* no such tensor"),
    "a buffer more": ({"module__mask": True}, "has mask, which was not saved"),
    "another activation": ({"module__activation": nn.Tanh}, "computes something else"),
    "a similar activation": ({"module__activation": nn.LeakyReLU}, "computes something else"),
    "other probabilities": ({"predict_nonlinearity": None}, "computes something else"),
}


@pytest.mark.parametrize("name", OTHER_MODULES)
def test_another_module_is_found_in_every_kind_of_file(name, small, tmp_path):
    settings, message = OTHER_MODULES[name]
    clf, _ = small
    save(clf, tmp_path / "model")
    with pytest.raises(ValueError, match=f"model.*{message}"):
        load(tmp_path / "model", net=small_net(**settings))
    # As joblib finds it when the code's defaults have changed since.
    state = {**clf.__getstate__(), "net": small_net(**settings), "net_": small_net(**settings)}
    with pytest.raises(ValueError, match=message):
        ContinualClassifier().__setstate__(state)


def test_the_fingerprint_is_small_and_draws_nothing(small):
    clf, _ = small
    before = torch.random.get_rng_state(), np.random.get_state()[1].tobytes(), random.getstate()
    state = clf.__getstate__()
    after = torch.random.get_rng_state(), np.random.get_state()[1].tobytes(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert state["fingerprint"] is not None


class Noisy(Small):
    """Is random also when it predicts."""

    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.5, training=True))


class Picky(Small):
    """Takes no rows but its own."""

    def forward(self, x):
        if len(x) > 2 or self.training:
            return super().forward(x)
        raise RuntimeError("too few rows")


@pytest.mark.parametrize("module", [Noisy, Picky])
def test_modules_that_tell_nothing_of_made_up_rows_are_saved_all_the_same(module, digits, tmp_path):
    X, y = digits
    clf = ContinualClassifier(small_net(module=module), random_state=0)
    clf.fit(X[:60, 20:28], y[:60] % 2)
    before = torch.random.get_rng_state()
    state = clf.__getstate__()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert state["fingerprint"] is None
    save(clf, tmp_path / "model")
    assert load(tmp_path / "model", net=small_net(module=module)).tasks_ == [0]


# --- one array for all tasks ----------------------------------------------------------------


def test_two_thousand_tasks_are_mapped_at_once(small, tmp_path):
    """Each took two maps, of which a system gives tens of thousands, and two open files."""
    resource = pytest.importorskip("resource")
    clf, X = small
    many = many_tasks(clf, 7, 2000)
    joblib.dump(many, tmp_path / "model")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        loaded = joblib.load(tmp_path / "model", mmap_mode="r")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    expected = many.predict_proba(X, 0)
    for task_id in (0, 1999):
        assert np.array_equal(loaded.predict_proba(X, task_id), expected)
    assert isinstance(network_of(loaded).tasks[1999].data, np.memmap)


@pytest.mark.parametrize("mmap_mode", [None, "r"])
def test_what_is_forgotten_is_in_no_file(mmap_mode, small, tmp_path):
    clf, _ = small
    joblib.dump(clf, tmp_path / "model")
    loaded = joblib.load(tmp_path / "model", mmap_mode=mmap_mode)
    numbers = {t: network_of(clf).tasks[t].data[-40:].tobytes() for t in (7, "ü")}
    loaded.forget_task(7)
    for content in (pickle.dumps(loaded), joblibs(loaded)):
        assert numbers["ü"] in content
        assert numbers[7] not in content
    save(loaded, tmp_path / "safe")
    assert numbers["ü"] in (tmp_path / "safe").read_bytes()
    assert numbers[7] not in (tmp_path / "safe").read_bytes()
