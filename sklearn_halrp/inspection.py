"""Pictures of what was learned, as displays in scikit-learn's manner.

A display holds numbers; ``plot`` draws them and keeps the artists in attributes that end
in ``_``. Matplotlib is imported only then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_halrp._checks import innermost
from sklearn_halrp._drawing import (
    MOST_LABELLED,
    MOST_WRITTEN,
    label,
    names_of,
    pyplot,
    shortened,
    tidy,
    write,
)
from sklearn_halrp.metrics import _accuracy_matrix, _order, accuracy_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.typing import ColorType
    from sklearn.base import BaseEstimator

__all__ = ["AccuracyMatrixDisplay", "GrowthDisplay", "RanksDisplay", "SpectrumDisplay"]


class AccuracyMatrixDisplay:
    """Heat map of the accuracy on every task after every task.

    Read a column downwards to see what became of a task: it keeps its colour where
    nothing is forgotten, and fades where it is.

    Parameters
    ----------
    matrix : array-like of shape (n_tasks, n_tasks)
        ``matrix[i, j]`` is the accuracy, in [0, 1], on task j after learning task i.
        What lies above the diagonal is not drawn and may be NaN.
    task_ids : sequence of int or str, default=None
        Names of the tasks, in the order they were learned. None numbers them from 0.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    im_ : matplotlib AxesImage
    text_ : list of matplotlib Text
        The values in the cells; empty for more than 12 tasks.

    See Also
    --------
    sklearn_halrp.metrics : Numbers that sum up such a matrix.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn_halrp.inspection import AccuracyMatrixDisplay
    >>> matrix = [[0.97, 0.00], [0.97, 0.93]]
    >>> display = AccuracyMatrixDisplay(matrix, task_ids=["upright", "turned"]).plot()
    >>> [text.get_text() for text in display.text_]
    ['97.0', '97.0', '93.0']
    >>> plt.close(display.figure_)
    """

    def __init__(self, matrix: ArrayLike, task_ids: Sequence[int | str] | None = None) -> None:
        self.matrix = matrix
        self.task_ids = task_ids

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_preds: Sequence[ArrayLike] | NDArray[Any],
        *,
        task_id: ArrayLike,
        tasks: Sequence[int | str] | NDArray[Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the accuracies of what was predicted after each task.

        There is no ``from_estimator``: what a classifier predicted on the way, it cannot tell
        afterwards.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Labels of the test rows of all tasks.
        y_preds : sequence of n_tasks array-likes
            For each task what was predicted after it was learned: for the rows of the tasks
            known by then, in the order of y_true, or for all rows.
        task_id : array-like of shape (n_samples,)
            The task of each row.
        tasks : sequence of task ids, default=None
            The tasks in the order they were learned. None takes them in the order of their
            first rows.
        **kwargs
            Passed to `plot`.

        Returns
        -------
        AccuracyMatrixDisplay

        Raises
        ------
        ValueError
            As `sklearn_halrp.metrics.accuracy_matrix`.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sklearn_halrp.inspection import AccuracyMatrixDisplay
        >>> display = AccuracyMatrixDisplay.from_predictions(
        ...     y_true=[0, 1, 5, 6], y_preds=[[0, 1], [0, 0, 5, 6]], task_id=["a", "a", "b", "b"]
        ... )
        >>> [text.get_text() for text in display.text_]
        ['100.0', '50.0', '100.0']
        >>> plt.close(display.figure_)
        """
        matrix = accuracy_matrix(y_true, y_preds, task_id=task_id, tasks=tasks)
        return cls(matrix, _order(task_id, tasks)).plot(**kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        cmap: str | Colormap = "YlGnBu",
        vmin: float = 0.0,
        vmax: float = 1.0,
        colorbar: bool = True,
    ) -> Self:
        """Draw the heat map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.
        cmap : str or matplotlib Colormap, default="YlGnBu"
            The default can be told apart with any colour vision, and in grey.
        vmin, vmax : float, default=0.0, 1.0
            Accuracies at the ends of the colour scale. Keep them for pictures that are to
            be compared.
        colorbar : bool, default=True
            Whether to draw the scale.

        Returns
        -------
        self : AccuracyMatrixDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the matrix is not square, or not finite on and below its diagonal; if there
            are not as many names as tasks.
        """
        plt = pyplot()
        from matplotlib.ticker import PercentFormatter

        a = _accuracy_matrix(self.matrix)
        names = names_of(self.task_ids, len(a))
        if ax is None:
            side = np.clip(2.5 + 0.5 * len(a), 4, 8)
            _, ax = plt.subplots(figsize=(side + 0.5, side), layout="constrained")
        below = np.tri(len(a), dtype=bool)
        shown = np.ma.array(a, mask=~below)
        self.im_ = ax.imshow(shown, cmap=cmap, vmin=vmin, vmax=vmax, interpolation="nearest")
        self.text_ = write(ax, self.im_, below, lambda accuracy: f"{100 * accuracy:.1f}")
        label(ax.xaxis, names)
        label(ax.yaxis, names)
        tidy(ax, a.shape)
        ax.set(xlabel="accuracy on task", ylabel="after learning task")
        if colorbar:
            percent = PercentFormatter(1.0, decimals=0)
            bar = ax.figure.colorbar(self.im_, ax=ax, shrink=0.8, format=percent)
            bar.outline.set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return self


