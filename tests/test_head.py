import re
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from sklearn_halrp.exceptions import InvalidNetworkError
from tests.inside import find_head, grow_head, partition, with_head
from tests.modules import ZOO


def forward(module):
    with torch.no_grad():
        return module.eval()(torch.ones(2, 6))


class Branches(nn.Module):
    """Gives the classes in two halves, from two layers."""

    def __init__(self, join):
        super().__init__()
        self.body, self.left, self.right = nn.Linear(6, 6), nn.Linear(6, 3), nn.Linear(6, 3)
        self.join = join

    def forward(self, x):
        x = self.body(x)
        return self.join(self.left(x), self.right(x))


def cat(a, b):
    return torch.cat([a, b], dim=1)


def test_the_last_of_equally_wide_layers_is_the_head():
    module = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 6))
    assert find_head(module, forward) == "3"


def test_a_later_layer_that_is_not_the_output_is_not_the_head():
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.out, self.aside = nn.Linear(6, 4), nn.Linear(6, 4)

        def forward(self, x):
            self.aside(x)
            return self.out(x).softmax(-1)

    assert find_head(Auxiliary(), forward) == "out"


def test_two_candidates_are_an_error_that_names_both():
    with pytest.raises(InvalidNetworkError, match=r"'left', 'right'.*head='right'"):
        find_head(Branches(cat), forward)
    assert find_head(Branches(cat), forward, "left") == "left"


def test_no_candidate_is_an_error_that_names_the_layers():
    with pytest.raises(InvalidNetworkError, match="'body', 'left', 'right'"):
        find_head(Branches(torch.add), forward)


@pytest.mark.parametrize("name", ["body", "nowhere"])
def test_a_wrong_name_is_an_error(name):
    module = nn.Sequential()
    module.body, module.last = nn.Linear(6, 5), nn.Linear(5, 3)
    with pytest.raises(InvalidNetworkError, match="'body', 'last'"):
        find_head(module, forward, name)


def test_an_output_that_is_no_matrix_is_an_error():
    with pytest.raises(InvalidNetworkError, match=r"\(n_samples, n_outputs\)"):
        find_head(nn.Sequential(nn.Linear(6, 3), nn.Flatten(0)), forward)


def test_a_new_head_leaves_the_module_as_it_was():
    module = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3, bias=False))
    other = with_head(module, "1", 8)
    assert (module[1].out_features, other[1].out_features) == (3, 8)
    assert other[1].bias is None
    assert other[0].weight is module[0].weight
    assert forward(other).shape == (2, 8)


def test_a_grown_head_keeps_what_it_knew():
    old = [torch.tensor([[1.0], [2.0]]), torch.tensor([3.0, 4.0])]
    fresh = [torch.zeros(3, 1), torch.zeros(3)]
    grow_head(fresh, old, [0, 2])
    assert fresh[0].ravel().tolist() == [1, 0, 2]
    assert fresh[1].tolist() == [3, 0, 4]


@pytest.mark.parametrize("name", ZOO)
def test_every_tensor_has_one_role(name):
    module = ZOO[name].module()
    sample = torch.ones(2, *ZOO[name].shape)  # "top." is the head's second name in one of them
    head = find_head(module, lambda m: m.eval()(sample).detach())
    roles = partition(module, head)
    named = [*roles.perturbed, *roles.own, *roles.shared, *roles.frozen]
    named += [n for names in roles.aliases.values() for n in names]
    every = [n for n, _ in module.named_parameters(remove_duplicate=False) if "top." not in n]
    every += [n for n, _ in module.named_buffers(remove_duplicate=False)]
    assert sorted(named) == sorted(every)
    assert head + ".weight" in roles.own


def test_linear_and_convolution_weights_are_perturbed_and_the_rest_is_not():
    module = nn.Sequential(
        nn.Embedding(9, 4),
        nn.Conv1d(4, 4, 3, groups=4),
        nn.BatchNorm1d(4),
        nn.LayerNorm((4, 2)),
        nn.Flatten(),
        nn.Linear(8, 5),
        nn.Linear(5, 3),
    )
    module[5].bias.requires_grad_(False)
    roles = partition(module, "6")
    assert roles.perturbed == ("1.weight", "5.weight")
    assert roles.shared == ("0.weight",)
    assert roles.frozen == ("5.bias",)
    assert {"1.bias", "2.weight", "2.running_mean", "3.weight", "6.weight"} <= set(roles.own)


