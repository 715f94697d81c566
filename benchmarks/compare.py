"""All methods on one stream: accuracy, forgetting and stored bytes.

    python -m benchmarks.compare STREAM --data-dir DIR [--seeds 5] [--jobs 2] [--json FILE]

Each method that has settings of its own is tuned first, by its accuracy on the validation rows of
the first half of the tasks, three at least: over at most six settings, and from the best as long as
that is at an end up to four steps further. Of equally good penalties the strongest is taken: later
tasks need it. Then it learns the stream once per seed.
"""

import numpy as np

from benchmarks import tables
from benchmarks.command import parser, prepared
from benchmarks.contestants import contestants
from benchmarks.running import learn_stream, summary
from benchmarks.tables import grouped, spread

TUNING_SEED = 1000  # no seed of the comparison
FEWEST_TASKS = 3  # to tune on
STEPS_BEYOND = 4


def tune(results, stream, chosen, training, n_jobs, key=None):
    """Return the best settings of each contestant, by validation accuracy.

    The key says what else the runs depend on.
    """
    short = stream.first(max(FEWEST_TASKS, len(stream.tasks) // 2))

    def job(name, settings):
        method = chosen[name].with_settings(training, TUNING_SEED, settings)
        return (
            {"method": name, **(key or {}), "tuning": settings},
            learn_stream,
            (short, method, False, "valid"),
        )

    tried = {name: one.settings() for name, one in chosen.items()}
    best = {name: settings[0] for name, settings in tried.items()}
    score = dict.fromkeys(best, (-1.0, 0.0))
    untried = {name: settings for name, settings in tried.items() if len(settings) > 1}
    for _ in range(1 + STEPS_BEYOND):
        jobs = [job(name, settings) for name in untried for settings in untried[name]]
        for result in results.complete(jobs, n_jobs):
            name, settings = result["key"]["method"], result["key"]["tuning"]
            found = round(summary(result)["ACC"], 6), settings.get("strength", 0.0)
            if found > score[name]:
                best[name], score[name] = settings, found
        for name in untried:
            further = chosen[name].beyond(tried[name], best[name])
            untried[name] = [settings for settings in further if settings not in tried[name]]
            tried[name] = tried[name] + untried[name]
    return best


def learn(results, stream, chosen, training, visits, n_jobs=1, every=False, key=None):
    """Tune contestants, given by name, on a stream, and return the runs of all on each visit.

    Visits are what the key of a run says about it, the stream that is learned, and the seed. With
    `every`, all earlier tasks are predicted after each task. The key is that of `tune`.
    """
    best = tune(results, stream, chosen, training, n_jobs, key)
    jobs = [
        (
            {"method": name, **visit, "seed": seed, "settings": best[name]},
            learn_stream,
            (learned, one.with_settings(training, seed, best[name]), every),
        )
        for visit, learned, seed in visits
        for name, one in chosen.items()
    ]
    return results.complete(jobs, n_jobs)


def found(runs):
    """Return method -> ACC, BWT, bytes and the like, one of each for every seed."""
    learned = grouped([run for run in runs if "seed" in run["key"]], "method")
    values = {name: [summary(run) for run in own] for name, own in learned.items()}
    return {
        name: {key: np.array([one[key] for one in own]) for key in own[0]}
        for name, own in values.items()
    }


def table(values):
    rows = [
        [
            f"**{name}**" if name.startswith("HALRP") else name,
            spread(one["ACC"]),
            forgotten(one["BWT"]),
            f"{100 * one['growth'].mean():.1f} %",
            f"{one['bytes'].mean() / 1e6:.2f}",
        ]
        for name, one in values.items()
    ]
    return tables.table(["", "ACC", "BWT", "growth", "stored MB"], rows)


def forgotten(bwt):
    """Return backward transfer in words; joint training has none, and 0 is exact."""
    if np.isnan(bwt).all():
        return ""
    return spread(bwt) if bwt.any() else "0"


def main(arguments=None):
    options = parser("compare", __doc__, seeds=5, jobs=1).parse_args(arguments)
    stream, training, results = prepared(options)
    visits = [({}, stream, seed) for seed in range(options.seeds)]
    chosen = contestants(stream, options.methods)
    runs = learn(results, stream, chosen, training, visits, options.jobs, every=True)
    print(table(found(runs)))


if __name__ == "__main__":
    main()