class RanksDisplay:
    """Heat map of the rank of each layer for each task.

    A layer that a task left without low-rank terms is blank: it has scales alone.

    Parameters
    ----------
    ranks : dict of task id to dict of str to int
        Ranks by task and weight, as in `ContinualClassifier.ranks_`.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    im_ : matplotlib AxesImage
    text_ : list of matplotlib Text
        The ranks in the cells; empty for more than 12 tasks or layers.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn_halrp.inspection import RanksDisplay
    >>> ranks = {"upright": {"conv.weight": 0, "fc.weight": 0},
    ...          "turned": {"conv.weight": 3, "fc.weight": 20}}
    >>> display = RanksDisplay(ranks).plot()
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['conv', 'fc']
    >>> plt.close(display.figure_)
    """

    # Any: to a type checker, a dict with ids of one kind has no keys of int | str.
    def __init__(self, ranks: Mapping[Any, Mapping[str, int]]) -> None:
        self.ranks = ranks

    @classmethod
    def from_estimator(cls, estimator: BaseEstimator, **kwargs: Any) -> Self:
        """Draw the ranks of what a classifier has learned.

        Parameters
        ----------
        estimator : ContinualClassifier or ContinualRegressor
            Fitted; or a Pipeline that ends in one, or a search over either.
        **kwargs
            Passed to `plot`.

        Returns
        -------
        RanksDisplay
        """
        return cls(_classifier(estimator).ranks_).plot(**kwargs)

    def plot(self, ax: Axes | None = None, *, cmap: str | Colormap = "GnBu") -> Self:
        """Draw the heat map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.
        cmap : str or matplotlib Colormap, default="GnBu"
            The default can be told apart with any colour vision, and in grey.

        Returns
        -------
        self : RanksDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there are no tasks.
        """
        plt = pyplot()
        from matplotlib.colors import PowerNorm
        from matplotlib.ticker import MaxNLocator

        if not self.ranks:
            raise ValueError("There are no tasks to draw.")
        layers = list(dict.fromkeys(layer for task in self.ranks.values() for layer in task))
        table = np.array([[task.get(n, 0) for task in self.ranks.values()] for n in layers])
        if ax is None:
            width, height = np.clip((3 + 0.35 * len(self.ranks), 2 + 0.25 * len(layers)), 4.2, 8)
            _, ax = plt.subplots(figsize=(width, height), layout="constrained")
        # Ranks range from 1 to 100: a root spreads the small ones. Zeros stay blank.
        norm = PowerNorm(0.5, vmin=0, vmax=max(table.max(), 1))
        there = table > 0
        shown = np.ma.array(table, mask=~there)
        # Matplotlib would smooth many tasks, and with them the few layers into each other.
        self.im_ = ax.imshow(shown, cmap=cmap, norm=norm, aspect="auto", interpolation="nearest")
        self.text_ = write(ax, self.im_, there, str)
        label(ax.xaxis, list(self.ranks))
        label(ax.yaxis, [layer.removesuffix(".weight") for layer in layers])
        tidy(ax, table.shape)
        ax.set_facecolor("0.95")
        ax.set_title("rank of each layer", loc="left")
        ticks = MaxNLocator(5, integer=True, steps=[1, 2, 5, 10])
        bar = ax.figure.colorbar(self.im_, ax=ax, ticks=ticks, pad=0.02)
        bar.outline.set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return self


