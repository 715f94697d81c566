"""Wrote the files of format 6 in this folder, which every later version must read.

They were written with sklearn_halrp 0.1.0, and stay as they are. A new format gets a script and
files of its own.
"""

from pathlib import Path

import joblib
import numpy as np
import sklearn
import skorch
from sklearn.datasets import load_iris

import sklearn_halrp
from sklearn_halrp import ContinualClassifier
from sklearn_halrp._saved import FORMAT
from sklearn_halrp.persistence import save

if __name__ == "__main__":
    assert FORMAT == 6
    here = Path(__file__).parent
    iris = load_iris()
    X, species = iris.data / 8, iris.target_names[iris.target]
    # Numbers of four bits, and a task of each kind of id.
    clf = ContinualClassifier(random_state=0, precision="nf4")
    clf.partial_fit(X, species, task_id="species")
    clf.partial_fit(X[:, ::-1], iris.target % 2, task_id=2)
    joblib.dump(clf, here / "format_6.joblib")
    save(clf, here / "format_6.safetensors")
    np.savez(
        here / "format_6.npz",
        **{f"task {name}": clf.predict_proba(X, name) for name in clf.tasks_},
        written_with=[f"{p.__name__} {p.__version__}" for p in (sklearn_halrp, sklearn, skorch)],
    )
