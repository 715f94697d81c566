"""What the base is worth where a task brings few rows.

    python -m benchmarks.little_data STREAM --data-dir DIR [--seeds 3] [--jobs 2] [--json FILE]

Every task has 5, 10, 25, 50 or 100 % of its rows, drawn by seed within its classes, training and
validation rows alike; the first task, which trains the base, keeps all of its own. Accuracies are
those of the later tasks.
"""

from dataclasses import replace

import numpy as np

from benchmarks.command import parser, prepared
from benchmarks.contestants import contestants
from benchmarks.running import learn_stream

SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)
METHODS = (
    "HALRP, defaults",
    "HALRP, published",
    "separate networks",
    "copies of the first",
    "BatchEnsemble",
    "LoRA, rank 4",
)


def with_little(stream, share, seed):
    """Return the stream with a share of the rows of all tasks but the first."""
    few = stream.fraction(share, seed)
    return replace(few, tasks=(stream.tasks[0], *few.tasks[1:]))


def learn_with_little(results, stream, training, seeds, n_jobs=1, names=METHODS, shares=SHARES):
    """Return the runs of all methods on all shares."""
    jobs = [
        (
            {"method": name, "share": share, "seed": seed},
            learn_stream,
            (
                with_little(stream, share, seed),
                one.with_settings(training, seed, one.settings()[0]),
                False,
            ),
        )
        for seed in range(seeds)
        for share in shares
        for name, one in contestants(len(stream.tasks), names).items()
    ]
    return results.complete(jobs, n_jobs)


def later(run):
    """Return the mean final accuracy of the tasks after the first."""
    return float(np.mean(run["accuracy"][-1][1:]))


def by_share(runs, name):
    """Return share -> accuracies of a method, one for each seed."""
    found = {}
    for one in runs:
        if one["key"]["method"] == name:
            found.setdefault(one["key"]["share"], []).append(later(one))
    return found


def table(runs):
    """Return one line per method, one column per share."""
    shares = sorted({run["key"]["share"] for run in runs})
    lines = [f"{'':<22}" + "".join(f"{100 * share:>13.0f} %" for share in shares)]
    for name in dict.fromkeys(run["key"]["method"] for run in runs):
        found = by_share(runs, name)
        cells = (
            f"{100 * np.mean(found[share]):9.1f} ±{100 * np.std(found[share]):4.1f}"
            for share in shares
        )
        lines.append(f"{name:<22}" + "".join(cells))
    return "\n".join(lines)


def main(arguments=None):
    """Run the command."""
    options = parser(__doc__, batch_size=32).parse_args(arguments)
    stream, training, results = prepared(options)
    names = options.methods or METHODS
    runs = learn_with_little(results, stream, training, options.seeds, options.jobs, names)
    print(table(runs))


if __name__ == "__main__":
    main()
