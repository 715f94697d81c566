"""One task trained by two processes together, and the commands of docs/guide/machines.md."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier

from sklearn_halrp import ContinualClassifier
from tests.conftest import permuted
from tests.test_parallel import assert_same

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
PAGE = (ROOT / "docs" / "guide" / "machines.md").read_text()


def from_page(begin):
    """The command of the page that begins like this, as a list."""
    (line,) = re.findall(rf"^{begin}.*$", PAGE, re.MULTILINE)
    program, *arguments = shlex.split(line, comments=True)
    return [BIN / program, *arguments]


TOGETHER = from_page("torchrun")[:-1]


@contextmanager
def started(*command):
    """A command that runs, with all processes that it starts, until the end of the block."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()  # it ends those that it started, as a kill would not
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def run(*command):
    """Run a command to its end and return what it prints."""
    with started(*command) as process:
        printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    return printed


@pytest.fixture
def networks(monkeypatch):
    """The examples' networks, under the name that their saved models know them by."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "examples")
    return pytest.importorskip("networks")


@pytest.mark.slow
def test_two_processes_train_one_task_as_well_as_one(networks, tmp_path):
    pytest.importorskip("accelerate")
    printed = run(*from_page("torchrun"), tmp_path / "model.joblib")
    assert printed.count("upright: 9") == 1  # one process prints
    together = joblib.load(tmp_path / "model.joblib")
    known = NeuralNetClassifier(None).get_params(deep=False)
    settings = together.net.get_params(deep=False).items()
    plain = NeuralNetClassifier(**{name: value for name, value in settings if name in known})
    X, y = load_digits(return_X_y=True)
    alone = ContinualClassifier(plain, random_state=0)
    for task_id, pixels in {"upright": X / 16, "upside down": X[:, ::-1] / 16}.items():
        alone.partial_fit(pixels[:1200], y[:1200], task_id=task_id)
        scores = [clf.score(pixels[1200:], y[1200:], task_id=task_id) for clf in (together, alone)]
        assert scores[0] > scores[1] - 0.04  # of 597 rows each: 2.5 standard errors
    # What was saved learns on in one process, with a net that asks for no other.
    together.set_params(net=plain).partial_fit(X[:200] / 16, y[:200], task_id="third")


@pytest.mark.slow
def test_halves_of_a_batch_train_what_the_whole_does(tmp_path):
    pytest.importorskip("accelerate")
    from tests.shared_training import exact_net, learn

    run(*TOGETHER, "-m", "tests.shared_training", tmp_path, "halves", "callbacks")
    together = np.load(tmp_path / "halves.npz")
    alone = learn(ContinualClassifier(exact_net(), dtype="float64", random_state=0))
    X, y = (part[300:] for part in load_digits(return_X_y=True))
    for task_id in alone.tasks_:
        probabilities = alone.predict_proba(X / 16, task_id)
        np.testing.assert_allclose(together[task_id], probabilities, rtol=1e-6, atol=1e-9)
    assert alone.score(permuted(X / 16, 0), y, task_id="a") > 0.7


@pytest.mark.slow
def test_two_processes_agree_on_every_kind_of_network(tmp_path):
    pytest.importorskip("accelerate")
    run(*TOGETHER, "-m", "tests.shared_training", tmp_path, "zoo")


@pytest.mark.slow
def test_the_workers_of_a_cluster_learn_what_one_process_does(networks, tmp_path):
    pytest.importorskip("distributed")
    from dask_cluster import classifier, eight_tasks

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    here = ["--host", "127.0.0.1", "--port", port]
    scheduler, worker, script = map(from_page, ["dask scheduler", "dask worker", "python docs"])
    worker[2] = script[2] = f"tcp://127.0.0.1:{port}"
    with started(*scheduler, *here), started(*worker):
        run(*script, tmp_path / "model.joblib")
    X, y, ids, train = eight_tasks()
    alone = classifier().fit(X[train], y[train], task_id=ids[train])
    assert_same(alone, joblib.load(tmp_path / "model.joblib"), X[:200])
