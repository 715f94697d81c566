"""An error at any place of any call: all of it is done, or nothing has happened.

Nothing means the estimator to the last bit, the user's net, and all that a process has one of.
"""

import copy
import faulthandler
import functools
import multiprocessing
import os
import pickle
import random
import signal
import sys
import tempfile
import threading
import warnings
from concurrent.futures.process import BrokenProcessPool

import joblib
import numpy as np
import pytest
import sklearn
import torch
from joblib.externals.loky import get_reusable_executor
from sklearn.base import clone
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback
from torch import nn
from torch.utils.data import TensorDataset

from sklearn_halrp import ContinualClassifier, ContinualRegressor
from sklearn_halrp.persistence import dump, load, save
from tests.injection import ERRORS, KINDS, Injected, Injection
from tests.inside import HoldOut, network_of, predictors_of, ready_nets, turns_held
from tests.test_promises import snapshot

# --- what is learned


class Small(nn.Module):
    """Draws as it trains, and has a buffer."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.2))
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.body(x))


class Counts(Callback):
    def on_epoch_end(self, net, **kwargs):
        net.history.record("drawn", float(np.random.rand() + random.random()))


class Prepares(NeuralNetClassifier):
    """Makes something of its own beside the module."""

    def initialize_module(self):
        super().initialize_module()
        self.beside_ = nn.Linear(2, 2)
        nn.init.zeros_(self.module_.last.bias)
        return self


ROWS = np.random.RandomState(0).rand(36, 5).astype(np.float32)
LABELS = np.arange(36) % 3
IDS = np.repeat(["a", "b", "c"], 12)


def net(module=Small, kind=NeuralNetClassifier, **settings):
    defaults = {
        "criterion": nn.CrossEntropyLoss,
        "max_epochs": 2,
        "batch_size": 5,
        "lr": 0.05,
        "train_split": HoldOut(),
        "callbacks": [("counts", Counts())],
        "verbose": 0,
    }
    return kind(module, **defaults | settings)


def new(kind=ContinualClassifier, net=net, **settings):
    return kind(net(), **{"random_state": 0, "growth_budget": 5.0} | settings)


@functools.cache
def learned(**settings):
    """Two tasks, of rows that are not those of the calls below."""
    return new(**settings).fit(ROWS[:24, ::-1].copy(), LABELS[:24], task_id=IDS[:24])


def instance():
    torch.manual_seed(0)
    return net(Small())


def numbers():
    return net(kind=NeuralNetRegressor, criterion=nn.MSELoss)


@functools.cache
def regressor():
    y = np.stack([LABELS, 7 * LABELS, -LABELS], 1).astype(np.float32)
    return new(ContinualRegressor, numbers).fit(ROWS, y, task_id=np.repeat(["a", "b"], 18))


def twin(estimator):
    """The same estimator again: what is learned is never changed in place."""
    other = object.__new__(type(estimator))
    vars(other).update(vars(estimator))
    if isinstance(other.random_state, np.random.RandomState):
        other.random_state = copy.deepcopy(other.random_state)
    return other


# --- what is called: by name, an estimator and what is done with it


def learns(task_ids, n=12, **more):
    return lambda est: est.partial_fit(ROWS[:n], LABELS[:n], task_id=task_ids, **more)


def learns_numbers(est):
    return est.partial_fit(ROWS[:12], np.tile(LABELS[:12, None], 3) * 2.0, task_id="new")


def keeps(write, read, name):
    """Writes over a file, and reads what is there."""

    def call(est):
        write(est, name)
        return read(name)

    return call


def loads_safely(name):
    return load(name, net=net())


def from_dataset(est):
    return est.partial_fit(
        TensorDataset(torch.tensor(ROWS[:12]), torch.tensor(LABELS[:12])), task_id="new"
    )


def cold(est):
    ready_nets(predictors_of(est)).clear()
    return est


def at_random(**settings):
    return new(random_state=np.random.RandomState(3), **settings)


CALLS = {
    "fit": (new, lambda e: e.fit(ROWS[:12], LABELS[:12])),
    "fit again": (learned, lambda e: e.fit(ROWS[:12], LABELS[:12], task_id="new")),
    "fit, drawn": (at_random, lambda e: e.fit(ROWS[:24], LABELS[:24], task_id=IDS[:24])),
    "fit, several": (new, lambda e: e.fit(ROWS, LABELS, task_id=IDS)),
    "fit, pretrained": (
        lambda: new(net=instance, base="pretrained"),
        lambda e: e.fit(ROWS[:24], LABELS[:24], task_id=IDS[:24]),
    ),
    "fit, own initialize": (
        lambda: new(net=lambda: net(kind=Prepares)),
        lambda e: e.fit(ROWS[:24], LABELS[:24], task_id=IDS[:24]),
    ),
    "new task": (learned, learns("new")),
    "new task, no warm-up": (lambda: learned(warmup_epochs=0), learns("new")),
    "new task, kfac": (lambda: learned(importance="kfac"), learns("new")),
    "new task, activation": (lambda: learned(importance="activation"), learns("new")),
    "new task, hessian": (lambda: learned(importance="hessian"), learns("new")),
    "new task, weights": (learned, learns("new", sample_weight=np.arange(12.0))),
    "new task, Dataset": (learned, from_dataset),
    "known task": (learned, learns("b")),
    "first task again": (learned, learns("a")),
    "several tasks": (learned, learns(np.repeat(["b", "new"], 12), 24)),
    "regressor": (regressor, learns_numbers),
    "predict": (learned, lambda e: cold(e).predict(ROWS[:12], task_id="b")),
    "predict, several": (learned, lambda e: cold(e).predict(ROWS[:24], task_id=IDS[:24])),
    "predict_proba": (learned, lambda e: cold(e).predict_proba(ROWS[:12], task_id="b")),
    "score": (learned, lambda e: cold(e).score(ROWS[:12], LABELS[:12], task_id="b")),
    "to_module": (learned, lambda e: e.to_module("b").state_dict()),
    "to_module, regressor": (regressor, lambda e: e.to_module("b").state_dict()),
    "for_task": (learned, lambda e: e.for_task("b").predict_proba(ROWS[:12])),
    "forget_task": (learned, lambda e: e.forget_task("b")),
    "set_params": (learned, lambda e: e.set_params(max_rank=3, n_jobs=1)),
    "clone": (learned, lambda e: clone(e)),
    "report_": (learned, lambda e: [e.report_, e.history_, e.growth_, e.n_bytes_]),
    "pickle": (learned, lambda e: pickle.loads(pickle.dumps(e))),
    "save": (learned, keeps(save, loads_safely, "model.safetensors")),
    "dump": (learned, keeps(dump, joblib.load, "model.joblib")),
}


# --- what is looked at


def told(thing):
    """What a call returns, as bytes."""
    if isinstance(thing, ContinualClassifier | ContinualRegressor):
        return said(thing)
    if isinstance(thing, np.ndarray):
        return thing.tobytes()
    if isinstance(thing, dict) and all(isinstance(v, torch.Tensor) for v in thing.values()):
        return [(name, tensor.numpy().tobytes()) for name, tensor in thing.items()]
    return repr(thing) if not isinstance(thing, list) else None  # seconds differ


def said(est):
    """An estimator to the last bit: parameters, tensors, labels and predictions."""
    parameters = {k: repr(v) for k, v in est.get_params(deep=False).items() if k != "net"}
    if isinstance(est.random_state, np.random.RandomState):
        parameters["random_state"] = pickle.dumps(est.random_state.get_state())
    if not est.__sklearn_is_fitted__():
        return parameters, set(vars(est))
    tensors = {name: tensor.numpy().tobytes() for name, tensor in snapshot(est).items()}
    predict = getattr(est, "predict_proba", est.predict)
    predictions = {t: predict(ROWS[:6], task_id=t).tobytes() for t in est.tasks_}
    targets = {t: repr(task.target) for t, task in network_of(est).tasks.items()}
    return parameters, set(vars(est)), tensors, predictions, targets, est.net_.lr, est.tasks_


def of_net(net):
    """The user's net: its parameters, and the tensors of a module that it was given."""
    parts = {k: (v if isinstance(v, str | float) else id(v)) for k, v in vars(net).items()}
    if isinstance(net.module, nn.Module):
        parts["tensors"] = [t.numpy().tobytes() for t in net.module.state_dict().values()]
        parts["modes"] = [part.training for part in net.module.modules()]
        parts["hooks"] = [
            len(hooks)
            for part in net.module.modules()
            for name, hooks in vars(part).items()
            if name.endswith("_hooks") and hooks
        ]
    parts["callbacks"] = pickle.dumps([sorted(vars(c).items()) for _, c in net.callbacks])
    return parts


