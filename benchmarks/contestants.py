"""Who is compared: every method, what of it is fixed, and what is tuned."""

from dataclasses import dataclass, field
from functools import partial

from benchmarks import methods
from benchmarks.running import settings_of
from sklearn_halrp import published_settings

BOTH = ["own", "shared"]
SCALES = {"scale": [1, 4, 16]}


@dataclass(frozen=True)
class Contestant:
    """A method with its settings.

    Attributes
    ----------
    method : class
    fixed : dict
    grid : dict
        Values to choose from on validation rows, at most six settings in all.
    """

    method: type
    fixed: dict = field(default_factory=dict)
    grid: dict = field(default_factory=dict)

    def settings(self):
        """Return the settings to choose from."""
        return [{**self.fixed, **chosen} for chosen in settings_of(self.grid)]

    def with_settings(self, training, seed, chosen):
        """Return a function of a network that gives the method."""
        return partial(self.method, training=training, seed=seed, **chosen)


CONTESTANTS = {
    "HALRP, defaults": Contestant(methods.HALRP),
    "HALRP, tuned": Contestant(methods.HALRP, grid={"factor_lr_scale": [1, 3, 10]}),
    "HALRP, budget 0.05": Contestant(methods.HALRP, {"growth_budget": 0.05}),
    "HALRP, budget 0.02": Contestant(methods.HALRP, {"growth_budget": 0.02}),
    "HALRP, published": Contestant(methods.HALRP, published_settings()),
    "separate networks": Contestant(methods.Separate),
    "copies of the first": Contestant(methods.Copies),
    "joint training": Contestant(methods.Joint),
    "fine-tuning": Contestant(methods.FineTuning, grid={"norm": BOTH}),
    "L2": Contestant(methods.L2, grid={"norm": BOTH, "strength": [0.01, 0.1, 1]}),
    "EWC": Contestant(methods.EWC, grid={"norm": BOTH, "strength": [10, 100, 1000]}),
    "LwF": Contestant(
        methods.LearningWithoutForgetting, grid={"strength": [0.1, 0.3, 1, 3, 10, 30]}
    ),
    "replay, 50 rows": Contestant(methods.Replay, {"memory": 50}, {"norm": BOTH}),
    "replay, 200 rows": Contestant(methods.Replay, {"memory": 200}, {"norm": BOTH}),
    "PackNet": Contestant(methods.PackNet, grid={"retrain": [0.2, 0.4, 0.6]}),
    "BatchEnsemble": Contestant(methods.BatchEnsemble),
    "LoRA, rank 1": Contestant(methods.LoRA, {"rank": 1}, SCALES),
    "LoRA, rank 4": Contestant(methods.LoRA, {"rank": 4}, SCALES),
    "LoRA, rank 16": Contestant(methods.LoRA, {"rank": 16}, SCALES),
}


def contestant(name):
    """Return who is called so; a budget in the name may be any.

    >>> contestant("HALRP, budget 0.007").fixed
    {'growth_budget': 0.007}
    """
    ours, _, budget = name.partition(" budget ")
    if ours == "HALRP," and name not in CONTESTANTS:
        return Contestant(methods.HALRP, {"growth_budget": float(budget)})
    return CONTESTANTS[name]


def contestants(n_tasks, names=None):
    """Return those that are named, or all that are listed, for a stream of so many tasks.

    PackNet divides its weights evenly among the tasks, and the published HALRP its growth of 0.6,
    so these two know how many will come.
    """
    chosen = {name: contestant(name) for name in names or CONTESTANTS}
    if "PackNet" in chosen:
        packnet = chosen["PackNet"]
        chosen["PackNet"] = Contestant(packnet.method, {"share": 1 / n_tasks}, packnet.grid)
    if "HALRP, published" in chosen:
        settings = published_settings(max(n_tasks, 2))
        chosen["HALRP, published"] = Contestant(methods.HALRP, settings)
    return chosen
