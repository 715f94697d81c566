"""Two tasks, each trained by several processes together. docs/guide/machines.md explains it.

torchrun --standalone --nproc-per-node 2 docs/examples/data_parallel.py [MODEL.joblib]
"""

import sys

import joblib
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from networks import DigitNet, SharedNet
from sklearn.datasets import load_digits

from sklearn_halrp import ContinualClassifier


def main():
    # Each process computes its part of every batch: 32 of 64 rows, where there are two.
    split = DataLoaderConfiguration(split_batches=True)
    accelerator = Accelerator(cpu=True, device_placement=False, dataloader_config=split)
    net = SharedNet(
        DigitNet,
        accelerator=accelerator,
        device="cpu",
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=2e-3,
        batch_size=64,
        max_epochs=8,
        iterator_train__shuffle=True,
        verbose=0,
    )
    clf = ContinualClassifier(net, random_state=0)
    X, y = load_digits(return_X_y=True)
    for task_id, pixels in {"upright": X / 16, "upside down": X[:, ::-1] / 16}.items():
        clf.partial_fit(pixels[:1200], y[:1200], task_id=task_id)
        accuracy = clf.score(pixels[1200:], y[1200:], task_id=task_id)
        accelerator.print(f"{task_id}: {accuracy:.1%}")
    if accelerator.is_main_process and len(sys.argv) > 1:
        joblib.dump(clf, sys.argv[1])
    accelerator.end_training()


if __name__ == "__main__":
    main()