def test_tied_weights_are_one_tensor_with_two_names():
    roles = partition(ZOO["tied"].module(), "last")
    assert roles.perturbed == ("first.weight",)
    assert roles.every_name("first.weight") == ("first.weight", "second.weight")


def test_a_network_with_nothing_to_perturb_is_refused():
    with pytest.raises(InvalidNetworkError, match="nothing to perturb"):
        partition(nn.Sequential(nn.Flatten(), nn.Linear(6, 3)), "1")
    frozen = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3))
    frozen[0].requires_grad_(False)
    with pytest.raises(InvalidNetworkError, match="nothing to perturb"):
        partition(frozen, "1")


def test_an_embedding_that_changes_when_read_is_refused():
    module = nn.Sequential(nn.Embedding(9, 4, max_norm=1.0), nn.Flatten(), nn.Linear(8, 5))
    module.append(nn.Linear(5, 3))
    with pytest.raises(InvalidNetworkError, match="max_norm"):
        partition(module, "3")


def weight_norm(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch has a newer one
        return nn.utils.weight_norm(layer)


REPARAMETRISED = {
    "weight_norm": (weight_norm, "remove_weight_norm(layer)"),
    "spectral_norm": (nn.utils.spectral_norm, "remove_spectral_norm(layer)"),
    "new weight_norm": (
        nn.utils.parametrizations.weight_norm,
        "parametrize.remove_parametrizations(layer, 'weight')",
    ),
    "new spectral_norm": (
        nn.utils.parametrizations.spectral_norm,
        "parametrize.remove_parametrizations(layer, 'weight')",
    ),
    "orthogonal": (
        nn.utils.parametrizations.orthogonal,
        "parametrize.remove_parametrizations(layer, 'weight')",
    ),
    "pruned": (
        lambda layer: prune.random_unstructured(layer, "weight", 0.5),
        "prune.remove(layer, 'weight')",
    ),
    "pruned bias": (
        lambda layer: prune.random_unstructured(layer, "bias", 1),
        "prune.remove(layer, 'bias')",
    ),
}


@pytest.mark.parametrize("kind", REPARAMETRISED)
@pytest.mark.parametrize("name", [None, "2"])
def test_a_reparametrised_head_is_an_error_that_undoes_it(kind, name):
    wrap, undo = REPARAMETRISED[kind]
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), wrap(nn.Linear(5, 3)))
    with pytest.raises(InvalidNetworkError, match=f"'2' is reparametrised.*{re.escape(undo)}"):
        find_head(module, forward, name)
    # What the error says is run as it stands, and helps.
    call = undo if undo.startswith(("parametrize", "prune")) else f"nn.utils.{undo}"
    exec(call, {"layer": module[2], "nn": nn, "prune": prune, "parametrize": parametrize})
    assert find_head(module, forward, name) == "2"


def test_a_reparametrised_layer_that_could_not_be_the_head_is_not_blamed():
    module = nn.Sequential(nn.utils.spectral_norm(nn.Linear(6, 6)), nn.Linear(6, 3), nn.Flatten(0))
    module.append(nn.Unflatten(0, (-1, 3)))  # three outputs, whatever the head has
    with pytest.raises(InvalidNetworkError, match=r"No torch\.nn\.Linear"):
        find_head(module, forward)


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_empty_weights_are_not_perturbed_and_are_named_where_nothing_else_is():
    module = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    module.aside = nn.Linear(6, 0)
    assert partition(module, "1").perturbed == ("0.weight",)
    empty = nn.Sequential(nn.Linear(6, 0), nn.Linear(0, 3))
    with pytest.raises(InvalidNetworkError, match=r"0\.weight is empty.*width above 0"):
        partition(empty, "1")
