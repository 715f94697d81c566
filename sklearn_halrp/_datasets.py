"""What torch has in the place of X: tensors, and datasets, whose rows are read when needed."""

import numpy as np
import torch
from torch.utils.data import Dataset, Subset


def from_tensor(X):
    """Return a tensor as an array in main memory, and all else as it is."""
    if not isinstance(X, torch.Tensor):
        return X
    X = X.detach().cpu()
    return (X.float() if X.dtype is torch.bfloat16 else X).numpy()  # numpy has no bfloat16


class DatasetRows:
    """Gives a dataset the length, shape and indexing of an array.

    Parameters
    ----------
    dataset : Dataset
        Of pairs of a row and a label. All rows have the shape of the first.
    """

    nbytes = 0  # held in memory

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    @property
    def shape(self):
        """Number of rows, and shape of one."""
        return (len(self), *np.shape(self.dataset[0][0]))

    def __getitem__(self, rows):
        return DatasetRows(Subset(self.dataset, np.arange(len(self))[rows]))

    def __array__(self, dtype=None, copy=None):
        rows = np.stack([np.asarray(self.dataset[i][0]) for i in range(len(self))])
        return rows if dtype is None else rows.astype(dtype)

    def labelled(self, y):
        """Return a dataset of the same rows with these labels."""
        return _Labelled(self.dataset, y)


class _Labelled(Dataset):
    def __init__(self, dataset, y):
        self.dataset = dataset
        self.y = y

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, i):
        return self.dataset[i][0], self.y[i]


def given(X):
    """Return what a skorch net takes: an array, or the dataset behind the rows."""
    return X.dataset if isinstance(X, DatasetRows) else X


def labels_in(dataset):
    """Return the labels of a dataset.

    They are its attribute ``targets`` or ``y``, if that has an entry for each row; otherwise
    every row is read once.

    >>> labels_in([("a row", 3), ("another", 5)])
    array([3, 5])
    """
    if type(dataset) is Subset:
        return labels_in(dataset.dataset)[np.asarray(dataset.indices, dtype=np.int64)]
    for name in ("targets", "y"):
        labels = getattr(dataset, name, None)
        if labels is not None and np.shape(labels) == (len(dataset),):
            return np.asarray(labels)
    labels = [dataset[i][1] for i in range(len(dataset))]
    return np.array([label.item() if hasattr(label, "item") else label for label in labels])
