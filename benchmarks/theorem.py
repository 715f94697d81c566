"""Does the bound on the loss hold? Predicted against measured increases, layer by layer.

    python -m benchmarks.theorem STREAM --data-dir DIR [--seeds 2] [--jobs 2] [--json FILE]

After the warm-up of a task each layer alone is cut to its rank, and the loss is measured on
held-out rows; the prediction is half the importance times the squared norm of what was cut, as the
report of `ContinualClassifier` gives both. Different shares alpha, and different lengths of the
warm-up, give cuts of all sizes.

The importance of a layer is the mean curvature of its weights. The theorem has the norm of the
layer's Hessian in its place, which is measured here too: the bound itself is half of that times the
same squared norm.
"""

import copy
import itertools

import numpy as np
import torch
from scipy.stats import spearmanr
from skorch.callbacks import Callback
from torch.nn.functional import cross_entropy

from benchmarks import tables
from benchmarks.command import parser, prepared
from benchmarks.methods import HALRP
from benchmarks.tables import grouped

ALPHAS = (0.2, 0.5, 0.8, 0.95)
WARMUPS = (1, 3)
NOTHING = 1e-12  # what is predicted where a layer keeps its full rank, but for rounding
IMPORTANCES = ("empirical", "fisher", "kfac", "uniform")
ROWS, STEPS = 256, 12  # held-out rows of which the Hessian is, and products with it


class AfterWarmup(Callback):
    """Keep the module after the first training of a task, which is the free warm-up."""

    module = None  # of the class: the callback itself is cloned

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Copy it, if there is none yet."""
        AfterWarmup.module = AfterWarmup.module or copy.deepcopy(net.module_)


def norm_of_hessian(module, name, X, y):
    """Return the spectral norm of the Hessian of a module's loss in one weight, from below.

    By power iteration: no eigenvalue is larger in size.
    """
    weight = dict(module.eval().named_parameters())[name]
    loss = cross_entropy(module(torch.as_tensor(X)), torch.as_tensor(y))
    (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    for _ in range(STEPS):
        direction /= direction.norm()
        (direction,) = torch.autograd.grad(gradient, weight, direction, retain_graph=True)
    return float(direction.norm())


def increases(stream, training, seed, settings):
    """Return a row per task and layer: predicted and measured increase of the loss."""
    learner = HALRP(stream.network, training, seed, **settings)
    learner.classifier.net.set_params(callbacks=[("after_warmup", AfterWarmup())])
    rows = []
    for task in stream.tasks:
        AfterWarmup.module = None
        learner.learn(task)
        held_out = [part[:ROWS] for part in task.valid]
        for layer, one in learner.classifier.report_[task.name].get("layers", {}).items():
            keys = ("rank", "importance", "predicted_increase", "measured_increase")
            row = {"task": task.name, "layer": layer, **{key: one[key] for key in keys}}
            if settings["importance"] != "kfac":  # which predicts by another norm
                norm = norm_of_hessian(AfterWarmup.module, layer, *held_out)
                row["bound"] = norm / one["importance"] * one["predicted_increase"]
            rows.append(row)
    return {"rows": rows}


def jobs_of(stream, training, seeds, importances):
    names = ("importance", "approximation_rate", "warmup_epochs")
    jobs = []
    for *values, seed in itertools.product(importances, ALPHAS, WARMUPS, range(seeds)):
        key = dict(zip(("importance", "alpha", "warmup", "seed"), (*values, seed), strict=True))
        settings = dict(zip(names, values, strict=True), growth_budget=10.0, max_rank=1000)
        jobs.append((key, increases, (stream, training, seed, settings)))
    return jobs


def found(runs):
    """Return (importance, warm-up) -> predicted and measured increases, and the layer of each."""
    values = {}
    for importance, own in grouped(runs, "importance").items():
        for warmup, few in sorted(grouped(own, "warmup").items()):
            rows = [row for run in few for row in run["rows"]]
            values[importance, warmup] = {
                "predicted": np.array([row["predicted_increase"] for row in rows]),
                "measured": np.array([row["measured_increase"] for row in rows]),
                "bound": np.array([row.get("bound", np.nan) for row in rows]),
                "layers": np.array([row["layer"] for row in rows]),
            }
    return values


def table(values):
    """Return one line per importance and warm-up; ratios are medians."""
    rows = []
    for (importance, warmup), one in values.items():
        cut = one["predicted"] > NOTHING
        predicted, measured, bound = (one[key][cut] for key in ("predicted", "measured", "bound"))
        cells = [f"{importance}, warm-up of {warmup}", str(len(predicted))]
        cells += [in_order(predicted, measured), f"{or_nan(np.median, measured / predicted):.1f}"]
        cells += [f"{100 * or_nan(np.mean, measured > predicted):.0f} %"]
        known, rose = not np.isnan(bound).any(), measured > 0
        cells += [in_order(bound, measured) if known else ""]
        cells += [f"{or_nan(np.median, bound[rose] / measured[rose]):.0f}" if known else ""]
        cells += [f"{100 * or_nan(np.mean, measured > bound):.0f} %" if known else ""]
        rows.append(cells)
    header = ["", "cuts", "prediction: rank correlation", "measured / predicted", "above it"]
    header += ["bound: rank correlation", "bound / measured", "above it"]
    return tables.table(header, rows)


def in_order(found, measured):
    """Return Spearman's rank correlation in words, if there are two cuts."""
    return f"{spearmanr(found, measured).statistic:.2f}" if len(found) > 1 else ""


def or_nan(function, values):
    """Return a function of some values, or nan of none."""
    return function(values) if len(values) else np.nan


def main(arguments=None):
    one = parser("theorem", __doc__, None, epochs=4, seeds=2, jobs=1)
    one.add_argument(
        "--importances", nargs="+", choices=IMPORTANCES, default=["fisher"], help="(fisher)"
    )
    options = one.parse_args(arguments)
    stream, training, results = prepared(options)
    if len(stream.tasks) < 2:
        one.error("Nothing is cut of the first task: take two tasks or more.")
    jobs = jobs_of(stream, training, options.seeds, options.importances)
    print(table(found(results.complete(jobs, options.jobs))))


if __name__ == "__main__":
    main()
