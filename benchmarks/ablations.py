"""Which part of the method pays: one setting changed at a time.

    python -m benchmarks.ablations STREAM --data-dir DIR [--seeds 2] [--part valid] [--jobs 2]
                                   [--json FILE]

Accuracies are those of the tasks that train no base; growth is what one of them stores, over the
base.
"""

import argparse
from dataclasses import replace

import numpy as np

from benchmarks import inside, tables
from benchmarks.command import parser, prepared
from benchmarks.contestants import DEFAULTS
from benchmarks.methods import HALRP, Separate, TrainingRowsOnly
from benchmarks.running import learn_stream
from benchmarks.tables import deviation, grouped, spread


class WithoutScales(HALRP):
    """The method with r and s at 1: W_t = W + U V. They are still counted in what is stored."""

    def learn(self, task):
        """Learn the task."""
        with inside.scales_at_one(self.classifier):  # no setting does this
            super().learn(task)


# Beside the defaults: fisher, unfolded, 4 of 10 epochs of warm-up, alpha 0.9, a budget of 0.6.
VARIANTS = {
    "defaults": {},
    "importance: labels of the rows": {"importance": "empirical"},
    "importance: plain singular values": {"importance": "uniform"},
    "fixed rank 2": {"approximation_rate": 1.0, "max_rank": 2},
    "fixed rank 8": {"approximation_rate": 1.0, "max_rank": 8},
    "convolution: channel": {"convolution": "channel"},
    "warm-up 0": {"warmup_epochs": 0},
    "warm-up 1": {"warmup_epochs": 1},
    "warm-up 2": {"warmup_epochs": 2},
    "warm-up 6": {"warmup_epochs": 6},
    "warm-up 8": {"warmup_epochs": 8},
    "alpha 0.5": {"approximation_rate": 0.5},
    "alpha 0.7": {"approximation_rate": 0.7},
    "alpha 0.99": {"approximation_rate": 0.99},
    "budget 0.01": {"growth_budget": 0.01},
    "budget 0.02": {"growth_budget": 0.02},
    "budget 0.05": {"growth_budget": 0.05},
    "budget 0.1": {"growth_budget": 0.1},
    "budget 0.2": {"growth_budget": 0.2},
    "budget 0.05, pruned at the end": {"growth_budget": 0.05, "retrain_epochs": 0},
    "budget 0.05, plain singular values": {"growth_budget": 0.05, "importance": "uniform"},
    "budget 0.05, importance: kfac": {"growth_budget": 0.05, "importance": "kfac"},
    "budget 0.05, warm-up 1": {"growth_budget": 0.05, "warmup_epochs": 1},
    "budget 0.02, labels of the rows": {"growth_budget": 0.02, "importance": "empirical"},
    "factor_lr_scale 3": {"factor_lr_scale": 3},
    "factor_lr_scale 10": {"factor_lr_scale": 10},
    "importance: kfac": {"importance": "kfac"},
    "no pruning": {"prune_threshold": 0.0, "growth_budget": 10.0, "retrain_epochs": 0},
    "pruning below 0.001": {"prune_threshold": 1e-3},
    "pruning below 0.01": {"prune_threshold": 1e-2},
    "half precision": {"precision": "half"},
    "no penalties": {"l1_penalty": 0.0, "l2_penalty": 0.0},
    "lambda_1 1e-4": {"l1_penalty": 1e-4},
    "lambda_2 1e-3": {"l2_penalty": 1e-3},
}

OTHERS = ("r and s held at 1", "importance from training rows", "base: a tenth of the first task")
OTHERS += ("base: first task with random labels", "base: the largest task", "separate networks")

# Other settings where the budget is tight, on networks that are large enough for it; only where
# they are asked for.
TIGHT = {
    "budget 0.007": {"growth_budget": 0.007},
    "budget 0.007, warm-up 1": {"growth_budget": 0.007, "warmup_epochs": 1},
    "budget 0.007, warm-up 8": {"growth_budget": 0.007, "warmup_epochs": 8},
    "budget 0.007, plain singular values": {"growth_budget": 0.007, "importance": "uniform"},
    "budget 0.02, plain singular values": {"growth_budget": 0.02, "importance": "uniform"},
    "budget 0.02, warm-up 1": {"growth_budget": 0.02, "warmup_epochs": 1},
    "budget 0.02, warm-up 8": {"growth_budget": 0.02, "warmup_epochs": 8},
    "budget 0.02, pruned at the end": {"growth_budget": 0.02, "retrain_epochs": 0},
    "budget 0.02, importance: kfac": {"growth_budget": 0.02, "importance": "kfac"},
    "budget 0.02, convolution: channel": {"growth_budget": 0.02, "convolution": "channel"},
}
TIGHT_OTHERS = ("budget 0.02, importance from training rows",)


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
    """Return the order in which the task with the most rows comes first."""
    rows = [len(task.train[1]) for task in stream.tasks]
    largest = int(np.argmax(rows))
    return [largest, *(i for i in range(len(rows)) if i != largest)]


def variant(name):
    """Return the name of a variant, if there is one that is called so."""
    every = (*VARIANTS, *OTHERS, *TIGHT, *TIGHT_OTHERS)
    if name not in every:
        known = ", ".join(f'"{one}"' for one in every)
        raise argparse.ArgumentTypeError(f'There is no variant "{name}"; choose from {known}.')
    return name


def jobs_of(stream, training, seeds, names=None, part="test"):
    """Return what is to be run."""
    every = VARIANTS | TIGHT
    made = {name: (HALRP, DEFAULTS | changes, stream) for name, changes in every.items()}
    made["r and s held at 1"] = (WithoutScales, DEFAULTS, stream)
    made["importance from training rows"] = (TrainingRowsOnly, DEFAULTS, stream)
    tight = DEFAULTS | VARIANTS["budget 0.02"]
    made[TIGHT_OTHERS[0]] = (TrainingRowsOnly, tight, stream)
    made["base: a tenth of the first task"] = (HALRP, DEFAULTS, with_few_first(stream))
    made["base: first task with random labels"] = (HALRP, DEFAULTS, with_noise_first(stream))
    largest = stream.in_order(largest_first(stream))
    if largest.tasks[0] is not stream.tasks[0]:
        made["base: the largest task"] = (HALRP, DEFAULTS, largest)
    made["separate networks"] = (Separate, {}, stream)
    chosen = names or [name for name in made if name not in (*TIGHT, *TIGHT_OTHERS)]
    return [
        (
            {"variant": name, "seed": seed, "settings": settings},
            measured,
            (tasks, method, training, seed, settings, part),
        )
        for seed in range(seeds)
        for name, (method, settings, tasks) in made.items()
        if name in chosen
    ]


def measured(stream, method, training, seed, settings, part):
    """Run one variant."""
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
    reference = {run["key"]["seed"]: run for run in runs if run["key"]["variant"] == "defaults"}
    values = {}
    for name, own in grouped(runs, "variant").items():
        values[name] = {
            "accuracy": np.array([later(run, bases) for run in own]),
            "growth": np.array([growth(run) for run in own]),
            "difference": np.array(
                [
                    later(run, bases) - later(reference[run["key"]["seed"]], bases)
                    for run in own
                    if run["key"]["seed"] in reference
                ]
            ),
        }
    return values


def later(run, bases):
    """Return the mean final accuracy of the tasks that are the base of no variant."""
    final = zip(run["tasks"], run["accuracy"][-1], strict=True)
    return np.mean([accuracy for name, accuracy in final if name not in bases])


def table(values):
    """Return one line per variant."""
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
    """Run the command."""
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
