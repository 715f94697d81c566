"""Continual learning that feels like scikit-learn."""

from sklearn_halrp._classifier import ContinualClassifier
from sklearn_halrp._published import published_settings
from sklearn_halrp._regressor import ContinualRegressor
from sklearn_halrp._version import __version__

__all__ = ["ContinualClassifier", "ContinualRegressor", "__version__", "published_settings"]
