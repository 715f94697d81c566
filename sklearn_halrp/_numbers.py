"""Numbers as targets: what a regressor learns."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNet, NeuralNetRegressor
from torch import nn

from sklearn_halrp._default_net import DefaultRegressor, default_net
from sklearn_halrp._labels import entries, shown
from sklearn_halrp._predictive import gauss_newton_loss
from sklearn_halrp._sample_weight import weights_in
from sklearn_halrp._types import TaskId
from sklearn_halrp._units import in_units

# Of these a shift or another unit of the targets only makes a better step of training. Of
# others it may change the meaning: a count is not negative.
_OF_DIFFERENCES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """One output for each number that a task predicts.

    The network learns ``(y - center) / scale``.

    Attributes
    ----------
    center : array of shape (n_outputs,)
    scale : array of shape (n_outputs,)
        Zeros and ones where targets are not standardised.
    """

    center: NDArray[Any]
    scale: NDArray[Any]

    # --- a kind of target: what holds for all tasks of an estimator

    net_class = NeuralNetRegressor
    y_checks = {"multi_output": True, "y_numeric": True}  # beside those of `check_X_y`
    default_net = staticmethod(partial(default_net, kind=DefaultRegressor, criterion=nn.MSELoss))
    noun: ClassVar[str] = "outputs"
    shown: ClassVar[tuple[str, str, str]] = ("valid_loss", "held-out loss", ".3g")

    @staticmethod
    def prepared(y: Any, name: str = "y") -> Any:
        """Return y, or what an argument of this name brings, as scikit-learn's checks take it."""
        if y is None:
            return y
        if isinstance(y, Mapping | Set | Iterator) or np.ndim(entries(y)) == 0:
            raise TypeError(f"{name} must be an array or a list of numbers; got {shown(y)}.")
        if np.ndim(entries(y)) > 2:
            raise ValueError(
                f"{name} must have one number for each row, or several; got shape {np.shape(y)}."
            )
        _refuse_text(y)
        if isinstance(y, list | tuple | np.ma.MaskedArray):
            y = entries(y)  # with None for what a mask hides
        if isinstance(y, np.ndarray) and y.dtype.kind == "O":
            try:
                return y.astype(np.float64)
            except (TypeError, ValueError, OverflowError) as error:
                raise ValueError(f"{name} must have numbers for targets: {error}") from error
        return y

    @classmethod
    def of_task(
        cls,
        task_id: TaskId,
        y: NDArray[Any],
        weights: NDArray[Any] | None = None,
        known: Self | None = None,
        standardize: Any = "auto",
        net: NeuralNet | None = None,
        dtype: DTypeLike = "float32",
    ) -> tuple[Self, NDArray[Any]]:
        """Return the target of a task, and its numbers as the loss takes them.

        Parameters
        ----------
        task_id : int or str
        y : array of shape (n_samples,) or (n_samples, n_outputs)
        weights : array of shape (n_samples,), optional
            Of the rows, which count as often in mean and deviation.
        known : Numbers, optional
            What the task had before this call; it keeps its center and scale.
        standardize : {"auto", True, False}
        net : skorch.NeuralNetRegressor, optional
            For its loss; without one that is the squared error.
        dtype : str or numpy dtype
            That of X: where it is one of floats, it is that of the outputs too.

        Returns
        -------
        target : Numbers
        encoded : array of shape (n_samples, n_outputs)

        Raises
        ------
        ValueError
            If `y` has no finite numbers, not as many outputs as before, or numbers that make
            no sense for the loss.
        """
        y = _numbers_of_task(task_id, y)
        loss = None if net is None else _loss_of(net)
        _check_sense(task_id, y, loss, standardize)
        if known is None:
            if standardize == "auto":
                standardize = loss is None or isinstance(loss, _OF_DIFFERENCES)
            known = cls._of(y, weights, standardize)
        elif known.n_outputs != y.shape[1]:
            raise ValueError(
                f"Task {task_id!r} predicts {known.n_outputs} numbers a row, and y now has "
                f"{y.shape[1]}. A known task keeps its outputs: learn the others as a new task."
            )
        dtype = np.dtype(dtype)
        dtype = dtype if dtype.kind == "f" else np.dtype("float32")
        with np.errstate(over="ignore", invalid="ignore"):
            encoded = ((y - known.center) / known.scale).astype(dtype)
        if not (np.isfinite(known.scale).all() and np.isfinite(encoded).all()):
            raise ValueError(
                f"The targets of task {task_id!r} are as large as {np.abs(y).max():.3g}, too large "
                f"to compute with in {dtype}. Give them in another unit."
            )
        return known, encoded

    @classmethod
    def _of(cls, y: NDArray[Any], weights: NDArray[Any] | None, standardize: bool) -> Self:
        """Return the target that brings these numbers to mean 0 and deviation 1, or leaves them."""
        if not standardize:
            return cls(np.zeros(y.shape[1]), np.ones(y.shape[1]))
        with np.errstate(over="ignore", invalid="ignore"):
            # A constant, but for rounding, gets the scale 1.
            scaler = StandardScaler().fit(y, sample_weight=weights)
        return cls(np.asarray(scaler.mean_), np.asarray(scaler.scale_))

    @classmethod
    def made_up(cls, n_outputs: int) -> Self:
        """Return the target of a task that nobody has."""
        return cls(np.zeros(n_outputs), np.ones(n_outputs))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the target that `to_state` was asked for; take its entries out."""
        target = cls(state.pop("center"), state.pop("scale"))
        target.check()
        return target

    # --- the target of one task

    @property
    def n_outputs(self) -> int:
        """Outputs that the head needs."""
        return len(self.center)

    def check_outputs(self, recipe: NeuralNet, outputs: Any) -> None:
        """Question outputs that cannot be what is asked for.

        Warns
        -----
        UserWarning
            If targets are standardised, so that half of them are negative, and the outputs
            are those of a ReLU.
        """
        standardised = self.center.any() or (self.scale != 1).any()
        zeros = (outputs == 0).sum()
        if standardised and (outputs >= 0).all() and 0 < zeros < outputs.numel():
            warnings.warn(
                "No output of the module is negative, and some are 0, as after a ReLU: targets "
                "are standardised, so that many are negative. Let the module end in its linear "
                "layer, or pass standardize=False.",
                stacklevel=2,
            )

    @staticmethod
    def check_loss(criterion: nn.Module, task_id: TaskId) -> None:
        """Accept the loss: what it asks of the targets was checked with them."""

    @staticmethod
    def curvature_loss(net: NeuralNet, outputs: Any, y: Any, x: Any) -> torch.Tensor | None:
        """Return a scalar whose squared gradient stands for the Hessian, or None.

        See `gauss_newton_loss`.
        """
        return gauss_newton_loss(net, outputs, y, x, weights_in(x))

    def decoded(self, outputs: NDArray[Any], net: NeuralNet) -> NDArray[Any]:
        """Return what a net's outputs say, in the units of y.

        Those of a Poisson loss are the logarithm of the mean, unless the net itself says what
        to make of outputs.
        """
        values = np.asarray(outputs, dtype=np.float64)
        loss = net.criterion_
        if isinstance(loss, nn.PoissonNLLLoss) and loss.log_input:
            values = np.exp(values) if net.predict_nonlinearity == "auto" else values
        return values * self.scale + self.center

    def finished(
        self, module: nn.Module, head: str, trial: Callable[[], Callable[..., Any]]
    ) -> nn.Module:
        """Return a task's module as it is given away: with outputs in the units of y."""
        return in_units(module, head, self.center, self.scale, trial)

    def summary(self) -> dict[str, int]:
        """Return what a report says of the target."""
        return {"n_outputs": self.n_outputs}

    def names(self) -> list[Any]:
        """Return what each output means: its number."""
        return list(range(self.n_outputs))

    def to_state(self) -> dict[str, Any]:
        """Return arrays and settings to save."""
        return {"center": self.center, "scale": self.scale}

    def check(self) -> None:
        """Refuse what no task has; it may have come from a file.

        Raises
        ------
        ValueError
        """
        center, scale = self.center, self.scale
        if center.ndim != 1 or center.shape != scale.shape or not len(center):
            raise ValueError(f"it has a center of shape {center.shape}, and scale {scale.shape}")
        kinds = {center.dtype.kind, scale.dtype.kind}
        if kinds != {"f"} or not np.isfinite([center, scale]).all() or not (scale > 0).all():
            raise ValueError("it has a center or a scale that no numbers have")

    @staticmethod
    def shown_beside_others() -> None:
        """Return what a prediction for other tasks shows of this one: nothing."""

    @staticmethod
    def joined(several: Iterable["Numbers"]) -> int:
        """Return the number of outputs that all these tasks have.

        Raises
        ------
        ValueError
            If they have not all the same.
        """
        counts = sorted({target.n_outputs for target in several})
        if len(counts) > 1:
            raise ValueError(
                f"Some of these tasks predict {counts[0]} number{'s' * (counts[0] > 1)} a row and "
                f"others {counts[-1]}, which one array cannot hold. Ask for tasks with as many "
                "outputs in one call, and for the others in another."
            )
        return counts[0]


