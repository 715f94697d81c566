"""All methods on one stream: accuracy, forgetting, stored bytes and time.

    python -m benchmarks.compare STREAM --data-dir DIR [--seeds 5] [--jobs 2] [--json FILE]

Each method is tuned first, over at most six settings, by its accuracy on the validation rows of
the stream's first tasks; then it learns the stream once per seed. The settings of HALRP are not
tuned.
"""

import numpy as np

from benchmarks.command import parser, prepared
from benchmarks.contestants import contestants
from benchmarks.running import learn_stream, summary

TUNING_SEED = 1000  # no seed of the comparison
TUNING_TASKS = 3


def tune(results, stream, chosen, training, n_jobs):
    """Return the best settings of each contestant, by validation accuracy."""
    short = stream.first(TUNING_TASKS)
    jobs = [
        (
            {"method": name, "tuning": settings},
            learn_stream,
            (short, one.with_settings(training, TUNING_SEED, settings), False, "valid"),
        )
        for name, one in chosen.items()
        if len(one.settings()) > 1
        for settings in one.settings()
    ]
    best = {name: one.settings()[0] for name, one in chosen.items()}
    score = dict.fromkeys(best, -1.0)
    for result in results.complete(jobs, n_jobs):
        name, accuracy = result["key"]["method"], summary(result)["ACC"]
        if accuracy > score[name]:
            best[name], score[name] = result["key"]["tuning"], accuracy
    return best


def run(results, stream, chosen, training, seeds, n_jobs=1):
    """Tune and run contestants and return their runs."""
    best = tune(results, stream, chosen, training, n_jobs)
    jobs = [
        (
            {"method": name, "seed": seed, "settings": best[name]},
            learn_stream,
            (stream, one.with_settings(training, seed, best[name])),
        )
        for seed in range(seeds)
        for name, one in chosen.items()
    ]
    return results.complete(jobs, n_jobs)


def compare(results, stream, training, seeds, n_jobs=1, names=None):
    """Run `benchmarks.contestants`: those that are named, or all."""
    return run(results, stream, contestants(len(stream.tasks), names), training, seeds, n_jobs)


def table(runs):
    """Return one line per method: mean and standard deviation over seeds."""
    lines = [f"{'':<30}{'ACC':>14}{'BWT':>16}{'growth':>9}{'kB':>9}{'s/task':>8}"]
    for name in dict.fromkeys(run["key"]["method"] for run in runs):
        found = [summary(run) for run in runs if run["key"]["method"] == name]
        value = {key: np.array([one[key] for one in found]) for key in found[0]}
        lines.append(
            f"{name:<30}"
            f"{100 * value['ACC'].mean():>8.2f} ±{100 * value['ACC'].std():4.2f}"
            f"{100 * value['BWT'].mean():>10.2f} ±{100 * value['BWT'].std():4.2f}"
            f"{value['growth'].mean():>9.3f}"
            f"{value['bytes'].mean() / 1000:>9.0f}"
            f"{np.median(value['seconds']):>8.1f}"
        )
    return "\n".join(lines)


def main(arguments=None):
    """Run the command."""
    options = parser(__doc__, seeds=5).parse_args(arguments)
    stream, training, results = prepared(options)
    runs = compare(results, stream, training, options.seeds, options.jobs, options.methods)
    print(table(runs))


if __name__ == "__main__":
    main()
