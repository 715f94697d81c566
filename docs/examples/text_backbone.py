"""
A pretrained backbone: text of several customers
================================================

Each customer has texts of its own and labels of its own, and few of them. A pretrained
sentence encoder is the base that all of them share: with ``base="pretrained"`` its own weights
are frozen, and every customer, the first too, is a perturbation of them.

The customers here are software libraries, and the question is which part of a library a
sentence of its documentation describes. Beside the one model stand a linear classifier on the
encoder's fixed outputs, and a fully fine-tuned encoder for each customer.

    pip install "sklearn-halrp[text]"
    python docs/examples/text_backbone.py
"""

import importlib
import inspect
import time

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from text_networks import FOLDER, SentenceClassifier
from transformers import AutoTokenizer, logging

from sklearn_halrp import ContinualClassifier

PARTS = {
    "scikit-learn": "sklearn: cluster decomposition ensemble linear_model metrics preprocessing",
    "scipy": "scipy: linalg ndimage optimize signal special stats",
    "numpy": "numpy: fft linalg ma polynomial random strings",
    "torch": "torch: distributions linalg nn optim sparse",
}


def sentences(library):
    """Return what the documentation says of every public object, and its part."""
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


def tokens(texts):
    """Return token numbers of shape (n_texts, 32)."""
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    return np.array(
        tokenizer(texts, padding="max_length", truncation=True, max_length=32).input_ids
    )


def recipe(module, epochs, lr):
    """Return the net that all sides train with."""
    return NeuralNetClassifier(
        module,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=lr,
        batch_size=16,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )


def embeddings(X):
    """Return what the untouched encoder makes of the texts."""
    module = SentenceClassifier().eval()
    with torch.no_grad():
        return torch.cat([module.embed(part) for part in torch.from_numpy(X).split(64)]).numpy()


def main():
    """Learn all customers with one model, and compare."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(0)
    clf = ContinualClassifier(
        recipe(SentenceClassifier, epochs=5, lr=2e-4),
        base="pretrained",
        growth_budget=0.02,
        dtype="int64",
        random_state=0,
    )
    names = ("texts", "labels", "one model", "linear", "own copy", "growth")
    print(" " * 14 + "".join(f"{name:>10}" for name in names))
    n_numbers = sum(p.numel() for p in SentenceClassifier().parameters())
    data = {}
    for library in PARTS:
        texts, y = sentences(library)
        X, X_test, y, y_test = train_test_split(
            tokens(texts), y, train_size=160, test_size=60, stratify=y, random_state=0
        )
        data[library] = X_test, y_test
        clf.partial_fit(X, y, task_id=library)
        linear = LogisticRegression(max_iter=2000).fit(embeddings(X), y)
        labels, places = np.unique(y, return_inverse=True)
        own = recipe(SentenceClassifier, 5, 2e-4).set_params(module__n_classes=len(labels))
        own.fit(X, places)
        scores = [
            clf.score(X_test, y_test, task_id=library),
            linear.score(embeddings(X_test), y_test),
            float(np.mean(labels[own.predict(X_test)] == y_test)),
        ]
        print(
            f"{library:<14}{len(X):>10}{len(labels):>10}"
            + "".join(f"{score:>10.1%}" for score in (*scores, clf.growth_[library])),
            flush=True,
        )
    print(f"numbers stored: one model {clf.n_numbers_:,}, own copies {len(PARTS) * n_numbers:,}")
    first, (X_test, y_test) = next(iter(data.items()))
    print(f"{first} after all others: {clf.score(X_test, y_test, task_id=first):.1%}")


if __name__ == "__main__":
    begin = time.perf_counter()
    main()
    print(f"{time.perf_counter() - begin:.0f} s")
