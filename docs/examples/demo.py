"""
One network for six tasks
=========================

Six tasks on handwritten digits arrive one after the other, with 2 to 10 labels each. One
convolutional network learns them all; it is compared with a network for each task and
with plain fine-tuning, saved, and asked again by another process.

Run it with ``make demo``.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
import numpy as np
import torch
from baselines import fine_tuning, n_numbers, separate_networks
from networks import SmallConvNet
from skorch import NeuralNetClassifier
from tasks import stream

from sklearn_halrp import ContinualClassifier
from sklearn_halrp.inspection import AccuracyMatrixDisplay, GrowthDisplay, RanksDisplay
from sklearn_halrp.metrics import average_accuracy, forgetting


def make_net():
    """Return the recipe that all methods share."""
    return NeuralNetClassifier(
        SmallConvNet,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=64,
        max_epochs=6,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )


def probabilities(clf, task):
    """Return the probabilities of the task's own classes for its test images."""
    columns = [clf.classes_.tolist().index(label) for label in task.classes.tolist()]
    return clf.predict_proba(task.test[0], task_id=task.name)[:, columns]


def accuracy(clf, task):
    """Return the accuracy on a task's test images."""
    X, y = task.test
    return clf.score(X, task.classes[y], task_id=task.name)


def learn(tasks, seed):
    """Learn task after task with one network, and say after each how all of them fare."""
    clf = ContinualClassifier(make_net(), growth_budget=0.1, random_state=seed)
    matrix, first = np.full((len(tasks), len(tasks)), np.nan), {}
    print(f"{'task':<24}{'labels':>7}{'accuracy':>10}{'growth':>9}{'bytes':>9}  ranks by layer")
    for i, task in enumerate(tasks):
        X, y = task.train
        clf.partial_fit(X, task.classes[y], task_id=task.name)
        matrix[i, : i + 1] = [accuracy(clf, seen) for seen in tasks[: i + 1]]
        first[task.name] = probabilities(clf, task)
        report = clf.report_[task.name]
        ranks = "/".join(str(rank) for rank in report["ranks"].values()) if i else "the base"
        print(
            f"{task.name:<24}{task.n_classes:>7}{matrix[i, i]:>10.1%}{report['growth']:>+9.1%}"
            f"{report['n_bytes'] if i else clf.n_bytes_:>+9,}  {ranks}"
        )
        if i:
            changed = sum(
                int(np.sum(probabilities(clf, seen) != first[seen.name])) for seen in tasks[:i]
            )
            earlier = " ".join(f"{value:.1%}" for value in matrix[i, :i])
            lost = forgetting(matrix[: i + 1, : i + 1])
            same = f"{changed} probabilities changed"
            print(f"    earlier tasks: {earlier}   forgetting {lost:.1%}, {same}")
    base = clf.n_bytes_ - sum(report["n_bytes"] for report in clf.report_.values())
    print(
        f"growth over the base in all: {sum(clf.growth_.values()):.1%} of its numbers, "
        f"{clf.n_bytes_ / base - 1:.1%} of its bytes"
    )
    return clf, matrix


def compare(clf, matrix, tasks, seed):
    """Print our accuracies beside those of separate networks and of fine-tuning."""
    torch.manual_seed(seed)
    single, nets = separate_networks(make_net(), tasks)
    torch.manual_seed(seed)
    tuned = fine_tuning(make_net(), tasks)
    ours = matrix[-1]
    print(f"\n{'accuracy at the end':<24}{'one model':>11}{'separate':>11}{'fine-tuned':>12}")
    for j, task in enumerate(tasks):
        print(f"{task.name:<24}{ours[j]:>11.1%}{single[j]:>11.1%}{tuned[-1, j]:>12.1%}")
    print(
        f"{'average':<24}{average_accuracy(matrix):>11.1%}{single.mean():>11.1%}"
        f"{average_accuracy(tuned):>12.1%}"
    )
    print(f"{'forgetting':<24}{forgetting(matrix):>11.1%}{0:>11.1%}{forgetting(tuned):>12.1%}")
    separate = sum(n_numbers(net) for net in nets)
    shared = n_numbers(nets[0]) + sum(
        sum(p.numel() for p in net.module_.head.parameters()) for net in nets[1:]
    )
    print(f"{'numbers stored':<24}{clf.n_numbers_:>11,}{separate:>11,}{shared:>12,}")
    return tuned, nets


def save_and_ask_again(clf, nets, tasks, out):
    """Save the model, and have a new process load it and check its predictions."""
    joblib.dump(clf, out / "model.joblib")
    joblib.dump([net.module_.state_dict() for net in nets], out / "separate.joblib")
    saved = {task.name: clf.predict_proba(task.test[0], task_id=task.name) for task in tasks}
    np.savez(out / "probabilities.npz", **saved)
    one, many = (os.path.getsize(out / f"{name}.joblib") for name in ("model", "separate"))
    print(f"\n{out / 'model.joblib'}: {one:,} bytes; weights of separate networks: {many:,}")
    here = Path(__file__).parent
    command = [sys.executable, here / "ask_again.py", out / "model.joblib"]
    # As many threads as here: sums of floats depend on it.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    subprocess.run([*command, out / "probabilities.npz"], check=True, env=environment)


def draw(clf, matrix, tuned, tasks, out):
    """Save the two pictures."""
    names = [task.name for task in tasks]
    figure, axes = plt.subplots(1, 2, figsize=(13, 6), layout="constrained")
    for ax, values, title in [
        (axes[0], matrix, "one model: nothing is forgotten"),
        (axes[1], tuned, "plain fine-tuning, for comparison"),
    ]:
        AccuracyMatrixDisplay(values, names).plot(ax=ax, colorbar=ax is axes[1])
        ax.set_title(title)
    figure.savefig(out / "accuracy.png", dpi=120)
    figure, axes = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    RanksDisplay.from_estimator(clf, ax=axes[0])
    GrowthDisplay.from_estimator(clf, ax=axes[1])
    figure.savefig(out / "growth.png", dpi=120)
    print(f"pictures: {out / 'accuracy.png'}, {out / 'growth.png'}")


def main():
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description="One network for six tasks.")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for what is made")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")
    begin = time.perf_counter()
    tasks = stream()
    clf, matrix = learn(tasks, options.seed)
    tuned, nets = compare(clf, matrix, tasks, options.seed)
    save_and_ask_again(clf, nets, tasks, options.out)
    draw(clf, matrix, tuned, tasks, options.out)
    print(f"done in {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
