"""Run a method on a stream, many of them in parallel, and write down what was seen."""

import json
import shlex
import sys
import time
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.metrics import roc_auc_score

from benchmarks.provenance import processor, revision, versions, without_places


def learn_stream(stream, method, every=True, part="test"):
    """Let a method learn a stream and return what was measured.

    Parameters
    ----------
    stream : benchmarks.streams.Stream
    method : callable
        ``method(stream.network)`` gives a `benchmarks.methods.Method`.
    every : bool
        Whether all earlier tasks are predicted after each task, or only once at the end.
    part : {"test", "valid"}

    Returns
    -------
    dict
        accuracy : the matrix, or AUC, in rows after each task; None for tasks to come
        seconds : processor time to learn each task
        predicting : processor time to predict the rows of all tasks in the end, one by one
        numbers, bytes : stored after each task, to predict all and to learn the next
        network : bytes of the bare network with the first task's head
    """
    learner = method(stream.network)
    if not learner.tables:
        stream = stream.encoded()
    measured = {"accuracy": [], "seconds": [], "predicting": 0.0, "numbers": [], "bytes": []}
    last = len(stream.tasks) - 1
    for i, task in enumerate(stream.tasks):
        begin = time.process_time()
        learner.learn(task)
        if i == last:
            learner.finish()
        measured["seconds"].append(round(time.process_time() - begin, 3))
        measured["numbers"].append(int(learner.n_numbers()))
        measured["bytes"].append(int(learner.n_bytes()))
        accuracy = [None] * (last + 1)
        shown = range(i + 1) if every or i == last else [i]
        for j in shown if learner.incremental or i == last else ():
            X, y = getattr(stream.tasks[j], part)
            begin = time.process_time()
            ask = learner.ranked if stream.score == "AUC" else learner.predict
            said = ask(stream.tasks[j].name, X)
            measured["predicting"] += (i == last) * (time.process_time() - begin)
            score = roc_auc_score(y, said) if stream.score == "AUC" else np.mean(said == y)
            accuracy[j] = round(float(score), 6)
        measured["accuracy"].append(accuracy)
    measured["predicting"] = round(measured["predicting"], 4)
    bare = stream.network(n_classes=stream.tasks[0].n_classes)
    return {**measured, "network": sum(4 * one.numel() for one in bare.state_dict().values())}


def summary(result):
    """Return what a run is judged by.

    Bytes are those stored in the end, growth is the same over one bare network, less 1, and
    seconds are for one task after the first; of all tasks together an equal share.
    """
    matrix = np.array(result["accuracy"], dtype=float)
    seconds = result["seconds"]
    together = np.isnan(matrix[0, 0]) and len(matrix) > 1
    return {
        "ACC": float(matrix[-1].mean()),
        "BWT": float((matrix[-1] - np.diag(matrix))[:-1].mean()) if len(matrix) > 1 else 0.0,
        "bytes": result["bytes"][-1],
        "growth": result["bytes"][-1] / result["network"] - 1,
        "seconds": float(np.mean(seconds) if together else np.median(seconds[1:] or seconds)),
    }


class Results:
    """A file of runs that grows: what is there already is not run again.

    Parameters
    ----------
    path : str or Path or None
        None keeps the runs in memory only.
    about : dict
        What holds for all runs, such as rows and epochs.
    words : sequence of str
        The command.
    also : dict, optional
        Versions of other libraries than those of `versions`.
    """

    def __init__(self, path, about, words, also=None):
        self.path = Path(path) if path else None
        self.content = {
            "command": shlex.join(["python", "-m", *without_places(words)]),
            "versions": {**versions(), **(also or {})},
            "about": about,
            "runs": [],
        }
        if self.path and self.path.exists():
            before = _read(self.path)
            if _command(before) != _command(self.content):
                raise SystemExit(
                    f"{self.path} holds runs of {_command(before)}, not of "
                    f"{_command(self.content)}. Write to another file."
                )
            for part in ("about", "versions"):
                if before[part] != self.content[part]:
                    raise SystemExit(
                        f"{self.path} holds runs with other settings: {before[part]} instead of "
                        f"{self.content[part]}. Write to another file, or delete it."
                    )
            self.content["runs"] = before["runs"]

    def find(self, key):
        """Return the run of this key, or None."""
        return next((run for run in self.content["runs"] if run["key"] == key), None)

    def complete(self, jobs, n_jobs):
        """Run what is missing, in processes of one thread, and return the runs of all keys.

        Jobs are (key, function, arguments); keys are dictionaries of plain values, and functions
        return one too. The file has them in this order in the end, whatever was there before; a run
        of the same key with other ``settings`` is gone then.
        """
        once = [job for i, job in enumerate(jobs) if job[0] not in [key for key, *_ in jobs[:i]]]
        missing = [job for job in once if self.find(job[0]) is None]
        code, on = (revision(), processor()) if missing else (None, None)
        parallel = Parallel(n_jobs=n_jobs, return_as="generator", batch_size=1)
        done = parallel(delayed(_with_one_thread)(*job) for job in missing)
        try:
            for count, (key, result) in enumerate(done, 1):
                self.content["runs"].append({"key": key, **result, "code": code, "on": on})
                self.save()
                named = json.dumps(_without_settings(key))
                print(f"{count}/{len(missing)} {named}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            kept = f"What was done is in {self.path}; the same command goes on from there."
            raise SystemExit(f"Stopped. {kept if self.path else 'Nothing was kept.'}") from None
        again = [_without_settings(key) for key, *_ in once]
        others = [r for r in self.content["runs"] if _without_settings(r["key"]) not in again]
        self.content["runs"] = others + [self.find(key) for key, *_ in once]
        self.save()
        return [self.find(key) for key, *_ in jobs]

    def save(self):
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            runs = ",\n  ".join(json.dumps(run) for run in self.content["runs"])
            head = {name: self.content[name] for name in ("command", "versions", "about")}
            text = json.dumps(head, indent=1)[:-2]
            half = self.path.with_suffix(".half")  # so that a stop never leaves half a file
            half.write_text(f'{text},\n "runs": [\n  {runs}\n ]\n}}\n')
            half.replace(self.path)


def _read(path):
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise SystemExit(f"{path} is not a file of results: {error}.") from None
    missing = {"command", "versions", "about", "runs"}
    missing -= content.keys() if isinstance(content, dict) else set()
    if missing:
        raise SystemExit(f"{path} is not a file of results: it lacks {', '.join(sorted(missing))}.")
    return content


def _command(content):
    return shlex.split(content["command"])[2]


def _with_one_thread(key, function, arguments):
    torch.set_num_threads(1)
    return key, function(*arguments)


def _without_settings(key):
    return {name: value for name, value in key.items() if name != "settings"}
