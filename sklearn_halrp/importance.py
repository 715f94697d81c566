"""How much each layer matters, and how its terms are ranked: the family, and what yours needs.

`ContinualClassifier` takes an importance by its name, as an object of a class below, which
may have settings, or any callable of your own,

    importance(layers, held_out) -> {name of the layer: a number, or a Ranking}

where ``layers`` is a dictionary of `Layer` and ``held_out`` a `HeldOut`. The guide has a page
on it, "Your own importance".
"""

from sklearn_halrp._choosing import HeldOut
from sklearn_halrp._importance import (
    Activation,
    Empirical,
    Fisher,
    Gradient,
    Hessian,
    Kfac,
    Uniform,
)
from sklearn_halrp._layer import Layer, Ranking

__all__ = [
    "Activation",
    "Empirical",
    "Fisher",
    "Gradient",
    "HeldOut",
    "Hessian",
    "Kfac",
    "Layer",
    "Ranking",
    "Uniform",
]
