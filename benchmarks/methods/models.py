"""What a user of scikit-learn would take: a model for each task, or one for all."""

import pickle
import warnings

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from benchmarks.methods._method import Method

MODELS = {  # name -> the model, what is fixed of it, and whether it draws random numbers
    "LogisticRegression": (LogisticRegression, {"max_iter": 2000}, False),
    "SVC": (SVC, {}, False),
    "HistGradientBoosting": (HistGradientBoostingClassifier, {}, True),
    "ExtraTrees": (ExtraTreesClassifier, {"n_estimators": 200, "n_jobs": 1}, True),
    "MLPClassifier": (
        MLPClassifier,
        {"hidden_layer_sizes": (256, 256), "max_iter": 100, "early_stopping": False},
        True,
    ),
}


class Models(Method):
    """A model of scikit-learn for each task, from the rows to learn.

    Parameters
    ----------
    model : str
        One of `MODELS`; further settings are its own.
    """

    def __init__(self, network, training, seed, model, **settings):
        super().__init__(network, training, seed)
        self.tables = model == "HistGradientBoosting"
        self.kind, fixed, draws = MODELS[model]
        self.settings = {**fixed, **settings, **({"random_state": seed} if draws else {})}
        self.models = {}

    def learn(self, task):
        X, y = task.train
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # networks have a hundred epochs
            self.models[task.name] = self.kind(**self.settings).fit(flat(X), y)

    def model_of(self, name, X):
        """Return the model that knows a task, and its rows as the model takes them."""
        return self.models[name], flat(X)

    def predict(self, name, X):
        model, X = self.model_of(name, X)
        return model.predict(X)

    def ranked(self, name, X):
        model, X = self.model_of(name, X)
        known = hasattr(model, "predict_proba")
        return model.predict_proba(X)[:, 1] if known else model.decision_function(X)

    def n_bytes(self):
        """Return what they take in a pickle; of networks the weights alone."""
        nets = [one for one in self.models.values() if hasattr(one, "coefs_")]
        weights = sum(part.nbytes for one in nets for part in one.coefs_ + one.intercepts_)
        return weights if nets else len(pickle.dumps(self.models))

    def n_numbers(self):
        return self.n_bytes() // 4


class OneForAll(Models):
    """One HistGradientBoosting for all tasks, with the task as a category; it keeps all rows.

    Columns and classes have to mean the same in all tasks. It is fitted when all have come.
    """

    incremental = False

    def __init__(self, network, training, seed, **settings):
        super().__init__(network, training, seed, "HistGradientBoosting", **settings)
        self.settings["categorical_features"] = "from_dtype"
        self.rows = {}

    def learn(self, task):
        self.rows[task.name] = task.train

    def finish(self):
        X = pd.concat([self._with_name(name, X) for name, (X, _) in self.rows.items()])
        y = np.concatenate([y for _, y in self.rows.values()])
        self.models["all"] = self.kind(**self.settings).fit(X, y)

    def _with_name(self, name, X):
        task = pd.Categorical([name] * len(X), [*self.rows])
        return pd.DataFrame(X).assign(task=task).rename(columns=str)

    def model_of(self, name, X):
        return self.models["all"], self._with_name(name, X)

    def n_bytes(self):
        """Count the rows too, which the next task needs, at a byte a label."""
        return super().n_bytes() + sum(size_of(X) + len(y) for X, y in self.rows.values())


class OneLinear(Models):
    """One linear model for all tasks, which sees each row once (`SGDClassifier.partial_fit`).

    Columns and classes have to mean the same in all tasks.
    """

    def __init__(self, network, training, seed, n_classes=2, **settings):
        Method.__init__(self, network, training, seed)
        self.classes = np.arange(n_classes)
        self.models = {"all": SGDClassifier(loss="log_loss", random_state=seed, **settings)}

    def learn(self, task):
        X, y = task.train
        order = np.random.RandomState(self.seed).permutation(len(y))
        self.models["all"].partial_fit(flat(X)[order], y[order], self.classes)

    def model_of(self, name, X):
        return self.models["all"], flat(X)


def flat(X):
    """Return rows as scikit-learn takes them."""
    return X.reshape(len(X), -1) if isinstance(X, np.ndarray) else X


def size_of(X):
    """Return the bytes of an array, or of a table whose words are numbers of a list."""
    if isinstance(X, np.ndarray):
        return X.nbytes
    columns = (X[name] for name in X)
    return sum((c.cat.codes if hasattr(c, "cat") else c).to_numpy().nbytes for c in columns)
