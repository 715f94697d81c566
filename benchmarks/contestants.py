"""Who is compared: every method, what of it is fixed, and what is tuned."""

import importlib.util
import re
from dataclasses import dataclass, field, replace
from functools import cache, partial

from sklearn.model_selection import ParameterGrid
from sklearn.utils._param_validation import InvalidParameterError

from benchmarks import methods
from benchmarks.methods._method import parts
from sklearn_halrp import ContinualClassifier, published_settings

BOTH = ["own", "shared"]
STRENGTHS = {  # where there are no norms to choose for: three for each choice otherwise
    "L2": [0.001, 0.003, 0.01, 0.03, 0.1, 0.3],
    "EWC": [100, 300, 1000, 3000, 10000, 30000],
}
SCALES = {"scale": [1, 4, 16, 64]}
DEFAULTS = {
    name: value
    for name, value in ContinualClassifier().get_params(deep=False).items()
    if name in published_settings()
}
PUBLISHED = {  # stream -> growth of all tasks, and settings, in the paper's most similar experiment
    "permuted-mnist": (0.6, {"l2_penalty": 1e-3}),  # P-MNIST
    "split-cifar10": (0.2, {"l1_penalty": 1e-4}),  # CIFAR-100 in splits
    "five-datasets": (0.6, {}),  # with AlexNet
}


@dataclass(frozen=True)
class Contestant:
    """A method with its settings: those that are fixed, and those to choose on validation rows.

    The values of the grid are in ascending order, at most six settings in all. `beyond` may add
    more.
    """

    # Values of these are steps of one factor, and may go on where the best is at an end.
    unbounded = ("strength", "scale", "factor_lr_scale")

    method: type
    fixed: dict = field(default_factory=dict)
    grid: dict = field(default_factory=dict)

    def settings(self):
        """Return the settings to choose from."""
        return [{**self.fixed, **chosen} for chosen in ParameterGrid(self.grid)]

    def beyond(self, tried, best):
        """Return what lies one step further on, where the best of what was tried is at an end.

        >>> tried = [{"strength": 1}, {"strength": 10}]
        >>> Contestant(None, grid={"strength": [1, 10]}).beyond(tried, tried[1])
        [{'strength': 100.0}]
        """
        further = []
        for name in [name for name in self.unbounded if name in self.grid]:
            values = sorted({one[name] for one in tried})
            for end, inner in (values[:2], values[:-3:-1]) if values[1:] else ():
                if best[name] == end:
                    further.append({**best, name: float(f"{end * end / inner:.3g}")})
        return further

    def with_settings(self, training, seed, chosen):
        """Return a function of a network that gives the method."""
        return partial(self.method, training=training, seed=seed, **chosen)


def ours(grid=None, method=methods.HALRP, **changes):
    """Return the package's own estimator; all its settings are written down with the results."""
    return Contestant(method, DEFAULTS | changes, grid or {})


JOINT = {"base": "joint"}  # a parameter of the package
MODEL_GRIDS = {
    "LogisticRegression": {"C": [0.01, 0.1, 1, 10, 100]},
    "SVC": {"C": [1, 10, 100], "gamma": ["scale", 0.25]},
    "HistGradientBoosting": {"learning_rate": [0.03, 0.1], "max_leaf_nodes": [4, 8, 31]},
    "ExtraTrees": {"min_samples_leaf": [1, 3, 10], "max_features": ["sqrt", None]},
    "MLPClassifier": {"alpha": [1e-4, 1e-2, 1], "learning_rate_init": [1e-3, 1e-2]},
}
PER_TASK = {  # one model of scikit-learn for each task, where rows are tables
    name: Contestant(methods.Models, {"model": name}, grid) for name, grid in MODEL_GRIDS.items()
}
FOR_ALL = {  # one for all tasks, where these are alike
    "HistGradientBoosting, all tasks": Contestant(
        methods.OneForAll, {}, MODEL_GRIDS["HistGradientBoosting"]
    ),
    "SGD.partial_fit": Contestant(methods.OneLinear, {}, {"alpha": [1e-5, 1e-4, 1e-3, 1e-2]}),
}
LIBRARY = {  # needs peft
    "LoRA (peft), rank 4": Contestant(methods.Peft, {"rank": 4}, SCALES),
    "AdaLoRA (peft), rank 4": Contestant(methods.AdaLoRA, {"rank": 4}, SCALES),
}
AS_IT_COMES = {"HALRP, no net": ours(method=methods.AsItComes)}
WITH_JOINT = {
    "HALRP, joint base": ours(method=methods.FromSeveral, **JOINT),
    "HALRP, no net, joint base": ours(method=methods.FromSeveralAsItComes, **JOINT),
}


