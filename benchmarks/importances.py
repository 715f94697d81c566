"""Which importance ranks terms best? All of them at the same growth, on the same base.

    python -m benchmarks.importances --data-dir DIR [--streams letters tabular] [--seeds 3]
                                     [--importances fisher hessian] [--jobs 1] [--json FILE]

With an approximation rate of 1 the budget alone limits the ranks, so that all importances spend
the same numbers, on the terms that they hold for the best. All tasks but the first are learned from
the base of their seed. The table has, of these tasks, the mean accuracy on the test rows; the rank
correlation of predicted and measured increases of the loss, layers being cut one at a time; and
the processor time that the importance takes for one task.
"""

import copy
import time
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.stats import spearmanr

from benchmarks import tables
from benchmarks.command import Parser, fingerprint, opened, said
from benchmarks.methods import HALRP, Training
from benchmarks.running import Results
from benchmarks.tables import deviation, grouped, spread
from sklearn_halrp import importance as family


class Plan(NamedTuple):
    """Tasks of a stream, and what one may store over the base's numbers.

    That is about 1.5 % more than what it stores without any term.
    """

    tasks: int
    budget: float


STREAMS = {
    "letters": Plan(13, 0.04),
    "tabular": Plan(6, 0.07),
    "permuted-mnist": Plan(4, 0.03),
}
QUICK = {"digits": Plan(2, 0.04)}
IMPORTANCES = {
    "fisher": family.Fisher(),
    "empirical": family.Empirical(),
    "kfac": family.Kfac(),
    "uniform": family.Uniform(),
    "gradient": family.Gradient(),
    "activation": family.Activation(),
    "hessian": family.Hessian(),
}


class Timed:
    """An importance that writes down the processor time of each call."""

    def __init__(self, importance):
        self.importance = importance
        self.seconds = []

    def __call__(self, layers, held_out):
        begin = time.process_time()
        found = self.importance(layers, held_out)
        self.seconds.append(time.process_time() - begin)
        return found


class Bases:
    """The learner that knows the first task, made once for each seed.

    Parameters
    ----------
    stream : benchmarks.streams.Stream
    training : benchmarks.methods.Training
    """

    def __init__(self, stream, training):
        self.stream = stream
        self.training = training
        self._of = lru_cache(maxsize=1)(self._learned)

    def __getstate__(self):
        return self.stream, self.training

    def __setstate__(self, state):
        self.__init__(*state)

    def _learned(self, seed):
        learner = HALRP(self.stream.network, self.training, seed, approximation_rate=1.0)
        learner.learn(self.stream.tasks[0])
        return learner

    def learner(self, seed):
        """Return a learner of one's own."""
        return copy.deepcopy(self._of(seed))


def measured(bases, name, seed, budget):
    """Return what one importance makes of the later tasks."""
    learner, timed = bases.learner(seed), Timed(IMPORTANCES[name])
    learner.classifier.set_params(importance=timed, growth_budget=budget)
    tasks, accuracy, cuts, seconds = bases.stream.tasks[1:], [], [], []
    for task in tasks:
        begin = time.process_time()
        learner.learn(task)
        seconds.append(time.process_time() - begin)
        X, y = task.test
        accuracy.append(round(float(np.mean(learner.predict(task.name, X) == y)), 6))
        for layer, row in learner.classifier.report_[task.name]["layers"].items():
            keys = ("rank", "predicted_increase", "measured_increase")
            cuts.append({"task": task.name, "layer": layer, **{key: row[key] for key in keys}})
    return {
        "accuracy": accuracy,
        "growth": [learner.classifier.growth_[task.name] for task in tasks],
        "cuts": cuts,
        "importance_seconds": [round(s, 4) for s in timed.seconds],
        "seconds": [round(s, 3) for s in seconds],
    }


def jobs_of(name, data_dir, training, seeds, importances):
    """Return what is to be run of a stream, seed by seed."""
    n_tasks, budget = (STREAMS | QUICK)[name]
    stream = opened(name, data_dir, n_tasks)
    bases, rows = Bases(stream, training), fingerprint(stream)
    return [
        (
            {
                "stream": name,
                "importance": importance,
                "seed": seed,
                "budget": budget,
                "rows": rows,
            },
            measured,
            (bases, importance, seed, budget),
        )
        for seed in range(seeds)
        for importance in importances
    ]


def correlation(run):
    """Return the rank correlation of predicted and measured increases, nan of fewer than two."""
    pairs = [(cut["predicted_increase"], cut["measured_increase"]) for cut in run["cuts"]]
    return float(spearmanr(pairs).statistic) if len(pairs) > 1 else np.nan


def table(runs):
    """Return one line per stream and importance."""
    rows = []
    for stream, ones in grouped(runs, "stream").items():
        accuracy = {
            (run["key"]["importance"], run["key"]["seed"]): np.mean(run["accuracy"]) for run in ones
        }
        for importance, own in grouped(ones, "importance").items():
            seeds = [run["key"]["seed"] for run in own]
            beside = [
                100 * (accuracy[importance, seed] - accuracy["fisher", seed])
                for seed in seeds
                if ("fisher", seed) in accuracy
            ]
            asked = [np.sum(run["importance_seconds"]) for run in own]
            whole = [np.sum(run["seconds"]) for run in own]
            rows.append(
                [
                    f"{stream}: {importance}",
                    spread([accuracy[importance, seed] for seed in seeds]),
                    plain(beside, "+.2f"),
                    f"{100 * np.mean([run['growth'] for run in own]):.2f} %",
                    plain([correlation(run) for run in own], ".2f"),
                    plain([np.median(run["importance_seconds"]) for run in own], ".3f"),
                    f"{100 * np.sum(asked) / np.sum(whole):.0f} %",
                ]
            )
    header = ["", "accuracy", "beside fisher", "growth of a task", "rank correlation"]
    return tables.table([*header, "seconds a task", "of its time"], rows)


def plain(values, form):
    """Return mean and standard deviation as they are, or nothing of none.

    >>> plain([1, 3], ".1f"), plain([], ".1f")
    ('2.0 ± 1.4', '')
    """
    if not len(values):
        return ""
    mean = format(np.mean(values), form)
    return f"{mean} ± {deviation(values):{form.lstrip('+')}}" if len(values) > 1 else mean


def main(arguments=None):
    one = Parser("importances", __doc__, seeds=3, epochs=10, jobs=1).data().results()
    names = [*STREAMS, *QUICK]
    one.add_argument("--streams", nargs="+", choices=names, default=[*STREAMS], help="only these")
    one.add_argument(
        "--importances", nargs="+", choices=IMPORTANCES, default=[*IMPORTANCES], help="only these"
    )
    options = one.parse_args(arguments)
    training = Training(options.epochs)
    results = Results(options.json, said(training), options.words)
    jobs = [
        job
        for name in dict.fromkeys(options.streams)
        for job in jobs_of(name, options.data_dir, training, options.seeds, options.importances)
    ]
    print(table(results.complete(jobs, options.jobs)))


if __name__ == "__main__":
    main()
