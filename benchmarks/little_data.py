"""What the base is worth where a task brings few rows.

    python -m benchmarks.little_data STREAM --data-dir DIR [--seeds 3] [--jobs 2] [--json FILE]

Every task has 5, 10, 25, 50 or 100 % of its rows, drawn by seed within its classes, training and
validation rows alike; the first task, which trains the base, keeps all of its own. Methods are
tuned once, with all rows. Accuracies are those of the later tasks.
"""

from dataclasses import replace

import numpy as np

from benchmarks import tables
from benchmarks.command import parser, prepared
from benchmarks.compare import learn
from benchmarks.contestants import contestants
from benchmarks.tables import grouped, spread

SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)
OURS, ALONE = "HALRP, defaults", "separate networks"
METHODS = (OURS, "HALRP, published", ALONE, "copies of the first", "BatchEnsemble", "LoRA, rank 4")


def with_little(stream, share, seed):
    """Return the stream with a share of the rows of all tasks but the first."""
    few = stream.fraction(share, seed)
    return replace(few, tasks=(stream.tasks[0], *few.tasks[1:]))


def later(run):
    """Return the final accuracies of the tasks after the first."""
    return run["accuracy"][-1][1:]


def found(runs):
    """Return method -> share -> accuracies of shape (seeds, later tasks)."""
    return {
        name: {
            share: np.array([later(run) for run in few], dtype=float)
            for share, few in grouped(own, "share").items()
        }
        for name, own in grouped([r for r in runs if "share" in r["key"]], "method").items()
    }


def table(values):
    """Return one line per method, one column per share; then, task by task, how far ours is ahead.

    Beside separate networks of the same seed, in points.
    """
    shares = sorted(next(iter(values.values())))
    heads = [f"{100 * share:.0f} %" for share in shares]
    rows = [
        [name, *(spread(one[share].mean(1), 1) for share in shares)] for name, one in values.items()
    ]
    text = tables.table(["", *heads], rows)
    if {OURS, ALONE} <= values.keys():
        ahead = {share: values[OURS][share] - values[ALONE][share] for share in shares}
        rows = [
            [f"task {number + 2}", *(spread(ahead[share][:, number], 1) for share in shares)]
            for number in range(ahead[shares[0]].shape[1])
        ]
        text += "\n\n" + tables.table(["lead of ours", *heads], rows)
    return text


def main(arguments=None):
    options = parser("little_data", __doc__, batch_size=32, seeds=3, jobs=1).parse_args(arguments)
    stream, training, results = prepared(options)
    visits = [
        ({"share": share}, with_little(stream, share, seed), seed)
        for seed in range(options.seeds)
        for share in SHARES
    ]
    chosen = contestants(stream, options.methods or METHODS)
    print(table(found(learn(results, stream, chosen, training, visits, options.jobs))))


if __name__ == "__main__":
    main()
