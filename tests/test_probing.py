"""Which networks need their weights formed, found on a few rows."""

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from sklearn_halrp.exceptions import InvalidNetworkError
from tests.conftest import make_classifier, permuted
from tests.inside import network_of, task_of
from tests.modules import MLP, ZOO, Binary


def test_only_plain_tensors_go_through_functions_of_the_users_own(digits):
    X, y = digits
    for name, animal in ZOO.items():
        clf = make_classifier(animal.module, net={"max_epochs": 1})
        clf.fit(X[:60].reshape(-1, *animal.shape), y[:60])
        assert network_of(clf).dense == (name == "binary"), name


def test_a_weight_behind_such_a_function_is_learned(digits):
    X, y = digits
    clf = make_classifier(Binary, growth_budget=2.0, net={"max_epochs": 6})
    clf.partial_fit(X[:400], y[:400], task_id="a").partial_fit(
        permuted(X[:400], 1), y[:400], task_id="b"
    )
    clf.set_params(net__max_epochs=1)
    before = task_of(clf, "b").factors["weight"]
    clf.partial_fit(permuted(X[:400], 1), y[:400], task_id="b")
    after = task_of(clf, "b").factors["weight"]
    assert not np.array_equal(before.r, after.r)
    assert not np.array_equal(before.u.dense(), after.u.dense())
    assert clf.score(permuted(X[:400], 1), y[:400], task_id="b") > 0.6


@pytest.mark.parametrize("name", ZOO)
def test_trying_a_pretrained_base_changes_nothing_of_it(digits, name):
    (X, y), animal = digits, ZOO[name]
    module = animal.module()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    clf = make_classifier(module, base="pretrained", growth_budget=5, net={"max_epochs": 1})
    clf.partial_fit(X[:60].reshape(-1, *animal.shape), y[:60], task_id="a")
    found = network_of(clf).base.state_dict()
    head = network_of(clf).roles.head + "."
    # One of them counts its calls in evaluation mode too.
    for name in before.keys() - {head + "weight", head + "bias", "calls"}:
        assert torch.equal(found[name], before[name]), name


def test_a_trained_base_has_the_statistics_of_its_training_alone(digits):
    X, y = digits
    clf = make_classifier(ZOO["conv2d"].module, net={"max_epochs": 2, "batch_size": 30})
    clf.set_params(net__train_split=None)
    clf.partial_fit(X[:60].reshape(-1, 1, 8, 8), y[:60], task_id="a")
    assert network_of(clf).base.state_dict()["1.num_batches_tracked"] == 2  # taken anew


def product(x, weight):
    """Refuses anything but a plain tensor or parameter, as compiled code does."""
    if type(weight) not in (torch.Tensor, torch.nn.Parameter):
        raise RuntimeError("compiled code takes plain tensors")
    return x @ weight.T


def test_compiled_helpers_get_plain_tensors(digits):
    class Helped(MLP):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(24, 64) / 8)

        def forward(self, x):
            return self.last(torch.relu(product(x, self.weight)) + self.body(x))

    X, y = digits
    clf = make_classifier(Helped, net={"max_epochs": 2})
    clf.fit(X[:100], y[:100], np.repeat([0, 1], 50))
    assert network_of(clf).dense
    assert clf.tasks_ == [0, 1]


class Given(MLP):
    """Gives what a function makes of its logits, and of its input."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(super().forward(x), x)


BAD = {
    "dict": (lambda z, x: {"logits": z}, "the type dict"),
    "list": (lambda z, x: [z], "the type list"),
    "none": (lambda z, x: None, "the type NoneType"),
    "scalar": (lambda z, x: z.mean(), r"this one gave \(\)"),
    "labels": (lambda z, x: z.long(), "type int64"),
    "bools": (lambda z, x: z > 0, "type bool"),
    "complex": (lambda z, x: z.to(torch.cfloat), r"type complex64.*\.abs\(\)"),
    "NaN": (lambda z, x: z * (x.sum(1, keepdim=True) / x.sum(1, keepdim=True)), r"row 3 .*NaN"),
    "infinite": (lambda z, x: z.exp() / 0, "row 0 .*infinite"),
    "two bytes": (lambda z, x: (z.abs() + 1e6).half(), "row 0 .*infinite"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("base", ["first", "pretrained"])
def test_outputs_that_no_loss_takes_are_an_error_that_says_what_they_are(digits, kind, base):
    X, y = digits[0][:60].copy(), digits[1][:60]
    X[3] = 0
    make, says = BAD[kind]
    net = {"module__make": make} if base == "first" else {}
    clf = make_classifier(Given if base == "first" else Given(make), net, base=base)
    before = dict(vars(clf))
    with pytest.raises(InvalidNetworkError, match=says):
        clf.fit(X, y)
    assert vars(clf) == before


def test_a_weight_that_is_not_finite_is_named(digits):
    X, y = digits
    module = MLP()
    with torch.no_grad():
        module.body[0].weight[2, 3] = torch.nan
    with pytest.raises(InvalidNetworkError, match=r"body\.0\.weight is not finite before"):
        make_classifier(module, base="pretrained").fit(X[:60], y[:60])


def test_a_class_may_be_ruled_out(digits):
    X, y = digits
    X, y = X[y < 9], y[y < 9]

    def without_the_last(z, x):
        return torch.cat([z[:, :-1], torch.full_like(z[:, -1:], -torch.inf)], dim=1)

    clf = make_classifier(Given, {"module__make": without_the_last})
    for task_id, rows in (("a", X[:200]), ("b", permuted(X[:200], 1))):
        clf.partial_fit(rows, y[:200], task_id=task_id, classes=range(10))
    assert not network_of(clf).dense
    assert (clf.predict_proba(X, "b")[:, 9] == 0).all()


@pytest.mark.filterwarnings("ignore:None of the inputs")  # torch, where gradients are off
def test_a_gradient_that_cannot_be_taken_is_told_in_the_words_of_torch(digits):
    class Reentrant(MLP):
        def forward(self, x):
            x = checkpoint(self.body[2:], self.body[:2](x), use_reentrant=True)
            return self.last(x)

    X, y = digits
    with pytest.raises(InvalidNetworkError, match=r"gradient .* cannot be taken.*use_reentrant"):
        make_classifier(Reentrant).fit(X[:60], y[:60])


def test_weights_of_another_type_than_the_rows_are_said(digits):
    X, y = digits
    with pytest.raises(InvalidNetworkError, match=r"weights are float64: .*dtype="):
        make_classifier(MLP().double()).fit(X[:60], y[:60])


def test_a_width_of_0_is_an_error(digits):
    X, y = digits
    with (
        pytest.warns(UserWarning, match="zero-element tensors"),  # of torch, when it is built
        pytest.raises(InvalidNetworkError, match=r"body\.0\.weight is empty"),
    ):
        make_classifier(net={"module__hidden": 0}).fit(X[:60], y[:60])
