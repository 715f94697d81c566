"""Every task is a copy of the user's module; one whose copies keep old weights is refused."""

import copy
import functools
import threading
import types
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_halrp import ContinualClassifier
from sklearn_halrp.exceptions import InvalidNetworkError
from tests.conftest import make_classifier, make_net, permuted
from tests.inside import copied
from tests.modules import MLP, ZOO

# --- kinds that do not reach their weights --------------------------------------------


class Closure(MLP):
    def __init__(self):
        super().__init__()
        for layer in (self.body[0], self.body[2]):
            old = layer.forward
            layer.forward = lambda x, old=old: old(x)


class OneOfTwo(MLP):
    """One layer alone keeps its weight."""

    def __init__(self):
        super().__init__()
        old = self.body[2].forward
        self.body[2].forward = lambda x: old(x)


class Wrapped(MLP):
    def __init__(self):
        super().__init__()
        old = self.body[0].forward
        self.body[0].forward = functools.wraps(old)(lambda x: old(x))


class Wrapper(MLP):
    """As attention maps are taken."""

    def __init__(self):
        super().__init__()

        def wrapper(module):
            def forward(x):
                return nn.functional.linear(x, module.weight, module.bias)

            return forward

        self.body[0].forward = wrapper(self.body[0])


class PartialOfClosure(MLP):
    def __init__(self):
        super().__init__()
        old = self.body[0].forward
        self.body[0].forward = functools.partial(lambda scale, x: scale * old(x), 1.0)


class BoundToOriginal(MLP):
    def __init__(self):
        super().__init__()
        old = self.body[0].forward
        self.body[0].forward = types.MethodType(lambda self, x: old(x), self.body[0])


class Lambdas(MLP):
    def __init__(self):
        super().__init__()
        self.steps = [lambda x: self.body(x), lambda x: self.last(x)]

    def forward(self, x):
        for step in self.steps:
            x = step(x)
        return x


class Weak(MLP):
    def __init__(self):
        super().__init__()
        self.first = weakref.ref(self.body[0])

    def forward(self, x):
        return self.last(self.body[1:](self.first()(x)))


class OneWeight(MLP):
    """A closure over the tensor itself."""

    def __init__(self):
        super().__init__()
        weight = self.body[0].weight
        self.body[0].forward = lambda x: nn.functional.linear(x, weight)


class HookedFeatures(MLP):
    """The features are kept by a hook that holds the original."""

    def __init__(self):
        super().__init__()
        self.kept = {}

        def keep(module, inputs, output):
            self.kept["body"] = output

        self.body.register_forward_hook(keep)

    def forward(self, x):
        self.body(x)
        return self.last(self.kept["body"])


class PoppedFeatures(HookedFeatures):
    def forward(self, x):
        self.body(x)
        return self.last(self.kept.pop("body"))


