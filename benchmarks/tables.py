"""Tables of results, as the commands print them and the page shows them."""

import numpy as np


def table(header, rows):
    """Return a table in Markdown, its columns aligned.

    >>> print(table(["", "ACC"], [["EWC", "90.1"]]))
    |     |  ACC |
    | --- | ---: |
    | EWC | 90.1 |
    """
    rows = [header, *rows]
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [rows[0], rule, *rows[1:]]
    padded = [[line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in padded)


def deviation(values):
    """Return the standard deviation of a sample, 0 of one value.

    >>> deviation([1, 3]) == 2**0.5
    True
    """
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def spread(values, digits=2):
    """Return mean and standard deviation, in per cent; of one value only that.

    >>> spread([0.5, 0.52, 0.54])
    '52.00 ± 2.00'
    >>> spread([0.5])
    '50.00'
    """
    values = 100 * np.asarray(values)
    mean = f"{values.mean():.{digits}f}"
    return f"{mean} ± {deviation(values):.{digits}f}" if len(values) > 1 else mean


def grouped(runs, key):
    """Return value -> runs with this value of a key, in the order of their first run."""
    groups = {}
    for run in runs:
        if key in run["key"]:
            groups.setdefault(run["key"][key], []).append(run)
    return groups
