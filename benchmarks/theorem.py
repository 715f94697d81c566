"""Does the bound on the loss hold? Predicted against measured increases, layer by layer.

    python -m benchmarks.theorem STREAM --data-dir DIR [--seeds 2] [--jobs 2] [--json FILE]

After the warm-up of a task each layer alone is cut to its rank, and the loss is measured on
held-out rows; the prediction is half the importance times the squared norm of what was cut, as the
report of `ContinualClassifier` gives both. Different shares alpha, and different lengths of the
warm-up, give cuts of all sizes.
"""

import numpy as np
from scipy.stats import spearmanr

from benchmarks import tables
from benchmarks.command import parser, prepared
from benchmarks.methods import HALRP
from benchmarks.tables import grouped

ALPHAS = (0.2, 0.5, 0.8, 0.95)
WARMUPS = (1, 3)


def increases(stream, training, seed, settings):
    """Return a row per task and layer: predicted and measured increase of the loss."""
    learner = HALRP(stream.network, training, seed, **settings)
    for task in stream.tasks:
        learner.learn(task)
    rows = []
    for name, report in learner.classifier.report_.items():
        for layer, one in report.get("layers", {}).items():
            keys = ("rank", "importance", "predicted_increase", "measured_increase")
            rows.append({"task": name, "layer": layer, **{key: one[key] for key in keys}})
    return {"rows": rows}


def measure(results, stream, training, seeds, n_jobs=1, importances=("fisher",)):
    """Return the runs for all settings."""
    jobs = [
        (
            {"importance": importance, "alpha": alpha, "warmup": warmup, "seed": seed},
            increases,
            (
                stream,
                training,
                seed,
                {
                    "importance": importance,
                    "approximation_rate": alpha,
                    "warmup_epochs": warmup,
                    "growth_budget": 10.0,
                    "max_rank": 1000,
                },
            ),
        )
        for importance in importances
        for alpha in ALPHAS
        for warmup in WARMUPS
        for seed in range(seeds)
    ]
    return results.complete(jobs, n_jobs)


def found(runs):
    """Return (importance, warm-up) -> predicted and measured increases, and the layer of each."""
    values = {}
    for importance, own in grouped(runs, "importance").items():
        for warmup, few in sorted(grouped(own, "warmup").items()):
            rows = [row for run in few for row in run["rows"]]
            values[importance, warmup] = {
                "predicted": np.array([row["predicted_increase"] for row in rows]),
                "measured": np.array([row["measured_increase"] for row in rows]),
                "layers": np.array([row["layer"] for row in rows]),
            }
    return values


def table(values):
    """Return one line per importance and warm-up."""
    rows = []
    for (importance, warmup), one in values.items():
        predicted, measured = one["predicted"], one["measured"]
        cut = predicted > 1e-12  # of a layer that keeps its full rank only rounding is cut off
        predicted, measured = predicted[cut], measured[cut]
        ratio = np.median(measured / predicted) if cut.any() else np.nan
        above = np.mean(measured > predicted) if cut.any() else np.nan
        correlation = spearmanr(predicted, measured).statistic if cut.sum() > 1 else np.nan
        cells = [str(len(predicted)), f"{correlation:.2f}", f"{ratio:.1f}", f"{100 * above:.0f} %"]
        rows.append([f"{importance}, warm-up of {warmup}", *cells])
    header = ["", "cuts", "rank correlation", "measured / predicted", "above the prediction"]
    return tables.table(header, rows)


def main(arguments=None):
    """Run the command."""
    one = parser("theorem", __doc__, seeds=2, epochs=4)
    one.add_argument("--importances", nargs="+", default=["fisher"])
    options = one.parse_args(arguments)
    stream, training, results = prepared(options)
    runs = measure(
        results, stream, training, options.seeds, options.jobs, tuple(options.importances)
    )
    print(table(found(runs)))


if __name__ == "__main__":
    main()