class PatchedNorm(MLP):
    """A normalisation without weights: only its statistics tell."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(64, affine=False)
        old = self.norm.forward
        self.norm.forward = lambda x: old(x)

    def forward(self, x):
        return super().forward(self.norm(x))


class DetachedNorm(MLP):
    """A hook reads a weight without gradients, so that it is in no graph."""

    def __init__(self):
        super().__init__()
        b = self.body[2]
        self.body.register_forward_hook(lambda m, i, o: o * b.weight.detach().norm() / 3)


class UnderNoGrad(MLP):
    def __init__(self):
        super().__init__()
        b = self.body[2]

        @torch.no_grad()
        def scale():
            return b.weight.std()

        self.scale = scale

    def forward(self, x):
        return self.last(self.body(x) * self.scale())


class DataMean(UnderNoGrad):
    """Holds memory of the weight, not the weight."""

    def __init__(self):
        super().__init__()
        w = self.body[2].weight.data
        self.scale = lambda: w.mean()


class DataInNumpy(UnderNoGrad):
    def __init__(self):
        super().__init__()
        w = self.body[2].weight.detach().numpy()
        self.scale = lambda: float(w.mean())


class DetachedInTraining(DetachedNorm):
    def __init__(self):
        MLP.__init__(self)
        b = self.body[2]
        self.body.register_forward_hook(
            lambda m, i, o: o * b.weight.detach().norm() if m.training else o
        )


class ReadsBuffer(MLP):
    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(1).expand(24))  # many entries, one number
        self.register_buffer("mask", torch.ones(24, dtype=torch.bool))
        scale = self.scale
        self.body.register_forward_hook(lambda m, i, o: o * scale)


class ReadsMask(ReadsBuffer):
    def __init__(self):
        super().__init__()
        mask = self.mask
        self.body.register_forward_hook(lambda m, i, o: o * mask)


class RandomDetached(DetachedNorm):
    """Random by intention, as Monte Carlo dropout is."""

    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.1, training=True))


class Uncopied(nn.Linear):
    def __deepcopy__(self, memo):
        return self


class SharesLayer(MLP):
    def __init__(self):
        super().__init__()
        self.body[0] = Uncopied(64, 24)


KEPT = [
    Closure,
    OneOfTwo,
    Wrapped,
    Wrapper,
    PartialOfClosure,
    BoundToOriginal,
    Lambdas,
    Weak,
    OneWeight,
    HookedFeatures,
    PoppedFeatures,
    PatchedNorm,
    SharesLayer,
    DetachedNorm,
    UnderNoGrad,
    DataMean,
    DataInNumpy,
    DetachedInTraining,
    RandomDetached,
    ReadsBuffer,
    ReadsMask,
]
NAMED = {
    OneOfTwo: r"body\.2\.weight",
    PatchedNorm: r"norm\.running_mean",
    PoppedFeatures: "'body'",
    DetachedNorm: r"body\.2\.weight",
    UnderNoGrad: r"body\.2\.weight",
    DataMean: r"body\.2\.weight",
    DataInNumpy: r"body\.2\.weight",
    DetachedInTraining: r"body\.2\.weight",
    RandomDetached: r"body\.2\.weight",
    ReadsBuffer: r"with scale of",
    ReadsMask: r"with (scale|mask) of",
    SharesLayer: r"body\.0 .* __deepcopy__",
}


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("base", ["first", "pretrained"])
def test_a_module_whose_copies_keep_its_weights_is_refused(digits, kind, base):
    X, y = digits
    module = kind() if base == "pretrained" else kind
    before = copy.deepcopy(module.state_dict()) if base == "pretrained" else {}
    modes = [part.training for part in module.modules()] if before else []
    clf = make_classifier(module, base=base)
    torch.manual_seed(3)
    state, drawn = dict(vars(clf)), torch.random.get_rng_state()
    named = NAMED.get(kind, r"body\.0")
    if base == "pretrained" and issubclass(kind, HookedFeatures):  # the first copy fails already
        named = "'body'.* A copy of the module is applied"
    with pytest.raises(InvalidNetworkError, match=named):
        clf.partial_fit(X[:60], y[:60], task_id="a")
    assert vars(clf) == state
    assert torch.equal(torch.random.get_rng_state(), drawn)
    for name, tensor in before.items():
        assert torch.equal(module.state_dict()[name], tensor), name
    assert not modes or modes == [part.training for part in module.modules()]


def test_the_error_says_what_to_write(digits):
    X, y = digits
    with pytest.raises(InvalidNetworkError, match=r"of the original.*closure.*method"):
        make_classifier(Closure).fit(X[:60], y[:60])


# --- kinds that do --------------------------------------------------------------------


class Bound(MLP):
    """The features are kept by a method, and so by the copy's own."""

    def __init__(self):
        super().__init__()
        self.kept = {}
        self.body.register_forward_hook(self.keep)

    def keep(self, module, inputs, output):
        self.kept["body"] = output

    def forward(self, x):
        self.body(x)
        return self.last(self.kept["body"])


def doubled(module, x):
    return 2 * nn.functional.linear(x, module.weight, module.bias)


class Partial(MLP):
    def __init__(self):
        super().__init__()
        self.body[0].forward = functools.partial(doubled, self.body[0])


class Method(MLP):
    def __init__(self):
        super().__init__()
        self.body[0].forward = types.MethodType(doubled, self.body[0])


class HandedLayer(MLP):
    """A hook, made in __init__, that uses the layer it is handed."""

    def __init__(self):
        super().__init__()
        self.body[0].register_forward_hook(lambda m, i, output: output + m.bias)


class Holder:
    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x):
        return self.layer(x)


class Held(MLP):
    """Its own object holds a layer."""

    def __init__(self):
        super().__init__()
        self.first = Holder(self.body[0])

    def forward(self, x):
        return self.last(self.body[1:](self.first(x)))


class Unused(MLP):
    """Some parameters are never used, or only in training."""

    def __init__(self):
        super().__init__()
        self.aside, self.empty = nn.Linear(64, 24), nn.Parameter(torch.zeros(0, 4))
        self.noise = nn.Linear(24, 24)

    def forward(self, x):
        x = self.body(x)
        if self.training:
            x = x + 0.01 * self.noise(x)
        return self.last(x)


class Leaf(MLP):
    """Makes leaves of its own, and has a constant with a gradient that is no parameter."""

    def __init__(self):
        super().__init__()
        self.scale = torch.ones(64, requires_grad=True)

    def forward(self, x):
        x = x.detach().clone().requires_grad_(torch.is_grad_enabled())
        return super().forward(x * self.scale)


