"""Does the bound on the loss hold? Predicted against measured increases, layer by layer.

    python -m benchmarks.theorem STREAM --data-dir DIR [--seeds 2] [--jobs 2] [--json FILE]

After the warm-up of a task each layer alone is cut to its rank, and the loss is measured on
held-out rows; the prediction is half the importance times the squared norm of what was cut, as the
report of `ContinualClassifier` gives both. Different shares alpha, and different lengths of the
warm-up, give cuts of all sizes.
"""

import numpy as np
from scipy.stats import spearmanr

from benchmarks.command import parser, prepared
from benchmarks.methods import HALRP

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


def pairs(runs, importance, warmup):
    """Return predicted and measured increases, and the layer of each."""
    rows = [
        row
        for run in runs
        if run["key"]["importance"] == importance and run["key"]["warmup"] == warmup
        for row in run["rows"]
    ]
    values = np.array([[row["predicted_increase"], row["measured_increase"]] for row in rows])
    return values[:, 0], values[:, 1], [row["layer"] for row in rows]


def table(runs):
    """Return one line per importance and warm-up."""
    lines = [
        f"{'importance':<12}{'warm-up':>8}{'cuts':>6}{'rank corr.':>12}{'measured/predicted':>20}"
    ]
    for importance in dict.fromkeys(run["key"]["importance"] for run in runs):
        for warmup in sorted({run["key"]["warmup"] for run in runs}):
            predicted, measured, _ = pairs(runs, importance, warmup)
            correlation = spearmanr(predicted, measured).statistic
            some = predicted > 0
            ratio = np.median(measured[some] / predicted[some]) if some.any() else np.nan
            lines.append(
                f"{importance:<12}{warmup:>8}{len(predicted):>6}{correlation:>12.2f}{ratio:>20.1f}"
            )
    return "\n".join(lines)


def main(arguments=None):
    """Run the command."""
    one = parser(__doc__, seeds=2, epochs=4)
    one.add_argument("--importances", nargs="+", default=["fisher"])
    options = one.parse_args(arguments)
    stream, training, results = prepared(options)
    runs = measure(
        results, stream, training, options.seeds, options.jobs, tuple(options.importances)
    )
    print(table(runs))


if __name__ == "__main__":
    main()