class GrowthDisplay:
    """Numbers stored besides the base, in percent of it, against the tasks.

    The share of each task stands on top of those of the tasks before.

    Parameters
    ----------
    growth : dict of task id to float
        Numbers that each task stores over those of the base, as in
        `ContinualClassifier.growth_`.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    bars_ : matplotlib BarContainer
        The share of each task.

    See Also
    --------
    sklearn_halrp.metrics.growth : The growth in all, from sizes.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn_halrp.inspection import GrowthDisplay
    >>> display = GrowthDisplay({"upright": 0.0, "turned": 0.15, "inverted": 0.1}).plot()
    >>> display.ax_.get_title(loc="left")
    'growth over the base: 25.0% in all'
    >>> plt.close(display.figure_)
    """

    def __init__(self, growth: Mapping[Any, float]) -> None:
        self.growth = growth

    @classmethod
    def from_estimator(cls, estimator: BaseEstimator, **kwargs: Any) -> Self:
        """Draw the growth of what a classifier has learned.

        Parameters
        ----------
        estimator : ContinualClassifier or ContinualRegressor
            Fitted; or a Pipeline that ends in one, or a search over either.
        **kwargs
            Passed to `plot`.

        Returns
        -------
        GrowthDisplay

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from sklearn_halrp import ContinualClassifier
        >>> from sklearn_halrp.inspection import GrowthDisplay
        >>> X, y = np.repeat(np.eye(2), 20, axis=0), np.repeat([3, 7], 20)
        >>> clf = ContinualClassifier(random_state=0).fit(X, y, task_id="first")
        >>> display = GrowthDisplay.from_estimator(clf.partial_fit(X, y, task_id="second"))
        >>> display.growth == clf.growth_
        True
        >>> plt.close(display.figure_)
        """
        return cls(_classifier(estimator).growth_).plot(**kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        colors: tuple[ColorType, ColorType] = ("#c7e9c6", "#1d6fa8"),
    ) -> Self:
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.
        colors : pair of matplotlib colours, default=("#c7e9c6", "#1d6fa8")
            Of earlier tasks and of this task.

        Returns
        -------
        self : GrowthDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there are no tasks.
        """
        plt = pyplot()
        from matplotlib.ticker import PercentFormatter

        if not self.growth:
            raise ValueError("There are no tasks to draw.")
        share = np.array(list(self.growth.values()), dtype=float)
        before = np.cumsum(share) - share
        n_tasks, total = len(share), share.sum()
        if ax is None:
            width = np.clip(3 + 0.45 * n_tasks, 4.2, 8)
            _, ax = plt.subplots(figsize=(width, 4.2), layout="constrained")
        width = 0.8 if n_tasks <= MOST_LABELLED else 1.0
        places = np.arange(n_tasks)
        ax.bar(places, before, width, color=colors[0], label="earlier tasks")
        self.bars_ = ax.bar(places, share, width, bottom=before, color=colors[1], label="this task")
        if n_tasks <= MOST_WRITTEN:
            labels = [f"+{value:.1%}" if value else "" for value in share]
            ax.bar_label(self.bars_, labels, padding=3, fontsize="small")
        label(ax.xaxis, list(self.growth))
        ax.set_xlim(-0.6, n_tasks - 0.4)
        ax.set_ylim(0, 1.12 * total or 0.01)
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if total > 0.1 else 1))
        ax.grid(axis="y", color="0.9")
        ax.set_axisbelow(True)
        ax.tick_params(length=0)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.set_title(f"growth over the base: {total:.1%} in all", loc="left")
        if n_tasks > 1:
            ax.legend(loc="upper left", frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self


class SpectrumDisplay:
    """Singular values of each layer's change, and where its rank cuts them.

    The change is what the warm-up made of a weight, less what scales alone explain. Terms
    up to the dot are kept; the pale ones are left out. A layer that matters more to the
    loss is cut at smaller values.

    Parameters
    ----------
    layers : dict of str to dict
        For each weight its ``spectrum``, in descending order, and its ``rank``, as in
        ``ContinualClassifier.report_[task_id]["layers"]``.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : dict of str to matplotlib Line2D
        The values of each layer that are kept.
    cuts_ : dict of str to matplotlib Line2D
        The dot at each layer's rank.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn_halrp.inspection import SpectrumDisplay
    >>> layers = {"conv.weight": {"spectrum": [3.0, 1.0, 0.2], "rank": 2}}
    >>> display = SpectrumDisplay(layers).plot()
    >>> [int(x) for x in display.cuts_["conv.weight"].get_xdata()]
    [2]
    >>> plt.close(display.figure_)
    """

    def __init__(self, layers: Mapping[str, Mapping[str, Any]]) -> None:
        self.layers = layers

    @classmethod
    def from_estimator(cls, estimator: BaseEstimator, task_id: int | str, **kwargs: Any) -> Self:
        """Draw the spectra that a classifier found in a task.

        Parameters
        ----------
        estimator : ContinualClassifier or ContinualRegressor
            Fitted; or a Pipeline that ends in one, or a search over either.
        task_id : int or str
            A task that is a perturbation: not the one that trained the base.
        **kwargs
            Passed to `plot`.

        Returns
        -------
        SpectrumDisplay

        Raises
        ------
        ValueError
            If the task was never learned, or has no spectra.
        """
        reports = _classifier(estimator).report_
        if "layers" not in reports.get(task_id, {}):
            having = [name for name, report in reports.items() if "layers" in report]
            raise ValueError(
                f"Task {task_id!r} has no spectra; these have: {having}. The task that trained "
                "the base is no perturbation."
            )
        return cls(reports[task_id]["layers"]).plot(**kwargs)

    def plot(self, ax: Axes | None = None, *, cmap: str | Colormap = "viridis") -> Self:
        """Draw the spectra.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.
        cmap : str or matplotlib Colormap, default="viridis"
            From the first layer to the last.

        Returns
        -------
        self : SpectrumDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there are no layers.
        """
        plt = pyplot()
        from matplotlib.colors import ListedColormap

        if not self.layers:
            raise ValueError("There are no layers to draw.")
        if ax is None:
            _, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
        names = [layer.removesuffix(".weight") for layer in self.layers]
        few = len(names) <= MOST_WRITTEN
        colours = plt.get_cmap(cmap)(np.linspace(0, 0.85, len(names)))
        self.lines_, self.cuts_ = {}, {}
        for (name, found), colour in zip(self.layers.items(), colours, strict=True):
            values, rank = np.asarray(found["spectrum"], dtype=float), found["rank"]
            there = int(np.count_nonzero(values > 0))  # a logarithmic axis shows no zero
            places = np.arange(1, there + 1)
            ax.plot(places, values[:there], color=colour, alpha=0.3, linewidth=1)
            kept = min(rank, there)
            (self.lines_[name],) = ax.plot(
                places[:kept],
                values[:kept],
                color=colour,
                linewidth=2 if few else 1,
                label=f"{shortened(name.removesuffix('.weight'))}: rank {rank}",
            )
            if kept:
                (self.cuts_[name],) = ax.plot(
                    kept, values[kept - 1], "o" if few else ".", color=colour
                )
        ax.set(xscale="log", yscale="log", xlabel="term", ylabel="singular value")
        ax.grid(color="0.9")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        if few:
            ax.legend(frameon=False, fontsize="small")
        else:
            # One colour bar names the first and the last of many layers.
            scale = plt.cm.ScalarMappable(cmap=ListedColormap(colours))
            bar = ax.figure.colorbar(scale, ax=ax, ticks=[0, 1], pad=0.02)
            bar.ax.set_yticklabels([shortened(names[0]), shortened(names[-1])], fontsize="small")
            bar.ax.invert_yaxis()
            bar.ax.tick_params(length=0)
            bar.outline.set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _classifier(estimator: BaseEstimator) -> Any:
    """Return the classifier that a pipeline or a search ends in."""
    found, _ = innermost(estimator)
    if not hasattr(found, "task_column"):
        raise TypeError(
            "A display is drawn from a fitted ContinualClassifier or ContinualRegressor, alone, at "
            f"the end of a Pipeline or inside a search; got a {type(found).__name__}."
        )
    return found