class Parametrised(MLP):
    """Hidden weights as torch computes them from others, in a class that it makes for each."""

    def __init__(self):
        super().__init__()
        nn.utils.parametrizations.weight_norm(self.body[0])
        nn.utils.parametrizations.spectral_norm(self.body[2])
        self.body.append(nn.utils.parametrizations.orthogonal(nn.Linear(24, 24)))


REACHED = [Parametrised, Bound, Partial, Method, HandedLayer, Held, Unused, Leaf]


@pytest.mark.parametrize("kind", REACHED)
def test_a_module_whose_copies_use_their_weights_is_learned(digits, kind):
    X, y = digits
    clf = make_classifier(kind, growth_budget=2.0, net={"max_epochs": 8})
    clf.partial_fit(X[:200], y[:200], task_id="a")
    clf.partial_fit(permuted(X[:200], 1), y[:200], task_id="b")
    for task_id in "ab":
        module = clf.to_module(task_id)
        other = kind()
        for name, tensor in other.state_dict().items():
            tensor.copy_(module.state_dict()[name])
        x = torch.from_numpy(X[:40])
        assert torch.equal(module(x), other.eval()(x))
    ranks = clf.ranks_["b"]
    assert all(rank > 0 for name, rank in ranks.items() if not name.startswith("aside"))


@pytest.mark.parametrize("name", ZOO)
def test_a_copy_shares_nothing_and_computes_the_same(name):
    module, x = ZOO[name].module().eval(), torch.rand(4, *ZOO[name].shape)
    with torch.no_grad():
        module(x)  # some keep what they computed
        clone = copied(module)
        mine = {t.data_ptr() for t in module.state_dict().values() if t.numel()}
        assert mine.isdisjoint(t.data_ptr() for t in clone.state_dict().values() if t.numel())
        assert torch.equal(module(x), clone(x))


# --- what cannot be copied ------------------------------------------------------------


def with_attribute(make):
    class Holding(MLP):
        def __init__(self):
            super().__init__()
            self.body[1].thing = make()

    return Holding


THINGS = {
    "lock": threading.Lock,
    "file": lambda: open(__file__),  # noqa: SIM115
    "generator": lambda: (i for i in range(3)),
    "deep": lambda: {"a": [threading.Lock()]},
}


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("given", [False, True])
def test_what_cannot_be_copied_is_named(digits, thing, given):
    X, y = digits
    kind = with_attribute(THINGS[thing])
    clf = make_classifier(kind() if given else kind)
    with pytest.raises(InvalidNetworkError, match=r"attribute body\.1\.thing cannot be copied"):
        clf.fit(X[:60], y[:60])
    assert not hasattr(clf, "net_")


# --- weights that no gradient reaches -------------------------------------------------


class Constant(MLP):
    """Its hidden layers are computed without gradients, as those of a frozen backbone."""

    def forward(self, x):
        with torch.no_grad():
            x = self.body(x)
        return self.last(x)


class Decorated(MLP):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class Stale(HookedFeatures):
    """An instance that holds features of rows that it saw before."""

    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self(torch.rand(8, 64))


@pytest.mark.parametrize("module", [Constant, Decorated])
def test_weights_that_no_gradient_reaches_are_an_error(digits, module):
    X, y = digits
    with pytest.raises(InvalidNetworkError, match=r"No gradient reaches .*body\.0\.weight"):
        make_classifier(module).fit(X[:60], y[:60])


def test_features_of_earlier_rows_are_an_error(digits):
    X, y = digits
    clf = make_classifier(Stale(), base="pretrained", net={"batch_size": 8, "train_split": None})
    with pytest.raises(InvalidNetworkError, match="No gradient reaches"):
        clf.fit(X[:60], y[:60])


def test_a_warm_up_that_changes_no_weight_is_said(digits):
    X, y = digits
    clf = make_classifier().fit(X[:100], y[:100], task_id="a")
    clf.set_params(net__optimizer__param_groups=[("body.*", {"lr": 0.0})])
    with pytest.warns(UserWarning, match="warm-up of task 'b' changed none of the weights"):
        clf.partial_fit(X[:100], y[:100], task_id="b")
    assert set(clf.ranks_["b"].values()) == {0}


def test_a_warm_up_that_changes_one_weight_is_not(digits):
    X, y = digits
    clf = make_classifier().fit(X[:100], y[:100], task_id="a")
    clf.set_params(net__optimizer__param_groups=[("body.0.*", {"lr": 0.0})])
    clf.partial_fit(X[:100], y[:100], task_id="b")  # a warning would be an error here


def test_loading_refuses_nothing_that_was_learned(digits, tmp_path):
    """A file of before is no reason to lose it: only learning looks at copies."""
    X, y = digits
    clf = ContinualClassifier(make_net(Bound()), base="pretrained", random_state=0)
    clf.fit(X[:100], y[:100])
    loaded = copy.deepcopy(clf)
    assert np.array_equal(loaded.predict_proba(X), clf.predict_proba(X))
