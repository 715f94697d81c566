"""What the base is worth where a task brings few rows.

    python -m benchmarks.little_data STREAM --data-dir DIR [--seeds 3] [--jobs 2] [--json FILE]
    python -m benchmarks.little_data STREAM --rows 10 40 200 --first 6 ...

Every task has 5, 10, 25, 50 or 100 % of its rows, or so many rows, drawn by seed within its
classes, training and validation rows alike. The first task, or the first ones, train the base and
keep all of their own. With shares methods are tuned once, with all rows; with numbers of rows for
each of them, by whole validation parts. Accuracies are those of the later tasks.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks import tables
from benchmarks.command import at_least, parser, prepared
from benchmarks.compare import TUNING_SEED, learn
from benchmarks.contestants import FOR_ALL, PER_TASK, WITH_JOINT, contestants, there
from benchmarks.methods import FromSeveral, Separate
from benchmarks.tables import grouped, spread

SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)
OURS, ALONE = "HALRP, defaults", "separate networks"
METHODS = (OURS, "HALRP, published", ALONE, "copies of the first", "BatchEnsemble", "LoRA, rank 4")


FEW = ("HALRP, defaults", "HALRP, no net", *WITH_JOINT, ALONE, *PER_TASK, *FOR_ALL)


def with_little(stream, share, seed, first=1):
    """Return the stream with a share of the rows of all tasks but the first."""
    few = stream.fraction(share, seed)
    return replace(few, tasks=(*stream.tasks[:first], *few.tasks[first:]))


def with_few(stream, n_rows, seed, first=1, valid=True):
    """Return the stream with so many rows of all tasks but the first ones."""
    few = (task.few(n_rows, seed, valid) for task in stream.tasks[first:])
    return replace(stream, tasks=(*stream.tasks[:first], *few))


def later(run):
    """Return the final accuracies of the tasks after the first ones."""
    return run["accuracy"][-1][run["key"].get("first", 1) :]


def size_of(run):
    """Return the share of the rows, or their number."""
    return run["key"].get("rows", run["key"].get("share"))


def found(runs):
    """Return method -> share, or number, of rows -> accuracies of shape (seeds, later tasks)."""
    values = {}
    for name, own in grouped([r for r in runs if "seed" in r["key"]], "method").items():
        for run in own:
            values.setdefault(name, {}).setdefault(size_of(run), []).append(later(run))
    return {
        name: {size: np.array(few, dtype=float) for size, few in one.items()}
        for name, one in values.items()
    }


def table(values):
    """Return one line per method, one column per share; then, task by task, how far ours is ahead.

    Beside separate networks of the same seed, in points.
    """
    shares = sorted(next(iter(values.values())))
    heads = [f"{100 * share:.0f} %" if isinstance(share, float) else str(share) for share in shares]
    rows = [
        [name, *(spread(one[share].mean(1), 1) for share in shares)] for name, one in values.items()
    ]
    text = tables.table(["", *heads], rows)
    if {OURS, ALONE} <= values.keys() and isinstance(shares[0], float):
        ahead = {share: values[OURS][share] - values[ALONE][share] for share in shares}
        rows = [
            [f"task {number + 2}", *(spread(ahead[share][:, number], 1) for share in shares)]
            for number in range(ahead[shares[0]].shape[1])
        ]
        text += "\n\n" + tables.table(["lead of ours", *heads], rows)
    return text


def learn_few(results, stream, options, training):
    """Return the runs of each number of rows."""
    names = options.methods or [name for name in FEW if name in there(stream)]
    first = options.first
    chosen = {
        name: replace(one, fixed=one.fixed | {"first": first})
        if issubclass(one.method, FromSeveral)
        else one
        for name, one in contestants(stream, names).items()
    }
    apart = {name for name, one in chosen.items() if name in PER_TASK or one.method is Separate}
    runs = []
    for n_rows in options.rows:
        key = {"rows": n_rows, "first": first}
        for names in (chosen.keys() - apart, apart):
            # Methods that keep tasks apart need no rows of the first ones, and are tuned by few.
            whole = 0 if names is apart else first
            tuned_on = with_few(stream, n_rows, TUNING_SEED, whole, valid=False)
            visits = [
                (key, with_few(stream, n_rows, seed, whole), seed) for seed in range(options.seeds)
            ]
            some = {name: one for name, one in chosen.items() if name in names}
            runs += learn(results, tuned_on, some, training, visits, options.jobs, key=key)
    return runs


def main(arguments=None):
    one = parser("little_data", __doc__, batch_size=32, seeds=3, first=1, jobs=1)
    one.add_argument("--rows", nargs="+", type=partial(at_least, 2), help="of a task, not shares")
    options = one.parse_args(arguments)
    stream, training, results = prepared(options)
    if options.first >= len(stream.tasks):
        one.error(f"Nothing comes after the first {options.first} of {len(stream.tasks)} tasks.")
    if options.rows:
        print(table(found(learn_few(results, stream, options, training))))
        return
    visits = [
        ({"share": share}, with_little(stream, share, seed, options.first), seed)
        for seed in range(options.seeds)
        for share in SHARES
    ]
    chosen = contestants(stream, options.methods or METHODS)
    print(table(found(learn(results, stream, chosen, training, visits, options.jobs))))


if __name__ == "__main__":
    main()