def of_process():
    """What a process has one of, and what it has made."""
    cudnn = torch.backends.cudnn
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": pickle.dumps(np.random.get_state()),
        "python": random.getstate(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "default dtype": torch.get_default_dtype(),
        "modes of torch": torch._C._len_torch_function_stack(),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "threads of torch": torch.get_num_threads(),
        "cudnn": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        "attention": torch.backends.cuda.flash_sdp_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "filters": list(warnings.filters),
        "shown": warnings.showwarning,
        "numpy's errors": np.geterr(),
        "scikit-learn": sklearn.get_config(),
        "threads": threading.active_count(),
        "children": len(multiprocessing.active_children()),
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "output": (id(sys.stdout), id(sys.stderr)),
        "handler": signal.getsignal(signal.SIGINT),
        "files": sorted(os.path.join(d, f) for d, _, files in os.walk(".") for f in files),
        "locks": in_a_thread(turns_held),
    }


def in_a_thread(call):
    """What a call returns in another thread."""
    found = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty place for all files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", str(tmp_path))


class Case:
    """One call, as it goes undisturbed, and with an error in it."""

    def __init__(self, name):
        self.make, self.call = CALLS[name]
        self.call(twin(self.make()))  # what is made once is made now, such as a file
        est = twin(self.make())
        self.before = said(est)
        self.returned, self.after = told(self.call(est)), said(est)
        self.places = {}
        for kind in KINDS:
            injection = Injection(kind)
            injection.during(lambda: self.call(twin(self.make())))
            self.places[kind] = injection.passed

    def disturbed(self, injection):
        """Look at everything after an error in the call."""
        est = twin(self.make())
        user, process, error = of_net(est.net), of_process(), None
        try:
            injection.during(lambda: self.call(est))
        except BaseException as raised:
            error = raised  # it holds the frames, as in a debugger
        place = (injection.error.__name__, injection.kind, injection.at, injection.where)
        assert differences(process, of_process()) == {}, place
        assert differences(user, of_net(est.net)) == {}, place
        if not injection.raised:  # a place that is passed by chance
            assert said(est) == self.after, place
        elif injection.error is Injected:  # one that may be an answer, as in a trial
            done = said(est)[-1] == self.after[-1]
            assert said(est) == self.before if error else done, place
        else:
            assert error in injection.raised, place
            assert said(est) == self.before, place
            assert told(self.call(est)) == self.returned, place
            assert said(est) == self.after, place