def _refuse_text(y: Any) -> None:
    """Refuse strings, before anybody tries to make numbers of them."""
    values = y if hasattr(y, "dtype") else entries(y)
    kind = getattr(values.dtype, "kind", "")
    if kind in ("U", "S"):
        texts = np.ravel(values).tolist()
    else:
        values = np.ravel(np.asarray(values)) if kind == "O" else ()
        texts = [value for value in values if isinstance(value, str | bytes)]
    if texts:
        raise ValueError(
            f"y has strings, such as {texts[0]!r}, and a regressor predicts numbers. Convert them "
            "to numbers, or learn them as labels with ContinualClassifier."
        )


def _numbers_of_task(task_id: TaskId, y: NDArray[Any]) -> NDArray[np.float64]:
    """Return the targets of one task as a table of finite numbers."""
    _refuse_text(y)
    if y.ndim not in (1, 2) or y.dtype.kind not in "buif" or 0 in y.shape:
        raise ValueError(
            f"The targets of task {task_id!r} must be numbers, one or several a row; y has shape "
            f"{y.shape} and type {y.dtype}."
        )
    y = y.reshape(len(y), -1).astype(np.float64)
    if not np.isfinite(y).all():
        raise ValueError(f"The targets of task {task_id!r} contain NaN or infinity.")
    return y


def _loss_of(net: NeuralNet) -> nn.Module:
    """Return the loss of a net that was not initialised."""
    return net.initialized_instance(net.criterion, net.get_params_for("criterion"))


def _check_sense(
    task_id: TaskId, y: NDArray[Any], loss: nn.Module | None, standardize: Any
) -> None:
    """Refuse targets that the Poisson loss has no meaning for."""
    if not isinstance(loss, nn.PoissonNLLLoss):
        return
    if standardize is True:
        raise ValueError(
            "PoissonNLLLoss takes counts or rates as they are, and standardize=True would make "
            'some of them negative. Leave it at "auto".'
        )
    if y.min() < 0:
        raise ValueError(
            f"PoissonNLLLoss takes counts or rates, and y of task {task_id!r} has {y.min():g}. "
            "Give targets that are not negative, or the net another loss."
        )
