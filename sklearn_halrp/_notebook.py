"""The tasks of an estimator as an HTML table, for notebooks."""

from collections.abc import Sequence
from html import escape
from typing import Any

from sklearn_halrp._report import ranks_of
from sklearn_halrp._types import TaskId

MOST_ROWS = 20
MOST_LABELS = 6


def tasks_table(network: Any) -> str:
    """Return HTML that lists tasks with what they predict, how well, ranks and size.

    Of many tasks the first and last ten are listed.
    """
    tasks = list(network.tasks.items())
    skipped = max(len(tasks) - MOST_ROWS, 0)
    half = MOST_ROWS // 2
    rows = [_row(network, *entry) for entry in (tasks if not skipped else tasks[:half])]
    if skipped:
        rows.append(f'<tr><td colspan="6" style="text-align: left">… {skipped} more …</td></tr>')
        rows += [_row(network, *entry) for entry in tasks[-half:]]
    total = sum(task.n_bytes for _, task in tasks)
    kind = type(tasks[0][1].target)
    heads = ("task", kind.noun, kind.shown[1], "ranks", "growth", "bytes")
    return (
        f"<details open><summary>{len(tasks)} task{'s' * (len(tasks) != 1)}: base "
        f"{network.n_bytes:,} bytes, tasks {total:,} bytes</summary><table><thead><tr>"
        + "".join(_aligned("th", head, i) for i, head in enumerate(heads))
        + f"</tr></thead><tbody>{''.join(rows)}</tbody></table></details>"
    )


def _row(network: Any, task_id: TaskId, task: Any) -> str:
    names = task.target.names()
    labels = [str(name) for name in names[:MOST_LABELS]]
    if len(names) > MOST_LABELS:
        labels.append(f"… ({len(names)} in all)")
    key, _, digits = task.target.shown
    found = [row[key] for row in task.history if key in row]
    ranks = list(ranks_of(network, task).values())
    cells = (
        str(task_id),
        ", ".join(labels),
        f"{found[-1]:{digits}}" if found else "",
        _ranks(ranks) if task.ranks else "base",
        f"{task.n_numbers / network.n_numbers:.1%}",
        f"{task.n_bytes:,}",
    )
    return "<tr>" + "".join(_aligned("td", cell, i) for i, cell in enumerate(cells)) + "</tr>"


def _aligned(tag: str, text: str, column: int) -> str:
    """Return a cell: names to the left, numbers to the right, whatever the notebook's style."""
    side = "left" if column < 2 else "right"
    return f'<{tag} style="text-align: {side}">{escape(text)}</{tag}>'


def _ranks(ranks: Sequence[int]) -> str:
    if len(ranks) <= MOST_LABELS:
        return "/".join(map(str, ranks))
    return f"{len(ranks)} layers, highest {max(ranks)}"