CONTESTANTS = {
    "HALRP, defaults": ours(),
    "HALRP, tuned": ours({"factor_lr_scale": [1, 3, 10]}),
    "HALRP, budget 0.05": ours(growth_budget=0.05),
    "HALRP, budget 0.02": ours(growth_budget=0.02),
    "HALRP, published": ours(**published_settings()),
    "separate networks": Contestant(methods.Separate),
    "copies of the first": Contestant(methods.Copies),
    "joint training": Contestant(methods.Joint),
    "fine-tuning": Contestant(methods.FineTuning, grid={"norm": BOTH}),
    "L2": Contestant(methods.L2, grid={"norm": BOTH, "strength": [0.001, 0.01, 0.1]}),
    "EWC": Contestant(methods.EWC, grid={"norm": BOTH, "strength": [100, 1000, 10000]}),
    "LwF": Contestant(
        methods.LearningWithoutForgetting, grid={"strength": [0.01, 0.03, 0.1, 0.3, 1, 3]}
    ),
    "replay, 50 rows": Contestant(methods.Replay, {"memory": 50}, {"norm": BOTH}),
    "replay, 200 rows": Contestant(methods.Replay, {"memory": 200}, {"norm": BOTH}),
    "PackNet": Contestant(methods.PackNet, grid={"retrain": [0.1, 0.2, 0.4, 0.6, 0.8, 0.9]}),
    "BatchEnsemble": Contestant(methods.BatchEnsemble),
    **{f"LoRA, rank {k}": Contestant(methods.LoRA, {"rank": k}, SCALES) for k in (1, 4, 16)},
}
EVERYONE = CONTESTANTS | AS_IT_COMES | WITH_JOINT | PER_TASK | FOR_ALL | LIBRARY


def contestant(name):
    """Return who is called so; a budget in the name may be any.

    >>> contestant("HALRP, budget 0.007").fixed["growth_budget"]
    0.007
    """
    if name in EVERYONE:
        return possible(name)
    found = re.fullmatch(r"HALRP, budget ([\d.]+)", name)
    if found is None:
        known = ", ".join(f'"{one}"' for one in EVERYONE)
        raise ValueError(f'There is no method "{name}"; choose from {known}, "HALRP, budget X".')
    return ours(growth_budget=float(found[1]))


@cache
def joint_is_known():
    """Return whether the package takes this value; parameters are checked before rows are."""
    try:
        ContinualClassifier(**JOINT).partial_fit(None, None)
    except InvalidParameterError:
        return False
    except (TypeError, ValueError):
        return True
    raise AssertionError


def possible(name):
    """Return a contestant by its name, if what it needs is there."""
    if name in LIBRARY and not importlib.util.find_spec("peft"):
        raise ValueError(f'"{name}" needs peft; benchmarks/README.md says how to install it.')
    if name in WITH_JOINT and not joint_is_known():
        raise ValueError(f'"{name}" needs a base from several tasks, which this version has not.')
    return EVERYONE[name]


def there(stream):
    """Return the names of all that can learn a stream, in the order of the tables."""
    tables = stream.encoded().tasks[0].train[0].ndim == 2
    groups = [CONTESTANTS, AS_IT_COMES if tables else {}, WITH_JOINT]
    groups += [PER_TASK if tables else {}, FOR_ALL if stream.alike and tables else {}, LIBRARY]
    found = []
    for name in [name for group in groups for name in group]:
        try:
            possible(name)
        except ValueError:
            continue
        if tables or "no net" not in name:
            found.append(name)
    return found


def contestants(stream, names=None):
    """Return those that are named, or all that can learn a stream and what they need is there.

    PackNet divides its weights evenly among the tasks, and the published HALRP its growth, so these
    two know how many will come. On a network without norms, whose they are is no setting.
    """
    chosen = {name: contestant(name) for name in names or there(stream)}
    if not parts(stream.network(n_classes=2))["norm"]:
        chosen = {name: without_norms(name, one) for name, one in chosen.items()}
    if "PackNet" in chosen:
        chosen["PackNet"] = replace(chosen["PackNet"], fixed={"share": 1 / len(stream.tasks)})
    if "SGD.partial_fit" in chosen:
        known = {"n_classes": stream.tasks[0].n_classes}
        chosen["SGD.partial_fit"] = replace(chosen["SGD.partial_fit"], fixed=known)
    if "HALRP, published" in chosen:
        chosen["HALRP, published"] = ours(**published_for(stream))
    return chosen


def without_norms(name, one):
    """Return a contestant that is tuned for a network without norms.

    >>> without_norms("EWC", CONTESTANTS["EWC"]).grid
    {'strength': [100, 300, 1000, 3000, 10000, 30000]}
    >>> without_norms("fine-tuning", CONTESTANTS["fine-tuning"]).grid
    {}
    """
    if "norm" not in one.grid:
        return one
    return replace(one, grid={"strength": STRENGTHS[name]} if name in STRENGTHS else {})


def published_for(stream):
    """Return the published settings of the paper's most similar experiment for a stream.

    They are those of the authors' scripts (github.com/lijiaqi/HALRP), whose bound on the growth
    holds for all tasks together. Ours is one for each task, so each gets an equal share of it.
    """
    n_tasks = max(len(stream.tasks), 2)
    name = stream.name.split(" ")[0]  # without what is said about its images
    if name not in PUBLISHED:
        return published_settings(n_tasks)
    growth, changes = PUBLISHED[name]
    return published_settings(n_tasks, growth) | changes
