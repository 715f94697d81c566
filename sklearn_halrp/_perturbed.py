"""A module in training whose weights are perturbations of the base's."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sklearn_halrp._low_rank import Factors
from sklearn_halrp._modules import get_tensor, locate
from sklearn_halrp._network import Network
from sklearn_halrp._weight import PerturbedWeight


def perturbed_module(
    network: Network, own: Mapping[str, torch.Tensor], factors: Mapping[str, Factors]
) -> nn.Module:
    """Return a copy of the base that is trained through the factors of its weights.

    Parameters
    ----------
    network : Network
        If it is `dense`, the weights are formed before each pass; otherwise each is a
        `PerturbedWeight`, which is faster, and knows when it need not be formed.
    own : dict of str to tensor
        The tensors that belong to the task.
    factors : dict of str to Factors
        Of parameters; they become parameters of the module, as ``NAME_r`` and so on.

    Returns
    -------
    torch.nn.Module
    """
    weights = {
        name: PerturbedWeight(get_tensor(network.base, name), tensors, network.form)
        for name, tensors in factors.items()
    }
    module = network.module_with({**network.fixed(), **own, **weights})
    for name, tensors in factors.items():
        owner, leaf = locate(module, name)
        for part, parameter in tensors._asdict().items():
            owner.register_parameter(f"{leaf}_{part}", parameter)
    if network.dense:
        names = {name: network.roles.every_name(name) for name in weights}
        module.register_forward_pre_hook(_FormWeights(weights, names))
    return module


class _FormWeights:
    """Puts the dense weights in place before each pass."""

    def __init__(
        self, weights: Mapping[str, PerturbedWeight], names: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.weights = weights
        self.names = names

    def __call__(self, module: nn.Module, inputs: Any) -> None:
        for name, weight in self.weights.items():
            dense = weight.dense()
            for each in self.names[name]:
                owner, leaf = locate(module, each)
                setattr(owner, leaf, dense)
