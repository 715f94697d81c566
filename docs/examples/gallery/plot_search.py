"""
Grid search in a pipeline
=========================

When the task id is a column of X, scikit-learn's tools need to know nothing of tasks:
pipelines, searches and cross-validation work as they are. Only the scaler must leave that
column alone.

The data are scikit-learn's 8 by 8 digits at three sites. One scans them as they are, one upside
down and inverted, and one shuffles its pixels; so the sites are made, the digits are real.
"""

import matplotlib.pyplot as plt
import numpy as np
import optuna
import pandas as pd
from optuna_integration import OptunaSearchCV
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from sklearn_halrp import ContinualClassifier
from sklearn_halrp.model_selection import TaskStratifiedKFold, task_report

X, y = load_digits(return_X_y=True, as_frame=True)
pixels = list(X.columns)
shuffled = X[np.random.RandomState(0).permutation(pixels)].to_numpy()
sites = {"Leeds": X.to_numpy(), "York": 16 - X.to_numpy()[:, ::-1], "Hull": shuffled}
frame = pd.concat(
    [pd.DataFrame(rows, columns=pixels).assign(site=site) for site, rows in sites.items()],
    ignore_index=True,
)
y = pd.concat([y] * 3, ignore_index=True)

# %%
# Every site shall be in the training and in the test rows, with all its labels. So the rows are
# split by site and label together.

site_and_label = frame["site"] + " " + y.astype(str)
train, test = train_test_split(
    np.arange(len(y)), train_size=1500, stratify=site_and_label, random_state=0
)
train = np.sort(train)  # Leeds comes first, so that it trains the base, in every fold too

# %%
# The scaler takes the pixels, and the id passes through. The pandas output keeps its name.

scaler = make_column_transformer(
    (MinMaxScaler(), pixels), remainder="passthrough", verbose_feature_names_out=False
).set_output(transform="pandas")
model = make_pipeline(scaler, ContinualClassifier(task_column="site", random_state=0))

# %%
# How much may a task store, and how much of the change it wants shall its ranks keep?
# These folds hold every site, with all its labels.

search = GridSearchCV(
    model,
    {
        "continualclassifier__growth_budget": [0.12, 0.3],
        "continualclassifier__approximation_rate": [0.5, 0.9],
    },
    cv=TaskStratifiedKFold(2, random_state=0, task_column="site"),
)
search.fit(frame.iloc[train], y.iloc[train])

# %%
# The mean accuracy over the folds, with its standard deviation.

figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
found = pd.DataFrame(search.cv_results_)
for rate, rows in found.groupby("param_continualclassifier__approximation_rate"):
    ax.errorbar(
        rows["param_continualclassifier__growth_budget"],
        rows["mean_test_score"],
        rows["std_test_score"],
        fmt="o-",
        capsize=3,
        label=f"approximation_rate={rate}",
    )
ax.set_xlabel("growth_budget")
ax.set_title("accuracy over all sites", loc="left")
ax.yaxis.set_major_formatter("{x:.1%}")
ax.grid(color="0.9")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)

# %%
# The best model is an ordinary pipeline. Its score is over all sites; the report tells them apart,
# and what each of them costs.

print({key.split("__")[1]: value for key, value in search.best_params_.items()})
print(f"all sites: {search.score(frame.iloc[test], y.iloc[test]):.1%}\n")
print(task_report(search.best_estimator_, frame.iloc[test], y.iloc[test]))

# %%
# A search that chooses its own trials
# ------------------------------------
#
# Optuna's `OptunaSearchCV <https://optuna-integration.readthedocs.io>`_ takes the same pipeline
# and the same folds, and looks where the trials before were good. On several machines, run any of
# these searches on dask: see :doc:`many tasks, many machines </guide/machines>`.

optuna.logging.set_verbosity(optuna.logging.ERROR)
trials = OptunaSearchCV(
    model,
    {
        "continualclassifier__growth_budget": optuna.distributions.FloatDistribution(0.1, 0.4),
        "continualclassifier__max_rank": optuna.distributions.IntDistribution(2, 40, log=True),
    },
    cv=TaskStratifiedKFold(2, random_state=0, task_column="site"),
    n_trials=4,
    random_state=0,
)
trials.fit(frame.iloc[train], y.iloc[train])
print({key.split("__")[1]: round(value, 2) for key, value in trials.best_params_.items()})
print(f"all sites: {trials.score(frame.iloc[test], y.iloc[test]):.1%}")
