"""What a network says of a few made-up rows: it tells networks of the same tensors apart."""

import math
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from skorch import NeuralNet
from torch.utils._python_dispatch import TorchDispatchMode

from sklearn_halrp._faults import let_through
from sklearn_halrp._learned import Learned
from sklearn_halrp._modules import named_tensors
from sklearn_halrp._predictive import first_of
from sklearn_halrp._serving import batch_size_of, outputs_of
from sklearn_halrp._training import around

ROWS = 2
MOST_NUMBERS = 2**20  # of the rows: more would take too long
MOST_OUTPUTS = 64
DIGITS = 6

# Another machine rounds differently: so much of the largest output, with float32 on a CPU.
_TOLERANCE, _ROUNDING = 1e-3, 1e-6
# Numbers of two bytes, and a GPU, which may round products to ten bits.
_LOOSE_TOLERANCE, _LOOSE_ROUNDING = 5e-2, 1e-3
_SMALLEST = 1e-4


class AnotherNetworkError(ValueError):
    """What is there now is not what was saved."""


def fingerprint(learned: Learned, dtype: DTypeLike) -> dict[str, Any] | None:
    """Return what the first task's network says of a few made-up rows, as plain data.

    No random number of the process is drawn, and no lock is waited for.

    Parameters
    ----------
    learned : Learned
    dtype : str or numpy dtype
        That of the rows.

    Returns
    -------
    dict or None
        None if the network cannot take such rows, is random, gives NaN, or changes so much with
        the rounding of its input that another machine might find another answer.
    """
    if not learned.tasks:
        return None
    try:
        found = _of_rows(learned, np.dtype(dtype), signed=False)
    except Exception as error:  # whatever a module says of rows that make no sense to it
        let_through(error, answer=Warning)
        return None
    if found is None or np.dtype(dtype).kind != "f":
        return found
    try:
        return {**found, "signed": _of_rows(learned, np.dtype(dtype), signed=True)}
    except Exception as error:  # many modules take no negative numbers
        let_through(error, answer=Warning)
        return found


def _of_rows(learned: Learned, dtype: np.dtype[Any], signed: bool) -> dict[str, Any] | None:
    rows = _rows(learned.columns.sample_shape, dtype, signed)
    net, target = _net_of_first_task(learned)
    loose = _is_loose(net)
    said = _said(net, target, rows)
    if rows.dtype.kind in "fc":
        rows = rows * rows.dtype.type(1 + (_LOOSE_ROUNDING if loose else _ROUNDING))
    again = _said(net, target, rows)
    broken = any(np.isnan(array).any() for array in said.values())
    if broken or not _close(said, again, loose, share=0.25):
        return None
    listed = {name: _rounded(array) for name, array in said.items()}
    return {"dtype": dtype.str, "loose": loose, **listed}


def check_fingerprint(kept: dict[str, Any] | None, learned: Learned) -> None:
    """Refuse a network that says something else than the one that was saved.

    Raises
    ------
    AnotherNetworkError
    """
    if kept is None:
        return
    why = ""
    try:
        net, target = _net_of_first_task(learned)
        loose = kept["loose"] or _is_loose(net)
        same = True
        for of_rows, signed in ((kept, False), (kept.get("signed"), True)):
            if of_rows is None:
                continue
            rows = _rows(learned.columns.sample_shape, np.dtype(kept["dtype"]), signed)
            said = _said(net, target, rows)
            before = {name: np.array(of_rows[name], dtype=np.float64) for name in said}
            same = same and _close(before, said, loose)
        if same:
            return
    except Exception as error:
        let_through(error, answer=Warning)
        why = f" ({type(error).__name__}: {error})"
    raise AnotherNetworkError(
        f"The network computes something else than the one that was saved{why}: the code or the "
        "arguments of the module, predict_nonlinearity or the criterion of the net are others. "
        "Load it with those that it was saved with."
    )


def _rows(shape: tuple[int, ...], dtype: np.dtype[Any], signed: bool) -> NDArray[Any]:
    """Return made-up rows: in [0, 1), which most modules take, and ints 0; or standard normal."""
    if ROWS * math.prod(shape) > MOST_NUMBERS or dtype.kind not in "biufc":
        raise ValueError(f"no rows of shape {shape} and type {dtype}")
    draw = np.random.RandomState(0)
    return (draw.randn if signed else draw.rand)(ROWS, *shape).astype(dtype)


def _net_of_first_task(learned: Learned) -> tuple[NeuralNet, Any]:
    task = next(iter(learned.tasks.values()))
    with _NoDraws():
        net = around(
            learned.net,
            learned.network.module_for(task),
            draws=False,
            own=False,
            callbacks="disable",
            compile=False,
            verbose=0,
        )
    return net, task.target


def _said(net: NeuralNet, target: Any, rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return what the module gives, before probabilities hide most of it, and what is predicted."""
    with ExitStack() as stack:
        stack.enter_context(_NoDraws())
        stack.enter_context(torch.no_grad())
        for kind in {"cpu", torch.device(net.device or "cpu").type}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        predicted = target.decoded(outputs_of(net, rows.copy()), net)
        if batch_size_of(net) is None:  # its way from rows to outputs is its own
            return {"predicted": np.asarray(predicted)}
        outputs = first_of(net.infer(torch.from_numpy(rows.copy())))
        return {"predicted": np.asarray(predicted), "outputs": outputs.double().cpu().numpy()}


def _is_loose(net: NeuralNet) -> bool:
    tensors = named_tensors(net.module_).values()
    return any(
        t.device.type != "cpu" or (t.is_floating_point() and t.itemsize < 4) for t in tensors
    )


def _close(
    before: dict[str, NDArray[Any]],
    now: dict[str, NDArray[Any]],
    loose: bool,
    share: float = 1.0,
) -> bool:
    tolerance = share * (_LOOSE_TOLERANCE if loose else _TOLERANCE)
    return all(_near(before[name], now[name], tolerance) for name in now)


def _near(before: NDArray[Any], now: NDArray[Any], tolerance: float) -> bool:
    now = now[:, :MOST_OUTPUTS]
    before = before[:, :MOST_OUTPUTS]
    if before.shape != now.shape:
        return False
    finite = now[np.isfinite(now)]  # a class that is ruled out has minus infinity
    size = max(float(np.abs(finite).max(initial=0.0)), _SMALLEST / _TOLERANCE)
    return bool(np.isclose(before, now, rtol=0, atol=tolerance * size).all())


def _rounded(array: NDArray[Any]) -> list[list[float]]:
    return [[float(f"{v:.{DIGITS}g}") for v in row[:MOST_OUTPUTS]] for row in array.tolist()]


class _NoDraws(TorchDispatchMode):
    """Let nothing draw from torch's generators, which belong to whoever trains meanwhile."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags and not _is_off(func, args, kwargs):
            raise RuntimeError(f"{func} would draw random numbers")
        return func(*args, **kwargs)


def _is_off(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether an operation that may draw is told not to, as attention without dropout is."""
    given = {}
    for number, argument in enumerate(func._schema.arguments):
        default = argument.default_value if argument.has_default_value() else None
        passed = args[number] if number < len(args) else default
        given[argument.name] = kwargs.get(argument.name, passed)
    switches = [given[name] for name in ("train", "training") if name in given]
    rates = [given[name] for name in ("dropout_p", "dropout") if name in given]
    return any(switch is False for switch in switches) or any(rate == 0 for rate in rates)
