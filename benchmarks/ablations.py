"""Which part of the method pays: one setting changed at a time.

    python -m benchmarks.ablations STREAM --data-dir DIR [--seeds 2] [--part valid] [--jobs 2]
                                   [--json FILE]

Accuracies are those of the tasks that train no base; growth is what one of them stores, over the
base.
"""

import argparse
from dataclasses import replace

import numpy as np
import pandas as pd

from benchmarks import inside, tables
from benchmarks.command import parser, prepared
from benchmarks.contestants import DEFAULTS
from benchmarks.methods import HALRP, Separate, TrainingRowsOnly
from benchmarks.running import learn_stream
from benchmarks.tables import deviation, spread


class WithoutScales(HALRP):
    """The method with r and s at 1: W_t = W + U V. They are still counted in what is stored."""

    def learn(self, task):
        with inside.scales_at_one(self.classifier):  # no setting does this
            super().learn(task)


CHANGES = {
    "defaults": {},  # fisher, unfolded, 4 of 10 epochs of warm-up, alpha 0.9, a budget of 0.6
    "importance: labels of the rows": {"importance": "empirical"},
    "importance: plain singular values": {"importance": "uniform"},
    **{f"fixed rank {k}": {"approximation_rate": 1.0, "max_rank": k} for k in (2, 8)},
    "convolution: channel": {"convolution": "channel"},
    **{f"warm-up {n}": {"warmup_epochs": n} for n in (0, 1, 2, 6, 8)},
    **{f"alpha {share}": {"approximation_rate": share} for share in (0.5, 0.7, 0.99)},
    **{f"budget {size}": {"growth_budget": size} for size in (0.01, 0.02, 0.05, 0.1, 0.2)},
    **{f"factor_lr_scale {scale}": {"factor_lr_scale": scale} for scale in (1, 3, 10)},
    "importance: kfac": {"importance": "kfac"},
    "no pruning": {"prune_threshold": 0.0, "growth_budget": 10.0, "retrain_epochs": 0},
    **{f"pruning below {size}": {"prune_threshold": size} for size in (0.001, 0.01)},
    "full precision": {"precision": "full"},
    "four bits": {"precision": "nf4"},
    "half precision": {"precision": "half"},
    "no averaging": {"average_last": 0.0},
    "no penalties": {"l1_penalty": 0.0, "l2_penalty": 0.0},
    "lambda_1 1e-4": {"l1_penalty": 1e-4},
    "lambda_2 1e-3": {"l2_penalty": 1e-3},
}
IN_PART = {  # only where they are asked for, or with others, joined by ", "
    "budget 0.007": {"growth_budget": 0.007},
    "labels of the rows": {"importance": "empirical"},
    "plain singular values": {"importance": "uniform"},
    "pruned at the end": {"retrain_epochs": 0},
}
METHODS = {
    "r and s held at 1": WithoutScales,
    "importance from training rows": TrainingRowsOnly,
}


def with_noise_first(stream):
    """Return the stream with a first task whose labels mean nothing."""
    first = stream.tasks[0]
    random = np.random.RandomState(0)
    parts = {
        part: (getattr(first, part)[0], random.permutation(getattr(first, part)[1]))
        for part in ("train", "valid", "test")
    }
    return replace(stream, tasks=(replace(first, **parts), *stream.tasks[1:]))


def with_few_first(stream):
    """Return the stream with a tenth of the first task's rows."""
    few = stream.fraction(0.1, 0)
    return replace(stream, tasks=(few.tasks[0], *stream.tasks[1:]))


def largest_first(stream):
    """Return the stream with the task that has the most rows first, and the others in order."""
    rows = [len(task.train[1]) for task in stream.tasks]
    largest = int(np.argmax(rows))
    return stream.in_order([largest, *(i for i in range(len(rows)) if i != largest)])


BASES = {
    "base: a tenth of the first task": with_few_first,
    "base: first task with random labels": with_noise_first,
    "base: the largest task": largest_first,
}
ALONE = "separate networks"
TOGETHER = [
    "budget 0.05, pruned at the end",
    "budget 0.05, plain singular values",
    "budget 0.05, importance: kfac",
    "budget 0.05, warm-up 1",
    "budget 0.02, labels of the rows",
]
VARIANTS = [*CHANGES, *METHODS, *BASES, ALONE]
_AFTER = VARIANTS.index("budget 0.2") + 1  # the order of the table
VARIANTS[_AFTER:_AFTER] = TOGETHER


