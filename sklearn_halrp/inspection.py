"""Pictures of what was learned, as displays in scikit-learn's manner.

A display holds numbers; ``plot`` draws them and keeps the artists in attributes that end
in ``_``. Matplotlib is imported only then.
"""

from itertools import count

import numpy as np

from sklearn_halrp.metrics import _accuracy_matrix

__all__ = ["AccuracyMatrixDisplay", "GrowthDisplay", "SpectrumDisplay"]

# Up to these numbers of rows or columns, cells have their value written in, and each has
# its label and a gap around it.
MOST_WRITTEN = 12
MOST_LABELLED = 24


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

    def __init__(self, matrix, task_ids=None):
        self.matrix = matrix
        self.task_ids = task_ids

    def plot(self, ax=None, *, cmap="YlGnBu", vmin=0.0, vmax=1.0, colorbar=True):
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
        plt = _pyplot()
        from matplotlib.ticker import PercentFormatter

        a = _accuracy_matrix(self.matrix)
        names = _names(self.task_ids, len(a))
        if ax is None:
            side = np.clip(2.5 + 0.5 * len(a), 4, 8)
            _, ax = plt.subplots(figsize=(side + 0.5, side), layout="constrained")
        below = np.tri(len(a), dtype=bool)
        shown = np.ma.array(a, mask=~below)
        self.im_ = ax.imshow(shown, cmap=cmap, vmin=vmin, vmax=vmax, interpolation="nearest")
        self.text_ = _write(ax, self.im_, below, lambda accuracy: f"{100 * accuracy:.1f}")
        _label(ax.xaxis, names)
        _label(ax.yaxis, names)
        _tidy(ax, a.shape)
        ax.set(xlabel="accuracy on task", ylabel="after learning task")
        if colorbar:
            percent = PercentFormatter(1.0, decimals=0)
            bar = ax.figure.colorbar(self.im_, ax=ax, shrink=0.8, format=percent)
            bar.outline.set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return self


