"""
How the ranks are chosen
========================

A new task is first learned freely, for a few epochs. What this changed in a layer, beyond
scaling its rows and columns, has a spectrum of singular values. It falls steeply: a few terms
hold most of the change. The method keeps the terms that matter most, over all layers together.

This example looks at these spectra, and at what the cut costs.
"""

import copy

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from sklearn_halrp import ContinualClassifier
from sklearn_halrp.inspection import SpectrumDisplay

X, y = load_digits(return_X_y=True)
X = X / 16
train, test = slice(None, 1200), slice(1200, None)


base = ContinualClassifier(random_state=0).partial_fit(X[train], y[train], task_id="digits")


def with_second_task(**settings):
    """Return a copy that has learned the same digits upside down and inverted as well."""
    clf = copy.deepcopy(base).set_params(**settings)
    return clf.partial_fit(1 - X[train, ::-1], y[train], task_id="inverted")


clf = with_second_task()

# %%
# The spectrum of each layer, and its cut
# ---------------------------------------
#
# ``report_`` holds, for each layer, the largest singular values and the rank that was chosen. The
# default network has two hidden layers; the head is not among them, since each task has its own.

SpectrumDisplay.from_estimator(clf, "inverted")

# %%
# The terms up to the dot are kept. How much of the change, as a share of its squares, is that?

for name, layer in clf.report_["inverted"]["layers"].items():
    print(f"{name:<20}rank {layer['rank']:>3}: {layer['kept']:.0%} kept")

# %%
# What the cut costs
# ------------------
#
# The smaller the share ``approximation_rate`` of the total score that is kept, the lower the
# ranks, and the smaller the task. Training goes on after the cut, and makes good part of what it
# gave up. The base is the same for all rates, so a copy of it is enough. This is one seed:
# a point of accuracy more or less says little.

rates = [0.1, 0.5, 0.7, 0.9, 0.97]
growth, accuracy = [], []
for rate in rates:
    clf = with_second_task(approximation_rate=rate)
    growth.append(clf.growth_["inverted"])
    accuracy.append(clf.score(1 - X[test, ::-1], y[test], task_id="inverted"))
    print(f"rate {rate:.2f}: ranks {list(clf.ranks_['inverted'].values())}")

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for ax, values, title in [
    (axes[0], growth, "growth of the task over the base"),
    (axes[1], accuracy, "accuracy on the task"),
]:
    ax.plot(rates, values, "o-", color="#0868ac")
    ax.set_title(title, loc="left")
    ax.set_xlabel("approximation_rate")
    ax.yaxis.set_major_formatter("{x:.1%}")
    ax.grid(color="0.9")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylim(bottom=0)