def variant(name):
    """Return the name of a variant, if there is one that is called so."""
    known = [*CHANGES, *IN_PART, *METHODS, *BASES]
    if name != ALONE and not set(name.split(", ")) <= {*known}:
        quoted = ", ".join(f'"{one}"' for one in [*known, ALONE])
        raise argparse.ArgumentTypeError(f'There is no variant "{name}"; choose from {quoted}.')
    return name


def made(name, stream):
    """Return the method and the settings of a variant, and the stream that it learns."""
    if name == ALONE:
        return Separate, {}, stream
    method, settings = HALRP, DEFAULTS
    for part in name.split(", "):
        method = METHODS.get(part, method)
        settings = settings | (CHANGES | IN_PART).get(part, {})
        stream = BASES[part](stream) if part in BASES else stream
    return method, settings, stream


def jobs_of(stream, training, seeds, names=None, part="test"):
    """Return what is to be run: by default all, unless the largest task is the first anyway."""
    largest = largest_first(stream).tasks[0] is not stream.tasks[0]
    names = names or [name for name in VARIANTS if largest or name != "base: the largest task"]
    variants = {name: made(name, stream) for name in names}
    return [
        (
            {"variant": name, "seed": seed, "settings": settings},
            measured,
            (learned, method, training, seed, settings, part),
        )
        for seed in range(seeds)
        for name, (method, settings, learned) in variants.items()
    ]


def measured(stream, method, training, seed, settings, part):
    learners = []

    def make(network):
        learners.append(method(network, training, seed, **settings))
        return learners[0]

    result = learn_stream(stream, make, False, part)
    result["tasks"] = [task.name for task in stream.tasks]
    if hasattr(learners[0], "classifier"):
        ranks = learners[0].classifier.ranks_
        result["ranks"] = [list(ranks[task.name].values()) for task in stream.tasks[1:]]
    return result


def growth(run):
    """Return the bytes that a later task stores, over those of the first."""
    n_bytes = run["bytes"]
    return (n_bytes[-1] / n_bytes[0] - 1) / (len(n_bytes) - 1)


def found(runs):
    """Return variant -> what it reached, once for each seed.

    That is the accuracy of the later tasks, its difference from the defaults' with the same seed,
    and the growth of a task.
    """
    bases = {run["tasks"][0] for run in runs}
    frame = pd.DataFrame(
        {**run["key"], "accuracy": later(run, bases), "growth": growth(run)} for run in runs
    )
    defaults = frame[frame.variant == "defaults"].set_index("seed").accuracy
    frame["difference"] = frame.accuracy - frame.seed.map(defaults)
    measures = ("accuracy", "growth", "difference")
    return {
        name: {measure: own[measure].dropna().to_numpy() for measure in measures}
        for name, own in frame.groupby("variant", sort=False)
    }


def later(run, bases):
    """Return the mean final accuracy of the tasks that are the base of no variant."""
    final = zip(run["tasks"], run["accuracy"][-1], strict=True)
    return np.mean([accuracy for name, accuracy in final if name not in bases])


def table(values):
    rows = [
        [
            name,
            spread(one["accuracy"]),
            changed(one["difference"]),
            f"{100 * one['growth'].mean():.2f} %",
        ]
        for name, one in values.items()
    ]
    return tables.table(["", "accuracy", "difference", "growth of a task"], rows)


def changed(difference):
    """Return a difference in points with its deviation, or nothing without the defaults' runs."""
    if not len(difference):
        return ""
    return f"{100 * difference.mean():+.2f} ± {100 * deviation(difference):.2f}"


def main(arguments=None):
    one = parser("ablations", __doc__, variant, seeds=2, jobs=1)
    one.add_argument(
        "--part", choices=["test", "valid"], default="test", help="rows that are predicted"
    )
    options = one.parse_args(arguments)
    stream, training, results = prepared(options)
    jobs = jobs_of(stream, training, options.seeds, options.methods, options.part)
    print(table(found(results.complete(jobs, options.jobs))))


if __name__ == "__main__":
    main()
