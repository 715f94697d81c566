"""What the displays have in common: labels, values in cells, and no more ink than that."""

from collections.abc import Callable, Sequence
from itertools import count
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_halrp._types import TaskId

# Up to these numbers of rows or columns, cells have their value written in, and each has
# its label and a gap around it. Longer labels lose their middle.
MOST_WRITTEN = 12
MOST_LABELLED = 24
MOST_LETTERS = 28


def pyplot() -> ModuleType:
    """Return matplotlib.pyplot, or say how to get it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError('Plotting needs matplotlib: pip install "sklearn-halrp[plot]"') from error
    return plt


def names_of(task_ids: Sequence[TaskId] | None, n_tasks: int) -> list[TaskId]:
    """Return one name per task."""
    names: list[TaskId] = list(range(n_tasks)) if task_ids is None else list(task_ids)
    if len(names) != n_tasks:
        raise ValueError(f"{n_tasks} tasks need as many task_ids; got {len(names)}.")
    return names


def shortened(name: str) -> str:
    """Return a name without its middle, if it is long: layers differ at their ends."""
    return name if len(name) <= MOST_LETTERS else f"{name[:5]}…{name[6 - MOST_LETTERS :]}"


def label(axis: Any, names: Sequence[Any]) -> None:
    """Name the places of an axis: all when they are few, else about ten."""
    steps = (factor * 10**power for power in count() for factor in (1, 2, 5))
    step = 1 if len(names) <= MOST_LABELLED else next(s for s in steps if len(names) <= 12 * s)
    shown = [shortened(str(name)) for name in names[::step]]
    axis.set_ticks(range(0, len(names), step), shown)
    if axis.axis_name == "x" and max(map(len, shown)) > 3:
        for text in axis.get_ticklabels():
            text.set(rotation=40, horizontalalignment="right", rotation_mode="anchor")


def write(ax: Any, image: Any, there: NDArray[Any], text: Callable[[Any], str]) -> list[Any]:
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


def tidy(ax: Any, shape: tuple[int, ...]) -> None:
    """Take frame and tick marks away, and part the cells when they are few."""
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    if max(shape) <= MOST_LABELLED:
        ax.set_xticks(np.arange(shape[1] + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(shape[0] + 1) - 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=2)
        ax.tick_params(which="minor", length=0)
