"""A tensor that stands for a perturbed weight while a task is trained."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_map_only

from sklearn_halrp._convolution import CONVOLUTIONS, convolve
from sklearn_halrp._low_rank import Factors, effective_weight, matrix_shape

# What can be answered from the shape alone, without forming the dense weight.
_DESCRIPTIONS = {
    torch.Tensor.shape.__get__,
    torch.Tensor.dtype.__get__,
    torch.Tensor.device.__get__,
    torch.Tensor.layout.__get__,
    torch.Tensor.ndim.__get__,
    torch.Tensor.is_sparse.__get__,
    torch.Tensor.is_nested.__get__,
    torch.Tensor.is_cuda.__get__,
    torch.Tensor.size,
    torch.Tensor.dim,
    torch.Tensor.numel,
    torch.Tensor.is_floating_point,
    torch.Tensor.is_complex,
    torch.is_floating_point,
    torch.is_complex,
    torch.numel,
}


class PerturbedWeight(torch.Tensor):
    """Stands for ``diag(r) W diag(s) + U V`` in the place of a weight.

    A linear layer is computed from the factors, ``r * (W (s * x)) + U (V x)``, so that
    neither the dense weight nor its gradient is ever formed; a convolution forms the weight
    and not its gradient, where that pays. Any other function gets the dense weight, so every
    module works unchanged, whatever it does with its weight.

    Parameters
    ----------
    weight : tensor of shape (out, in, *kernel)
        The base's weight; it gets no gradient.
    factors : Factors
        The parameters that are trained.
    form : {"channel", "unfolded"}
    """

    @staticmethod
    def __new__(cls, weight: torch.Tensor, factors: Factors, form: str) -> "PerturbedWeight":
        """Make a tensor of the weight's shape that has no storage of its own."""
        expected = matrix_shape(weight.shape, form)
        if (factors.u.shape[0], factors.v.shape[1]) != expected:
            raise ValueError(f"The factors do not fit a weight of shape {tuple(weight.shape)}.")
        self = torch.Tensor._make_wrapper_subclass(
            cls, weight.shape, dtype=weight.dtype, device=weight.device
        )
        self.weight, self.factors, self.form = weight.detach(), factors, form
        return self

    def __repr__(self) -> str:
        return f"PerturbedWeight(shape={tuple(self.weight.shape)}, rank={self.factors.u.shape[1]})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "PerturbedWeight":
        """Copy the factors with it, once, as the module that registers them does."""
        factors = Factors(*(copy.deepcopy(tensor, memo) for tensor in self.factors))
        memo[id(self)] = PerturbedWeight(self.weight, factors, self.form)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Pickle the factors with it, once, as the module that registers them does."""
        return PerturbedWeight, (self.weight, self.factors, self.form)

    def dense(self) -> torch.Tensor:
        """Return the weight it stands for, with gradients to the factors."""
        return effective_weight(self.weight, self.factors, self.form)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer a function that is given one of these instead of a plain weight."""
        kwargs = kwargs or {}
        if func in _DESCRIPTIONS or func.__name__ == "__set__":
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if func is F.linear:
            call = _linear_arguments(*args, **kwargs)
            if isinstance(call[1], cls) and not isinstance(call[0], cls):
                return _linear(*call)
        if func in CONVOLUTIONS and len(args) > 1 and isinstance(args[1], cls):
            return convolve(func, *args, **kwargs)
        args, kwargs = tree_map_only(cls, cls.dense, (args, kwargs))
        return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Refuse what went past `__torch_function__`: it would lose the gradient."""
        raise NotImplementedError(f"{func} cannot be used on a perturbed weight.")


def _linear_arguments(
    input: torch.Tensor, weight: Any, bias: torch.Tensor | None = None
) -> tuple[torch.Tensor, Any, torch.Tensor | None]:
    return input, weight, bias


def _linear(x: torch.Tensor, weight: Any, bias: torch.Tensor | None) -> torch.Tensor:
    r, s, u, v = weight.factors
    y = F.linear(x * s if s.numel() else x, weight.weight)
    if r.numel():
        y = y * r.to(y.dtype)  # under autocast a linear layer gives a type of its own
    if u.shape[1]:
        y = y + F.linear(F.linear(x, v), u)
    return y if bias is None else y + bias.to(y.dtype)