def differences(before, after):
    return {k: (before[k], after[k]) for k in before if before[k] != after[k]}


def inject(name, n_points):
    """Errors of all kinds at places that are evenly spread over a call."""
    case = Case(name)
    kinds = [kind for kind in KINDS if case.places[kind]]
    for number in range(n_points):
        kind = kinds[number % len(kinds)]
        at = 1 + int((number + 0.5) / n_points * case.places[kind])
        case.disturbed(Injection(kind, ERRORS[(number + number // 4) % 4], at))


# The others take longer to count than to disturb.
QUICK = {
    "new task, no warm-up": 12,
    "predict": 10,
    "score": 6,
    "to_module": 12,
    "for_task": 8,
    "forget_task": 18,
    "set_params": 4,
    "pickle": 12,
    "save": 10,
    "dump": 8,
}


@pytest.mark.parametrize("name", QUICK)
def test_a_call_is_done_or_nothing_happened(name, folder):
    inject(name, QUICK[name])


# More than 2,000 in all.
MANY = {name: 36 if "fit" in name else 56 if "task" in name else 120 for name in CALLS}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_done_or_nothing_happened_anywhere(name, folder):
    inject(name, MANY[name])


def test_no_place_is_between_the_work_and_the_end_of_a_call(folder):
    """Every place in the last third of the shortest call that changes something."""
    case = Case("forget_task")
    for kind, n_places in case.places.items():
        for at in range(2 * n_places // 3, n_places + 1):
            case.disturbed(Injection(kind, KeyboardInterrupt, at))


@pytest.mark.parametrize("name", ["forget_task", "new task, no warm-up"])
def test_a_second_interruption_empties_no_estimator(name, folder):
    """It comes while the first is undone, and the call may be done or not, but not half."""
    case, seconds = Case(name), 0
    for at in (0.3, 0.8, 0.99, 1.0):
        for then in (1, 2, 3, 5, 8, 13):
            est = twin(case.make())
            at_place = max(1, int(at * case.places["function"]))
            injection = Injection("function", KeyboardInterrupt, at_place, then)
            with pytest.raises(KeyboardInterrupt):
                injection.during(functools.partial(case.call, est))
            seconds += len(injection.raised) == 2
            assert said(est) in (case.before, case.after)
    assert seconds >= 8


# --- processes that learn


class EndsElsewhere(Callback):
    """Ends a process that learns, if it is not the one that asked for it."""

    def __init__(self, how=None, asked=None):
        self.how, self.asked = how, asked

    def on_epoch_end(self, net, **kwargs):
        if self.how is None or os.getpid() == self.asked:
            return
        if self.how == "exits":
            os._exit(3)
        signum = {"crashes": signal.SIGSEGV, "is killed": signal.SIGKILL}[self.how]
        faulthandler.disable()  # joblib's processes would print where they were
        os.kill(os.getpid(), signum)


def in_processes():
    several = net(callbacks=[("ends", EndsElsewhere())])
    return ContinualClassifier(several, random_state=0, growth_budget=5.0, n_jobs=2)


@pytest.mark.parametrize(
    "how", [pytest.param(h, marks=pytest.mark.slow) for h in ("is killed", "exits", "crashes")]
)
def test_a_process_that_ends_as_it_learns_costs_nothing(how):
    clf = in_processes().fit(ROWS[:24, ::-1].copy(), LABELS[:24], task_id=IDS[:24])
    call = learns(np.repeat(["b", "c", "d"], 12), 36)
    undisturbed, before = said(call(twin(clf))), said(clf)
    clf.set_params(net__callbacks__ends__how=how, net__callbacks__ends__asked=os.getpid())
    process = of_process()
    with pytest.raises(BrokenProcessPool):
        call(clf)
    assert said(clf) == before
    changed = differences(process, of_process())
    assert set(changed) <= {"threads", "children"}, changed  # those of joblib's own
    clf.set_params(net__callbacks__ends__how=None)
    assert said(call(clf)) == undisturbed


@pytest.mark.slow
def test_an_error_while_processes_learn_costs_nothing(folder, monkeypatch):
    """In the process that waits for them; joblib's own threads and files end with its processes."""
    fitted = in_processes().fit(ROWS[:24, ::-1].copy(), LABELS[:24], task_id=IDS[:24])
    call = (lambda: fitted, learns(np.repeat(["b", "c", "d"], 12), 36))
    monkeypatch.setitem(CALLS, "in processes", call)
    case = Case("in processes")
    kinds = [KINDS[n % 3] for n in range(9)]
    for number, kind in enumerate(kinds):
        get_reusable_executor().shutdown(wait=True)
        before, est = of_process(), twin(fitted)
        at = 1 + int((number + 0.5) / len(kinds) * case.places[kind])
        injection = Injection(kind, ERRORS[number % 4], at)
        with pytest.raises(ERRORS[number % 4]):
            injection.during(functools.partial(case.call, est))
        get_reusable_executor().shutdown(wait=True)
        assert differences(before, of_process()) == {}, injection.where
        assert said(est) == case.before
    assert said(case.call(est)) == case.after  # once: to start processes takes long
