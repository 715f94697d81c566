"""Writes format_5_encoded.*, whose default network has a head that does not see the columns.

It ran with commit 82e5ac4.
"""

import joblib
import numpy as np

from sklearn_halrp import ContinualClassifier
from sklearn_halrp.persistence import save

draw = np.random.RandomState(0)
X = draw.randn(400, 5).astype("f4")
y = (X[:, 0] > 0).astype(int)
clf = ContinualClassifier(random_state=0).partial_fit(X[:300], y[:300], task_id="a")
clf.partial_fit(X[300:360], y[300:360], task_id="b")
save(clf, "format_5_encoded.safetensors")
joblib.dump(clf, "format_5_encoded.joblib")
said = np.stack([clf.predict_proba(X[:20], task_id=task_id) for task_id in "ab"])
np.savez("format_5_encoded.npz", X=X[:20], y=y[:20], said=said)
