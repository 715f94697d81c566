"""Which part of the method pays: one setting changed at a time.

    python -m benchmarks.ablations STREAM --data-dir DIR [--seeds 2] [--jobs 2] [--json FILE]

Accuracies are those of the tasks after the first; growth is what one of them stores, over the base.
"""

from dataclasses import replace

import numpy as np
from skorch.callbacks import Callback

from benchmarks import tables
from benchmarks.command import parser, prepared
from benchmarks.methods import HALRP, Separate
from benchmarks.running import learn_stream
from benchmarks.tables import deviation, grouped, spread


class FixedScales(Callback):
    """Hold r and s at 1: W_t = W + U V."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Set them where they are about to be trained."""
        for name, tensor in net.module_.named_parameters():
            if name.endswith(("_r", "_s")):
                tensor.data.fill_(1)
                tensor.requires_grad_(False)


def without_scales(network, training, seed, **settings):
    """Return the method with r and s held at 1."""
    method = HALRP(network, training, seed, **settings)
    method.classifier.net.set_params(callbacks=[("fixed scales", FixedScales())])
    return method


# Beside the defaults: fisher, unfolded, 4 of 10 epochs of warm-up, alpha 0.9, a budget of 0.6.
VARIANTS = {
    "defaults": {},
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
    "factor_lr_scale 3": {"factor_lr_scale": 3},
    "factor_lr_scale 10": {"factor_lr_scale": 10},
    "importance: kfac": {"importance": "kfac"},
    "no pruning by size": {"prune_threshold": 0.0},
    "pruning below 0.001": {"prune_threshold": 1e-3},
    "pruning below 0.01": {"prune_threshold": 1e-2},
    "no penalties": {"l1_penalty": 0.0, "l2_penalty": 0.0},
    "lambda_1 1e-4": {"l1_penalty": 1e-4},
    "lambda_2 1e-3": {"l2_penalty": 1e-3},
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


def jobs_of(stream, training, seeds, names=None):
    """Return what is to be run."""
    made = {name: (HALRP, settings, stream) for name, settings in VARIANTS.items()}
    made["r and s held at 1"] = (without_scales, {}, stream)
    made["base: a tenth of the first task"] = (HALRP, {}, with_few_first(stream))
    made["base: first task with random labels"] = (HALRP, {}, with_noise_first(stream))
    made["separate networks"] = (Separate, {}, stream)
    return [
        ({"variant": name, "seed": seed}, measured, (tasks, method, training, seed, settings))
        for seed in range(seeds)
        for name, (method, settings, tasks) in made.items()
        if not names or name in names
    ]


def measured(stream, method, training, seed, settings):
    """Run one variant."""
    learners = []

    def make(network):
        learners.append(method(network, training, seed, **settings))
        return learners[0]

    result = learn_stream(stream, make, False)
    if hasattr(learners[0], "classifier"):
        ranks = learners[0].classifier.ranks_
        result["ranks"] = [list(ranks[task.name].values()) for task in stream.tasks[1:]]
    return result


def growth(run):
    """Return what a later task stores, over the first."""
    numbers = run["numbers"]
    return (numbers[-1] / numbers[0] - 1) / (len(numbers) - 1)


def found(runs):
    """Return what every variant reached, once for each seed.

    Returns
    -------
    dict
        Variant -> accuracy of the later tasks, its difference from the defaults' with the same
        seed, and the growth of a task.
    """
    values = {}
    for name, own in grouped(runs, "variant").items():
        accuracy = np.array([np.mean(run["accuracy"][-1][1:]) for run in own])
        values[name] = {"accuracy": accuracy, "growth": np.array([growth(run) for run in own])}
    for one in values.values():
        reference = values["defaults"]["accuracy"][: len(one["accuracy"])]
        one["difference"] = one["accuracy"] - reference
    return values


def table(values):
    """Return one line per variant."""
    rows = [
        [
            name,
            spread(one["accuracy"]),
            f"{100 * one['difference'].mean():+.2f} ± {100 * deviation(one['difference']):.2f}",
            f"{100 * one['growth'].mean():.2f} %",
        ]
        for name, one in values.items()
    ]
    return tables.table(["", "accuracy", "difference", "growth of a task"], rows)


def main(arguments=None):
    """Run the command."""
    options = parser(__doc__, seeds=2).parse_args(arguments)
    stream, training, results = prepared(options)
    jobs = jobs_of(stream, training, options.seeds, options.methods)
    print(table(found(results.complete(jobs, options.jobs))))


if __name__ == "__main__":
    main()
