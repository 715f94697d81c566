"""Weights of single rows, in every loss that a task is learned from."""

from functools import partial

from torch.utils.data import Dataset


class WithWeights(Dataset):
    """A dataset of which each row brings its weight along.

    Parameters
    ----------
    dataset : Dataset
        Of pairs of a row and a label.
    weights : array of shape (n_samples,)
    """

    def __init__(self, dataset, weights):
        self.dataset = dataset
        self.weights = weights

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, i):
        row, label = self.dataset[i]
        return with_weights(row, self.weights[i]), label


def with_weights(rows, weights):
    """Return rows and their weights as one input of a net."""
    return {"rows": rows, "sample_weight": weights}


def give_weights(net, weights):
    """Let the datasets that a net makes of this task's rows bring weights along."""
    net.get_dataset = lambda X, y=None: WithWeights(type(net).get_dataset(net, X, y), weights)


def heed_weights(net):
    """Let an initialised net compute with rows that bring weights along.

    Its loss is the mean of weight times loss of the row.

    Raises
    ------
    ValueError
        If its criterion cannot give the loss of each row.
    """
    if not hasattr(net.criterion_, "reduction"):
        raise ValueError(
            f"sample_weight needs the loss of every row, and {type(net.criterion_).__name__} has "
            "no attribute reduction that could be 'none'. Use a loss of torch.nn, or leave "
            "sample_weight out."
        )
    net.criterion_.reduction = "none"
    net.infer = partial(_infer, net)
    net.get_loss = partial(_loss, net)


def weights_in(net, x):
    """Return the weights that an input of this net brings along, or None."""
    return x["sample_weight"] if getattr(net.infer, "func", None) is _infer else None


def _infer(net, x, **parameters):
    return type(net).infer(net, x["rows"], **parameters)


def _loss(net, y_pred, y_true, *args, X=None, **parameters):
    losses = type(net).get_loss(net, y_pred, y_true, *args, X=X["rows"], **parameters)
    if losses.dim() > 1 and losses.shape == y_true.shape:  # one loss for each target of a row
        losses = losses.flatten(1).mean(1)
    if losses.shape != y_true.shape[:1]:
        raise ValueError(
            f"sample_weight needs the loss of every row: {type(net).__name__}.get_loss gives "
            f"shape {tuple(losses.shape)} for {len(y_true)} rows with reduction='none'."
        )
    return (losses * X["sample_weight"].to(losses)).mean()
