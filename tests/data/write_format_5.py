"""Wrote the files of format 5 in this folder, which every later version must read.

They were written with sklearn_halrp 0.1.0, and stay as they are. A new format gets a script and
files of its own.
"""

from pathlib import Path

import joblib
import numpy as np
import sklearn
import skorch
from sklearn.datasets import load_iris
from skorch import NeuralNetRegressor
from torch import manual_seed, nn

import sklearn_halrp
from sklearn_halrp import ContinualClassifier, ContinualRegressor
from sklearn_halrp._saved import FORMAT
from sklearn_halrp.persistence import save

if __name__ == "__main__":
    assert FORMAT == 5
    here = Path(__file__).parent
    iris = load_iris()
    X, species = iris.data / 8, iris.target_names[iris.target]
    clf = ContinualClassifier(random_state=0)  # the default network, and a task of each kind of id
    clf.partial_fit(X, species, task_id="species")
    clf.partial_fit(X[:, ::-1], iris.target % 2, task_id=2)
    joblib.dump(clf, here / "format_5.joblib")
    save(clf, here / "format_5.safetensors")
    np.savez(
        here / "format_5.npz",
        **{f"task {name}": clf.predict_proba(X, name) for name in clf.tasks_},
        written_with=[f"{p.__name__} {p.__version__}" for p in (sklearn_halrp, sklearn, skorch)],
    )
    # A module that is there as an instance, whose weights are in a joblib file only once.
    manual_seed(0)
    module = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)
    )
    net = NeuralNetRegressor(module, max_epochs=20, lr=0.1, train_split=None, verbose=0)
    reg = ContinualRegressor(net, base="pretrained", random_state=0)
    y = iris.data[:, 2:].astype(np.float32)
    reg.partial_fit(X, y, task_id="petal").partial_fit(X, y[:, :1], task_id=7)
    joblib.dump(reg, here / "format_5_instance.joblib")
    save(reg, here / "format_5_instance.safetensors")
    np.savez(
        here / "format_5_instance.npz",
        **{f"task {name}": reg.predict(X, name) for name in reg.tasks_},
    )
