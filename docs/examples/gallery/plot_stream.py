"""
A stream of tasks, beside fine-tuning
=====================================

Tasks arrive one at a time, and their data do not stay. Fine-tuning trains one network on
whatever arrives: it forgets. Here is how much, and what ``partial_fit`` does instead.

The five tasks are the real 8 by 8 digits of scikit-learn, with the pixels in another order for
each task: a common test, since what one task needs of the first layer is useless to the next.
"""

import copy

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from torch import nn

from sklearn_halrp import ContinualClassifier
from sklearn_halrp.inspection import AccuracyMatrixDisplay
from sklearn_halrp.metrics import average_accuracy, forgetting

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
orders = [np.random.RandomState(seed).permutation(64) for seed in range(5)]
train, test = slice(None, 1200), slice(1200, None)


class Network(nn.Module):
    """A hidden part that tasks share, and a head."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        """Return logits."""
        return self.head(self.hidden(x))


net = NeuralNetClassifier(
    Network,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=2e-3,
    batch_size=32,
    max_epochs=20,
    iterator_train__shuffle=True,
    train_split=None,
    verbose=0,
)

# %%
# ``partial_fit`` with a new id learns a new task.

clf = ContinualClassifier(net, random_state=0)
ours = np.full((5, 5), np.nan)
for i, order in enumerate(orders):
    clf.partial_fit(X[train][:, order], y[train], task_id=i)
    for j in range(i + 1):
        ours[i, j] = clf.score(X[test][:, orders[j]], y[test], task_id=j)

# %%
# Fine-tuning, in its kindest form: the same network goes on from task to task, and each task
# keeps a head of its own, as above.

torch.manual_seed(0)
tuned, heads = np.full((5, 5), np.nan), []
learner = copy.deepcopy(net).initialize()
for i, order in enumerate(orders):
    learner.module_.head = nn.Linear(128, 10)
    learner.initialize_optimizer()
    learner.partial_fit(X[train][:, order], y[train])
    heads.append(copy.deepcopy(learner.module_.head))
    for j in range(i + 1):
        learner.module_.head = heads[j]
        tuned[i, j] = np.mean(learner.predict(X[test][:, orders[j]]) == y[test])

# %%
# Read the columns downwards.

figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
AccuracyMatrixDisplay(ours).plot(ax=axes[0], colorbar=False)
AccuracyMatrixDisplay(tuned).plot(ax=axes[1])
axes[0].set_title("ContinualClassifier")
axes[1].set_title("fine-tuning")

for name, matrix in {"ContinualClassifier": ours, "fine-tuning": tuned}.items():
    average, lost = average_accuracy(matrix), forgetting(matrix)
    print(f"{name:<20} average accuracy {average:.1%}, forgetting {100 * lost:.1f} points")

# %%
# It is not free: each task adds to the network. Pixels in another order have little in
# common with the base, so each task needs high ranks; tasks that are more alike need less.

print({task: f"{growth:.0%}" for task, growth in clf.growth_.items()})

# %%
# More data of a known task
# -------------------------
#
# ``partial_fit`` with a known id goes on with that task alone. It sees only the rows that are
# given, so some of the older ones are given again. New labels get outputs of their own.

few = y[train] < 7
clf.partial_fit(X[train][few][:, ::-1], y[train][few], task_id="mirrored")
print("labels:", clf.task_classes_["mirrored"])
again = np.random.RandomState(0).permutation(np.flatnonzero(few))[:400]
rows = np.concatenate([again, np.flatnonzero(~few)])
clf.partial_fit(X[train][rows][:, ::-1], y[train][rows], task_id="mirrored")
print("labels:", clf.task_classes_["mirrored"])
print(f"accuracy on all ten: {clf.score(X[test][:, ::-1], y[test], task_id='mirrored'):.1%}")
print(f"task 0 as before: {clf.score(X[test][:, orders[0]], y[test], task_id=0) == ours[0, 0]}")
