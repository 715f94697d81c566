"""
One model for many tables
=========================

Five customers send five tables. They differ in everything: columns, rows, labels. One model
serves them all, and each new customer leaves the earlier ones as they were.

The tables are real: three from `river <https://riverml.xyz>`_ and two from scikit-learn.
"""

import matplotlib.pyplot as plt
import numpy as np
from river import datasets
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from sklearn_halrp import ContinualClassifier

# %%
# All tasks share one network, so all rows must have one width. Each table gets a scaler of its
# own, and zeros in the columns that it lacks. Of long tables we take 2,000 rows.

WIDTH = 30


def from_river(name):
    """Return the features and labels of a table of river's, at most 2,000 rows."""
    rows = list(getattr(datasets, name)())
    if len(rows) > 2000:
        chosen = np.random.RandomState(0).permutation(len(rows))[:2000]
        rows = [rows[i] for i in chosen]
    X = np.array([list(features.values()) for features, _ in rows], dtype=float)
    return X, np.array([str(label) for _, label in rows])


def from_sklearn(load):
    """Return the features and the names of the labels of a table of scikit-learn's."""
    table = load()
    return table.data, table.target_names[table.target].astype(str)


def prepared(X, y):
    """Return training and test rows: scaled, and padded to the common width."""
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
    scaler = StandardScaler().fit(X)
    padding = ((0, 0), (0, WIDTH - X.shape[1]))
    X, X_test = (np.pad(scaler.transform(part), padding) for part in (X, X_test))
    return X, X_test, y, y_test


tables = {
    "segments": prepared(*from_river("ImageSegments")),
    "phishing": prepared(*from_river("Phishing")),
    "shuttle": prepared(*from_river("Shuttle")),
    "cancer": prepared(*from_sklearn(load_breast_cancer)),
    "wine": prepared(*from_sklearn(load_wine)),
}

# %%
# The customers arrive one after the other. The first, whose table has the most labels, trains
# the base. For each we note the predictions on its test rows, to look at them again later.

clf = ContinualClassifier(growth_budget=0.3, random_state=0)
then = {}
for name, (X, X_test, y, _) in tables.items():
    clf.partial_fit(X, y, task_id=name)
    then[name] = clf.predict_proba(X_test, task_id=name)[:, np.isin(clf.classes_, y)]

# %%
# Beside the model stand a network of its own for each customer, with the same settings, and a
# logistic regression for each.

scores = {"one model": [], "own network": [], "logistic regression": []}
own_numbers = 0
print(f"{'':<10}{'rows':>6}{'labels':>8}{'one model':>11}{'own':>8}{'logistic':>10}{'growth':>8}")
for name, (X, X_test, y, y_test) in tables.items():
    own = ContinualClassifier(random_state=0).fit(X, y, task_id=name)
    own_numbers += own.n_numbers_
    logistic = LogisticRegression(max_iter=1000).fit(X, y)
    found = (
        clf.score(X_test, y_test, task_id=name),
        own.score(X_test, y_test),
        logistic.score(X_test, y_test),
    )
    for values, score in zip(scores.values(), found, strict=True):
        values.append(score)
    print(
        f"{name:<10}{len(X):>6}{len(np.unique(y)):>8}"
        f"{found[0]:>11.1%}{found[1]:>8.1%}{found[2]:>10.1%}{clf.growth_[name]:>8.1%}"
    )
print(f"\nnumbers stored: one model {clf.n_numbers_:,}, own networks {own_numbers:,}")

figure, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
for i, (name, colour) in enumerate(zip(scores, ["#0868ac", "#7bccc4", "0.8"], strict=True)):
    ax.bar(np.arange(len(tables)) + 0.27 * (i - 1), scores[name], 0.25, label=name, color=colour)
ax.set_xticks(range(len(tables)), list(tables))
ax.set_ylim(0.8, 1.0)
ax.set_yticks([0.8, 0.85, 0.9, 0.95, 1.0])
ax.yaxis.set_major_formatter("{x:.0%}")
ax.set_title("accuracy on test rows (the axis begins at 80%)", loc="left", pad=26)
ax.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
ax.spines[["top", "right"]].set_visible(False)

# %%
# Where a table is small and has little in common with the base, a model of its own can be better:
# compare the columns. What the one model saves is the last line.
#
# Nothing moved. What the model says of the first customer's rows after the fifth customer is
# what it said before, to the last bit.

for name, (_, X_test, y, _) in tables.items():
    now = clf.predict_proba(X_test, task_id=name)[:, np.isin(clf.classes_, y)]
    print(f"{name:<10} identical: {np.array_equal(now, then[name])}")

# %%
# A call may mix customers: give one id for each row.

rows = np.concatenate([tables[name][1][:1] for name in tables])
print(clf.predict(rows, task_id=list(tables)))
