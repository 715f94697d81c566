"""A perturbed convolution whose gradients need no gradient of the dense weight.

With ``W_t = diag(r) W diag(s) + U V`` added at each position of the kernel, y the output
without bias, g its gradient, and x' the sums of the input over the window of each output:

    M = sum over rows and places of g x'       (the gradient of U V, a small matrix)
    dL/dU = M V^T,  dL/dV = U^T M
    r_o dL/dr_o = <g_o, y_o> - <(U V)_o, M_o>
    s_i dL/ds_i = <x_i, dL/dx_i> - <(U V)_i, M_i>

since <g_o, y_o> and <x_i, dL/dx_i> are the products of the dense weight with its gradient, by
outputs and by inputs. This costs a few passes over the data where the gradient of the dense
weight would cost as much as the convolution itself.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from sklearn_halrp._low_rank import Factors, effective_weight, positions

CONVOLUTIONS = {F.conv1d, F.conv2d, F.conv3d}
# The formulas divide by the scales: below this the rounding of the sums would show.
SMALLEST_SCALE = 0.05
# Values of the input in a part of the batch whose passes stay in the cache.
PART = 2**17


def convolve(
    function: Callable[..., Any],
    x: torch.Tensor,
    weight: Any,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> torch.Tensor:
    """Return a convolution with a perturbed weight."""
    if not _pays(x, weight, stride, padding, dilation, groups):
        return function(x, weight.dense(), bias, stride, padding, dilation, groups)
    y = _Convolution.apply(x, weight.weight, *weight.factors, function, _each(padding, x))
    return y if bias is None else y + bias.reshape(-1, *(1,) * (x.dim() - 2))


def _pays(
    x: torch.Tensor, weight: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> bool:
    """Whether the gradients are taken from the formulas, rather than through the weight."""
    return (
        torch.is_grad_enabled()
        and weight.form == "channel"
        and weight.device.type == x.device.type == "cpu"  # elsewhere it has not been timed
        and x.numel() > 0
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
        and x.requires_grad  # else the gradient of the input would be computed for this alone
        and x.dim() == weight.dim()
        and x.dtype is weight.dtype
        and not torch.is_autocast_enabled("cpu")
        and positions(weight.shape) > 1
        and groups == 1
        and not isinstance(padding, str)
        and set(_each(stride, x)) == set(_each(dilation, x)) == {1}
        and all((scale.detach().abs() > SMALLEST_SCALE).all() for scale in weight.factors[:2])
    )


def _each(setting: Any, x: torch.Tensor) -> tuple[int, ...]:
    """Return a setting for each axis of the kernel."""
    return tuple(setting) if isinstance(setting, list | tuple) else (setting,) * (x.dim() - 2)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        r: torch.Tensor,
        s: torch.Tensor,
        u: torch.Tensor,
        v: torch.Tensor,
        function: Callable[..., Any],
        padding: tuple[int, ...],
    ) -> torch.Tensor:
        ctx.dense = effective_weight(weight, Factors(r, s, u, v), "channel")
        y = function(x, ctx.dense, None, 1, padding)
        ctx.save_for_backward(x, weight, r, s, u, v)
        ctx.settings = function, padding
        ctx.output = y.detach()  # not saved by autograd, which would forbid changes in place
        ctx.version = y._version
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        saved = ctx.saved_tensors  # which checkpointing lets us read but once
        x, _, r, s, u, v = saved
        dense, (_, padding) = ctx.dense, ctx.settings
        if torch.is_grad_enabled() or ctx.output._version != ctx.version:
            return _through_the_weight(saved, ctx.settings, g)
        ones, zeros = [1] * len(padding), [0] * len(padding)
        gx, _, _ = torch.ops.aten.convolution_backward(
            g, x, dense, None, ones, padding, ones, False, zeros, 1, [True, False, False]
        )
        m, rows, columns = torch.zeros_like(dense.flatten(2)[..., 0]), 0, 0
        size = max(1, PART // x[0].numel())
        for parts in zip(*(t.split(size) for t in (x, g, gx, ctx.output)), strict=True):
            a, b, c, d = (part.flatten(2) for part in parts)
            windows = _windows(parts[0], dense.shape[2:], padding)
            m += torch.bmm(b, windows.flatten(2).mT).sum(0)
            rows = rows + (b * d).sum((0, 2))
            columns = columns + (a * c).sum((0, 2))
        low = (u @ v) * m
        dr = (rows - low.sum(1)) / r if r.numel() else None
        ds = (columns - low.sum(0)) / s if s.numel() else None
        return gx, None, dr, ds, m @ v.T, u.T @ m, None, None


def _windows(x: torch.Tensor, kernel: tuple[int, ...], padding: tuple[int, ...]) -> torch.Tensor:
    """Return the sums of the input over the window of each output."""
    x = F.pad(x, [size for size in reversed(padding) for _ in range(2)])
    for axis, length in enumerate(kernel, start=2):
        end = x.shape[axis] - length + 1
        total = x.narrow(axis, 0, end).clone()
        for place in range(1, length):
            total += x.narrow(axis, place, end)
        x = total
    return x


def _through_the_weight(
    saved: tuple[torch.Tensor, ...], settings: tuple[Any, Any], g: torch.Tensor
) -> tuple[torch.Tensor | None, ...]:
    """Return the gradients by computing anew, differentiable themselves if asked to be."""
    x, weight, r, s, u, v = saved
    function, padding = settings
    create = torch.is_grad_enabled()
    with torch.enable_grad():
        dense = effective_weight(weight, Factors(r, s, u, v), "channel")
        y = function(x, dense, None, 1, padding)
        gx, *rest = torch.autograd.grad(
            y, (x, r, s, u, v), g, create_graph=create, allow_unused=True
        )
    return gx, None, *rest, None, None
