"""In a process of its own: load a saved model and compare its predictions with saved ones.

python ask_again.py MODEL.joblib PROBABILITIES.npz
"""

import sys

import joblib
import numpy as np
from tasks import stream

clf = joblib.load(sys.argv[1])
saved = np.load(sys.argv[2])
for task in stream():
    now = clf.predict_proba(task.test[0], task_id=task.name)
    if not np.array_equal(now, saved[task.name]):
        sys.exit(f"{task.name}: the predictions differ")
print(f"{len(clf.tasks_)} tasks loaded in a new process: predictions identical to the last bit")
