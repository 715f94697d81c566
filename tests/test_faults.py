"""What fails for want of memory, in a trial or elsewhere, is no answer about the module."""

import ast
import functools
import re
import traceback

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn
from torch.nn.utils import parametrize

from sklearn_halrp.exceptions import InvalidNetworkError
from tests.conftest import make_classifier, make_regressor, permuted
from tests.inside import let_through
from tests.modules import MLP
from tests.test_structure import FILES


class Memory:
    """Counts what the user's code does, and fails at one of its doings, or for a function."""

    done, last, taker, error = 0, None, None, None

    @classmethod
    def take(cls):
        cls.done += 1
        if cls.done == cls.last:
            raise cls.error
        if cls.taker and cls.taker in (frame.name for frame in traceback.extract_stack()):
            raise cls.error


@pytest.fixture(autouse=True)
def enough_memory():
    yield
    Memory.done, Memory.last, Memory.taker = 0, None, None


class Forward(MLP):
    def forward(self, x):
        Memory.take()
        return super().forward(x)


class Copies(MLP):
    """Takes memory whenever it is copied; what it keeps is no tensor."""

    class Kept:
        def __deepcopy__(self, memo):
            Memory.take()
            return self

    def __init__(self):
        super().__init__()
        self.kept = self.Kept()


class Uncopied(Copies):
    """Cannot be copied for another reason, so that what is to blame is looked for."""

    def __init__(self):
        super().__init__()
        self.generator = (x for x in ())


class Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        Memory.take()
        return gradient.clone()


class Gradients(MLP):
    def forward(self, x):
        return Backward.apply(super().forward(x))


class Plain(nn.Module):
    def forward(self, x):
        Memory.take()
        return x


class Reparametrised(MLP):
    """Its head is none, and it is tried whether a plain one would be."""

    def __init__(self):
        super().__init__()
        parametrize.register_parametrization(self.last, "weight", Plain())

    def forward(self, x):
        Memory.take()
        return super().forward(x)


class Logged(Callback):
    """Takes memory whenever it is made, copied or pickled."""

    def __init__(self, log=None):
        Memory.take()
        self.log = log

    def __reduce__(self):
        Memory.take()
        return type(self), (self.log,)


class Wrapped(Logged):
    """Its arguments do not make the same callback again, so it is copied."""

    def __init__(self, log=None):
        super().__init__(log)
        self.log = [log]


class OwnInitialize(NeuralNetClassifier):
    def initialize_module(self):
        Memory.take()
        return super().initialize_module()

    def initialize(self):
        super().initialize()
        Memory.take()
        return self


class Packed(MLP):
    def __reduce__(self):
        Memory.take()
        return super().__reduce__()


@functools.cache
def rows():
    X = np.random.RandomState(0).rand(24, 64).astype(np.float32)
    return X, np.arange(24) % 3


def learned(module=MLP, make=make_classifier, net=None, **settings):
    X, y = rows()
    net = {"max_epochs": 2, "batch_size": 12, **(net or {})}
    estimator = make(module, net=net, growth_budget=2.0, **settings).fit(X, y, task_id="a")
    return estimator.partial_fit(permuted(X, 1), y, task_id="b")


def refused(module):
    """Fails, for another reason than the memory."""
    with pytest.raises(InvalidNetworkError):
        learned(module)


def seeded(module):
    """The same module in every call, so that as much is done."""
    torch.manual_seed(0)
    return module()


CALLS = {
    "forward": lambda: learned(Forward),
    "forward, pretrained": lambda: learned(seeded(Forward), base="pretrained"),
    "copies": lambda: learned(Copies),
    "copies of an instance": lambda: learned(seeded(Copies)),
    "copies that fail": lambda: refused(Uncopied),
    "gradients": lambda: learned(Gradients),
    "second derivatives": lambda: learned(Gradients, importance="hessian"),
    "a head that is none": lambda: refused(Reparametrised),
    "callbacks": lambda: learned(net={"callbacks": [("logged", Logged())]}),
    "callbacks that are copied": lambda: learned(net={"callbacks": [("logged", Wrapped())]}),
    "initialize": lambda: learned(net={"kind": OwnInitialize}),
    "to_module": lambda: learned(Forward, make_regressor).to_module("b"),
}


@pytest.mark.parametrize("call", CALLS)
def test_no_memory_for_the_users_code_is_no_answer(call):
    CALLS[call]()
    doings = Memory.done
    assert doings > 1
    points = np.unique(np.linspace(1, doings, min(doings, 12)).round().astype(int))
    for number, point in enumerate(points):
        Memory.done, Memory.last = 0, point
        Memory.error = [MemoryError("injected"), RuntimeError("CUDA out of memory. injected")][
            number % 2
        ]
        with pytest.raises(type(Memory.error), match="injected") as raised:
            CALLS[call]()
        assert raised.value is Memory.error


@pytest.mark.parametrize("taker", ["_stay_here", "_packed"])  # all else is sent by joblib
def test_no_memory_to_send_a_task_to_a_process_is_no_answer(taker):
    X, y = rows()
    net = {"max_epochs": 2, "callbacks": [("logged", Logged())]}
    clf = make_classifier(Packed, net=net, n_jobs=2, warmup_epochs=0).fit(X, y, task_id="a")
    Memory.taker, Memory.error = taker, MemoryError("injected")
    with pytest.raises(MemoryError, match="injected"):
        clf.partial_fit(X, y, task_id=np.repeat(["b", "c"], 12))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RecursionError(),
        TimeoutError(),
        UserWarning("made an error by a filter"),
        torch.OutOfMemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=repr,
)
def test_what_says_nothing_of_the_module_passes(error):
    with pytest.raises(type(error)) as raised:
        let_through(error)
    assert raised.value is error
    let_through(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_what_torch_raises_where_there_is_no_memory_passes():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**56, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="memory"):
        let_through(raised.value)


@pytest.mark.parametrize("name", FILES)
def test_every_trial_lets_through_what_is_no_answer(name):
    """Whoever catches errors of all kinds and gives an answer says which are none first."""
    wide = [
        node
        for node in ast.walk(FILES[name])
        if isinstance(node, ast.ExceptHandler)
        and re.search(
            r"None|\b(Exception|RuntimeError)\b", ast.unparse(node.type) if node.type else "None"
        )
        and not any(isinstance(line, ast.Raise) and not line.exc for line in ast.walk(node))
        and not isinstance(node.body[0], ast.Pass)
    ]
    first = [ast.unparse(node.body[0]) for node in wide]
    assert [line for line in first if not line.startswith("let_through(error")] == []
