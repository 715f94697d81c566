"""Files are replaced whole, whoever writes, reads or dies meanwhile."""

import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from sklearn_halrp.persistence import dump, load, save
from tests.conftest import make_classifier, make_net


def save_or_skip(model, path):
    pytest.importorskip("safetensors")
    save(model, path)


def loaded(path):
    """What is in a file of either kind."""
    with open(path, "rb") as file:
        safe = file.read(9).endswith(b"{")
    return load(path, net=make_net()) if safe else joblib.load(path)


WRITERS = {"dump": dump, "save": save_or_skip}


@pytest.fixture(params=WRITERS)
def write(request):
    return WRITERS[request.param]


@pytest.fixture(scope="module")
def two(digits):
    """Two models that share neither labels nor weights."""
    X, y = digits
    return [
        make_classifier(random_state=seed).fit(X[:60], y[:60] % 2 + 5 * seed, task_id="a")
        for seed in (0, 1)
    ]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_read(write, two, digits, tmp_path):
    for model in two:
        write(model, tmp_path / "model")
        again = loaded(tmp_path / "model")
        assert np.array_equal(again.predict_proba(digits[0]), model.predict_proba(digits[0]))
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("compress", [3, True, ("gzip", 2), ("lzma", 1)])
def test_dump_compresses_as_joblib_does(compress, two, tmp_path):
    pipe = make_pipeline("passthrough", two[0])
    dump(pipe, tmp_path / "model", compress=compress)
    assert joblib.load(tmp_path / "model")[-1].tasks_ == ["a"]
    dump(pipe, tmp_path / "plain")
    assert (tmp_path / "model").stat().st_size < (tmp_path / "plain").stat().st_size


def test_permissions_stay_and_new_files_have_the_usual_ones(write, two, tmp_path):
    file, other = tmp_path / "model", tmp_path / "other"
    other.touch()
    write(two[0], file)
    assert file.stat().st_mode == other.stat().st_mode
    file.chmod(0o640)
    write(two[1], file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_link_stays_one(write, two, tmp_path):
    (tmp_path / "store").mkdir()
    link, real = tmp_path / "latest", tmp_path / "store" / "model"
    link.symlink_to(real)  # leads to nothing as yet
    for model in two:
        write(model, link)
        assert link.is_symlink()
        assert not real.is_symlink()
        assert loaded(real).classes_.tolist() == model.classes_.tolist()
    assert names(tmp_path / "store") == ["model"]


class Unwritable:
    """Fails half-way through being pickled."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error


@pytest.mark.parametrize("error", [OSError, MemoryError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_beside(error, two, tmp_path):
    file = tmp_path / "model"
    dump(two[0], file)
    before = file.read_bytes()
    with pytest.raises(error):
        dump([np.zeros(10_000), Unwritable(error())], file)
    assert file.read_bytes() == before
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("call", ["os.replace", "os.fsync", "os.chmod"])
def test_a_failure_of_the_system_leaves_the_old_file(call, write, two, tmp_path, monkeypatch):
    file = tmp_path / "model"
    write(two[0], file)
    before = file.read_bytes()
    monkeypatch.setattr(call, lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(two[1], file)
    assert file.read_bytes() == before
    assert names(tmp_path) == ["model"]


def test_what_is_no_plain_file_is_not_replaced(write, two, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="plain file"):
        write(two[0], tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        write(two[0], tmp_path)
    with pytest.raises(FileNotFoundError, match=r"missing'"):
        write(two[0], tmp_path / "missing" / "model")
    assert names(tmp_path) == ["pipe"]


def test_a_long_name_is_no_obstacle(write, two, tmp_path):
    write(two[0], tmp_path / ("ä" * 127))
    assert names(tmp_path) == ["ä" * 127]


@pytest.mark.parametrize(("days", "expected"), [(0.5, 2), (1.5, 1)])
def test_without_locks_what_is_old_is_removed(days, expected, two, tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError("no locks here")

    monkeypatch.setattr("fcntl.flock", refuse)
    file = tmp_path / "model"
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", lambda *args, **kwargs: None)  # as if it were killed
        with pytest.raises(ZeroDivisionError):
            dump(Unwritable(ZeroDivisionError()), file)
    (left,) = tmp_path.iterdir()
    then = time.time() - days * 24 * 3600
    os.utime(left, (then, then))
    dump(two[0], file)
    assert len(names(tmp_path)) == expected


def test_two_writers_and_a_reader_at_once(write, two, digits, tmp_path):
    """Every answer is that of one model or of the other."""
    file, X = tmp_path / "model", digits[0][:20]
    expected = {(m.classes_.tolist()[0], m.predict_proba(X).tobytes()) for m in two}
    write(two[0], file)
    failed, stop = [], threading.Event()

    def keep_writing(model):
        try:
            while not stop.is_set():
                write(model, file)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=keep_writing, args=(model,)) for model in two]
    for thread in threads:
        thread.start()
    found = set()
    try:
        for _ in range(40):
            model = loaded(file)
            found.add((model.classes_.tolist()[0], model.predict_proba(X).tobytes()))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert found <= expected
    assert names(tmp_path) == ["model"]


KILLS = """
import os, random, signal, sys, time
import joblib
from sklearn_halrp.persistence import dump

path, folder, chance = sys.argv[1], os.path.dirname(sys.argv[1]), random.Random(int(sys.argv[3]))
dump([bytes(1_000_000)] * 3, path)
for _ in range(int(sys.argv[2])):
    writer = os.fork()
    while not writer:
        dump([bytes(1_000_000)] * 3, path)
    time.sleep(chance.uniform(0, 0.05))
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    assert joblib.load(path) == [bytes(1_000_000)] * 3
    print(len(os.listdir(folder)) - 1)
"""


def kill_writers(file, n_kills, seed):
    """Kill processes that write, at random moments; return how many files each left beside."""
    command = [sys.executable, "-W", "ignore", "-c", KILLS, str(file), str(n_kills), str(seed)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True
    )
    return list(map(int, done.stdout.split()))


def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path):
    left = kill_writers(tmp_path / "model", 5, seed=0)
    assert max(left) <= 1  # those before it were removed by the next
    dump("done", tmp_path / "model")
    assert names(tmp_path) == ["model"]


@pytest.mark.slow
def test_writers_that_are_killed_hundreds_of_times_leave_a_whole_file(tmp_path):
    left = kill_writers(tmp_path / "model", 500, seed=1)
    assert sum(left) > 50  # so they were killed while they wrote
    assert max(left) <= 1
    dump("done", tmp_path / "model")
    assert names(tmp_path) == ["model"]
