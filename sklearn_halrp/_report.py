"""What was learned, as plain data and as tables."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sklearn_halrp._types import TaskId

if TYPE_CHECKING:
    import pandas


def ranks(network: Any) -> dict[TaskId, dict[str, int]]:
    """Return the ranks after pruning, by task and weight."""
    return {name: ranks_of(network, task) for name, task in network.tasks.items()}


def ranks_of(network: Any, task: Any) -> dict[str, int]:
    """Return the ranks of one task after pruning, by weight; 0 where there are no terms."""
    found = task.ranks
    return {weight: found.get(weight, 0) for weight in network.roles.perturbed}


def growth(network: Any) -> dict[TaskId, float]:
    """Return what each task stores besides the base, over what the base stores."""
    size = network.n_numbers
    return {name: task.n_numbers / size for name, task in network.tasks.items()}


def epochs(network: Any, task_id: TaskId) -> list[dict[str, Any]]:
    """Return the epochs of a task as dictionaries."""
    return network.tasks[task_id].history


def of_task(network: Any, task_id: TaskId) -> dict[str, Any]:
    """Return what was found while learning a task, with its sizes."""
    task = network.tasks[task_id]
    return {
        **task.report,
        **task.target.summary(),
        "visits": task.visits,
        "ranks": ranks_of(network, task),
        "n_numbers": task.n_numbers,
        "n_bytes": task.n_bytes,
        "growth": task.n_numbers / network.n_numbers,
    }


def table(network: Any, level: str) -> "pandas.DataFrame":
    """Return a DataFrame with one row per task, layer or epoch."""
    if level not in _ROWS:
        raise ValueError(f"level must be one of {sorted(_ROWS)}; got {level!r}.")
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "report() gives a pandas.DataFrame: install pandas, or read report_ and "
            "history_, which hold the same as plain data."
        ) from error
    rows = [row for name in network.tasks for row in _ROWS[level](network, name)]
    index = {"task": ["task"], "layer": ["task", "layer"], "epoch": ["task", "visit"]}[level]
    columns = list(dict.fromkeys(key for row in rows for key in row)) or index
    return pd.DataFrame(rows, columns=columns).set_index(index)


def _task_rows(network: Any, name: TaskId) -> Iterator[dict[str, Any]]:
    found = of_task(network, name)
    seconds = found["seconds"]
    yield {
        "task": name,
        **network.tasks[name].target.summary(),
        **{key: found.get(key) for key in _COLUMNS},
        "seconds": sum(seconds.values()),
        **{f"seconds_{phase}": seconds.get(phase) for phase in _PHASES},
    }


def _layer_rows(network: Any, name: TaskId) -> Iterator[dict[str, Any]]:
    report = of_task(network, name)
    for layer, found in report.get("layers", {}).items():
        yield {"task": name, "layer": layer, **found, "rank_after_pruning": report["ranks"][layer]}


def _epoch_rows(network: Any, name: TaskId) -> Iterator[dict[str, Any]]:
    for row in epochs(network, name):
        yield {"task": name, **row}


_COLUMNS = (
    "n_samples",
    "visits",
    "start",
    "growth",
    "n_bytes",
    "n_numbers",
    "n_numbers_before_pruning",
    "predicted_increase",
    "measured_increase",
)
_PHASES = ("base", "joint", "head", "warm-up", "ranks", "report", "low-rank", "pruning")
_ROWS = {"task": _task_rows, "layer": _layer_rows, "epoch": _epoch_rows}