class GrowthDisplay:
    """Ranks of every task's perturbations, and what they cost.

    To the left the rank of each layer for each task; to the right the numbers stored
    besides the base, in percent of it, with the share of each task on top of those of
    the tasks before.

    Parameters
    ----------
    ranks : dict of task id to dict of str to int
        Ranks by task and weight, as in `ContinualClassifier.ranks_`.
    growth : dict of task id to float
        Numbers that each task stores over those of the base, as in
        `ContinualClassifier.growth_`.

    Attributes
    ----------
    axes_ : array of 2 matplotlib Axes
    figure_ : matplotlib Figure
    im_ : matplotlib AxesImage
        The ranks.
    text_ : list of matplotlib Text
        The ranks in the cells; empty for more than 12 tasks or layers.
    bars_ : matplotlib BarContainer
        The share of each task.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn_halrp.inspection import GrowthDisplay
    >>> ranks = {"upright": {"conv.weight": 0, "fc.weight": 0},
    ...          "turned": {"conv.weight": 3, "fc.weight": 20}}
    >>> display = GrowthDisplay(ranks, growth={"upright": 0.0, "turned": 0.15}).plot()
    >>> [label.get_text() for label in display.axes_[0].get_yticklabels()]
    ['conv', 'fc']
    >>> plt.close(display.figure_)
    """

    def __init__(self, ranks, growth):
        self.ranks = ranks
        self.growth = growth

    @classmethod
    def from_estimator(cls, estimator, **kwargs):
        """Draw what a classifier has learned.

        Parameters
        ----------
        estimator : ContinualClassifier
            Fitted.
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
        return cls(estimator.ranks_, estimator.growth_).plot(**kwargs)

    def plot(self, axes=None, *, cmap="GnBu"):
        """Draw ranks and growth.

        Parameters
        ----------
        axes : pair of matplotlib Axes, default=None
            Where to draw ranks and growth. None makes a figure.
        cmap : str or matplotlib Colormap, default="GnBu"
            For the ranks; the bars take two colours of it.

        Returns
        -------
        self : GrowthDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If ranks and growth are not of the same tasks, or there are none.
        """
        plt = _pyplot()
        if not self.ranks or list(self.ranks) != list(self.growth):
            raise ValueError(
                "ranks and growth must be of the same tasks in the same order, at least one; "
                f"got {len(self.ranks)} and {len(self.growth)} tasks."
            )
        if axes is None:
            width = np.clip(7 + 0.35 * len(self.ranks), 9, 13)
            _, axes = plt.subplots(1, 2, figsize=(width, 4.2), layout="constrained")
        self.axes_ = np.asarray(axes)
        self.figure_ = self.axes_[0].figure
        self._plot_ranks(self.axes_[0], cmap)
        self._plot_growth(self.axes_[1])
        return self

    def _plot_ranks(self, ax, cmap):
        from matplotlib.colors import PowerNorm
        from matplotlib.ticker import MaxNLocator

        layers = list(dict.fromkeys(layer for task in self.ranks.values() for layer in task))
        table = np.array([[task.get(n, 0) for task in self.ranks.values()] for n in layers])
        # Ranks range from 1 to 100: a root spreads the small ones. Zeros stay blank.
        norm = PowerNorm(0.5, vmin=0, vmax=max(table.max(), 1))
        there = table > 0
        shown = np.ma.array(table, mask=~there)
        # Matplotlib would smooth many tasks, and with them the few layers into each other.
        self.im_ = ax.imshow(shown, cmap=cmap, norm=norm, aspect="auto", interpolation="nearest")
        self.text_ = _write(ax, self.im_, there, str)
        _label(ax.xaxis, list(self.ranks))
        _label(ax.yaxis, [layer.removesuffix(".weight") for layer in layers])
        _tidy(ax, table.shape)
        ax.set_facecolor("0.95")
        ax.set_title("rank of each layer", loc="left")
        ticks = MaxNLocator(5, integer=True, steps=[1, 2, 5, 10])
        bar = ax.figure.colorbar(self.im_, ax=ax, ticks=ticks, pad=0.02)
        bar.outline.set_visible(False)

    def _plot_growth(self, ax):
        from matplotlib.ticker import PercentFormatter

        share = np.array(list(self.growth.values()), dtype=float)
        before = np.cumsum(share) - share
        n_tasks, total = len(share), share.sum()
        width = 0.8 if n_tasks <= MOST_LABELLED else 1.0
        pale, strong = self.im_.cmap([0.25, 0.8])
        places = np.arange(n_tasks)
        ax.bar(places, before, width, color=pale, label="earlier tasks")
        self.bars_ = ax.bar(places, share, width, bottom=before, color=strong, label="this task")
        if n_tasks <= MOST_WRITTEN:
            labels = [f"+{value:.1%}" if value else "" for value in share]
            ax.bar_label(self.bars_, labels, padding=3, fontsize="small")
        _label(ax.xaxis, list(self.growth))
        ax.set_xlim(-0.6, n_tasks - 0.4)
        ax.set_ylim(0, 1.12 * total or 0.01)
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if total > 0.1 else 1))
        ax.grid(axis="y", color="0.9")
        ax.set_axisbelow(True)
        ax.tick_params(length=0)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.set_title(f"growth over the base: {total:.1%} in all", loc="left")
        ax.legend(loc="upper left", frameon=False)


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

    def __init__(self, layers):
        self.layers = layers

    @classmethod
    def from_estimator(cls, estimator, task_id, **kwargs):
        """Draw the spectra that a classifier found in a task.

        Parameters
        ----------
        estimator : ContinualClassifier
            Fitted.
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
        reports = estimator.report_
        if "layers" not in reports.get(task_id, {}):
            having = [name for name, report in reports.items() if "layers" in report]
            raise ValueError(
                f"Task {task_id!r} has no spectra; these have: {having}. The task that trained "
                "the base is no perturbation."
            )
        return cls(reports[task_id]["layers"]).plot(**kwargs)

    def plot(self, ax=None, *, cmap="viridis"):
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
        plt = _pyplot()
        if not self.layers:
            raise ValueError("There are no layers to draw.")
        if ax is None:
            _, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
        colours = plt.get_cmap(cmap)(np.linspace(0, 0.85, len(self.layers)))
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
                linewidth=2,
                label=f"{name.removesuffix('.weight')}: rank {rank}",
            )
            if kept:
                (self.cuts_[name],) = ax.plot(kept, values[kept - 1], "o", color=colour)
        ax.set(xscale="log", yscale="log", xlabel="term", ylabel="singular value")
        ax.grid(color="0.9")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        if len(self.layers) <= MOST_WRITTEN:
            ax.legend(frameon=False, fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _pyplot():
    """Return matplotlib.pyplot, or say how to get it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError('Plotting needs matplotlib: pip install "sklearn-halrp[plot]"') from error
    return plt


def _names(task_ids, n_tasks):
    """Return one name per task."""
    names = list(range(n_tasks)) if task_ids is None else list(task_ids)
    if len(names) != n_tasks:
        raise ValueError(f"{n_tasks} tasks need as many task_ids; got {len(names)}.")
    return names


def _label(axis, names):
    """Name the places of an axis: all when they are few, else about ten."""
    steps = (factor * 10**power for power in count() for factor in (1, 2, 5))
    step = 1 if len(names) <= MOST_LABELLED else next(s for s in steps if len(names) <= 12 * s)
    shown = [str(name) for name in names[::step]]
    axis.set_ticks(range(0, len(names), step), shown)
    if axis.axis_name == "x" and max(map(len, shown)) > 3:
        for label in axis.get_ticklabels():
            label.set(rotation=40, horizontalalignment="right", rotation_mode="anchor")


def _write(ax, image, there, text):
    """Write the values into the cells of an image that are there, if they are few."""
    if max(there.shape) > MOST_WRITTEN:
        return []
    values = np.asarray(image.get_array())
    red, green, blue, _ = image.cmap(image.norm(values)).T
    dark = (0.2126 * red + 0.7152 * green + 0.0722 * blue).T < 0.5
    return [
        ax.text(
            j,
            i,
            text(values[i, j]),
            color="white" if dark[i, j] else "0.15",
            horizontalalignment="center",
            verticalalignment="center",
            fontsize="small",
        )
        for i, j in np.argwhere(there)
    ]


def _tidy(ax, shape):
    """Take frame and tick marks away, and part the cells when they are few."""
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    if max(shape) <= MOST_LABELLED:
        ax.set_xticks(np.arange(shape[1] + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(shape[0] + 1) - 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=2)
        ax.tick_params(which="minor", length=0)
