"""What the docstrings of all faces say in the same words: a parameter is described once."""

import inspect
from typing import TypeVar

Face = TypeVar("Face", bound=type)

METHOD = """\
The first task, or several together, train a network, the base. Every later task t
learns, for each linear or convolution weight W of the frozen base, a perturbation

``W_t = diag(r) W diag(s) + U V``

whose rank follows from Hessian information, layer by layer, and whose entries are
pruned to a budget. Biases, normalisation and the head belong to the task. Since
nothing of an earlier task is ever touched, its predictions stay the same to the
last bit.
"""

PARAMETERS = """\
base : {"first", "joint", "pretrained"}, default="first"
    Where the base comes from: trained on the first task; trained by all tasks of the first call
    together, which takes about twice the time, needs less growth, and depends on no order (see
    docs/guide/joint.md); or the weights that the module has when it is built. With a joint or
    pretrained base every task, the first too, is a perturbation. A first call with one task
    alone is the same with "joint" as with "first".
joint_sampling : float, default=0.5
    With ``base="joint"``: while the base is trained, a task of n rows gives batches in
    proportion to n to this power, in [0, 1]. With 1 all rows count alike, with 0 all tasks;
    between them large tasks leave turns to small ones.
head : str, default=None
    Name of the linear layer that gives the outputs, such as ``"last"`` or
    ``"fc.2"``. None finds it. Every task gets one of its own, with as many outputs
    as it needs.
start : {"auto", "warm-up", "head", "transfer"}, default="auto"
    What a new task begins from (see docs/guide/few.md):

    - ``"warm-up"``: the base, with a fresh head, as published;
    - ``"head"``: the base, and the task is a head alone: a logistic or ridge regression;
    - ``"transfer"``: the learned task, or the base, from which a head does best on the new rows.
      A task then depends on those that were learned before it;
    - ``"auto"``: the base. Of fewer than 500 rows a head alone is the task, where a warm-up and
      low-rank terms do no better on held-out rows; without a net fewer than 25 rows a class are
      always a head alone. The base's own head is begun from where it does better on the rows than
      to say how frequent labels are.

    The report says what was chosen. What is learned on goes on from itself.
warmup_epochs : int or float, default=0.4
    Epochs, out of ``max_epochs``, in which all weights of a new task are trained
    freely to see which change it needs. A float between 0 and 1 is a share of them,
    rounded, and at least one epoch. When there are not more epochs than that, all of
    them are warm-up and the perturbation is cut from it untrained. With 0 there is none, and
    the task has no low-rank terms: it trains scales, biases, norms and head. (Published:
    1 of 12 or 20, 3 of 12 or 20, and 20 to 25 of 50, by network and data.)
approximation_rate : float, default=0.9
    Share alpha of the total score that the chosen ranks keep, in (0, 1].
least_gain : float or "auto", default="auto"
    Terms are left out that together would take less off the held-out loss than this share of
    the loss of a network that says nothing, all its outputs being 0; so a layer, or a task, may
    have rank 0. It is measured after the warm-up. "auto" is 0.005 where ``base="joint"``, whose
    tasks need little change, and 0 elsewhere: there every layer gets one term at least.
max_rank : int, default=100
    Highest rank of a layer.
l1_penalty : float, default=1e-6
    lambda_1, on the magnitudes of U and V. Published: 1e-6 to 1e-4.
l2_penalty : float, default=1e-4
    lambda_2, on half the squares of r, s, U and V. Published: 1e-4 to 1e-3.
factor_lr_scale : "auto" or float, default="auto"
    Learning rate of U and V, over the net's. Where a task brings few steps of training,
    low-rank terms that begin small do not get far in them: 3 to 10 can help much there,
    and can do harm where the steps are many. ``"auto"`` tries 1, 3 and 10 for some steps
    each and takes the one with the least loss on held-out rows; the task's report has it.
average_last : float, default=0.3
    Share of the last batches over which weights are averaged, in [0, 1). The mean takes the
    place of the last weights, of the base and of a task, where the loss on held-out rows is
    then no higher. Only batches after the first epoch and after pruning count.
prune_threshold : float, default=1e-5
    Entries of U and V up to this magnitude are pruned.
growth_budget : float, default=0.6
    Most numbers that one task may store, as a share of the base's, in (0, 10]. Ranks are
    limited and the smallest entries of U and V pruned until the task fits.
    (Published: 0.2 to 0.6, but for all tasks together.)
retrain_epochs : int or float, default=0.5
    Epochs, out of those that follow the warm-up, that train what pruning to the budget
    has left. A float between 0 and 1 is a share of them, rounded, and at least one
    epoch. Where the budget asks for no pruning it changes nothing. Published: 0.
precision : {"full", "half", "int8", "nf4"}, default="int8"
    In how many bytes a task keeps its numbers once they are trained: r, s, U and V in as many as
    the network's weights have, or in two; or with ``"int8"`` all that a task keeps, head and
    biases too, in one byte, with a scale of two for 64 numbers (running statistics in two).
    Where rounding would move an array by more than 2 %, it takes two. With ``"nf4"`` U and
    V take half a byte, unless that would move them by more than 15 %. Training and
    predictions compute with the type of the weights either way, and `growth_budget` counts
    numbers. Source of the levels: Dettmers et al., "QLoRA", NeurIPS 2023, appendix E.
convolution : {"unfolded", "channel"}, default="unfolded"
    Whether U V spans the unfolded kernel of a convolution, or output and input
    channels and is added at each position of the kernel, as published. A term of
    the latter has fewer numbers; at the same growth the former is the more accurate
    where tasks have little in common.
importance : str or callable, default="fisher"
    How much the loss depends on each layer, estimated on held-out data after the warm-up:

    - ``"fisher"``: mean squared gradient, with the labels that the network itself predicts; of
      a regressor, with the curvature of its loss;
    - ``"empirical"``: the same with the labels of the data, as published; ``"fisher"`` is this
      too where outputs are no probabilities, or a loss has no curvature, as the absolute error;
    - ``"kfac"``: the Hessian in Kronecker form, by the second moments of each layer's inputs
      and of the gradients in its outputs, which weighs single directions;
    - ``"uniform"``: all layers alike;
    - ``"gradient"``: square of the mean gradient;
    - ``"activation"``: mean square of the layer's outputs, output by output;
    - ``"hessian"``: Frobenius norm of the layer's Hessian, the most expensive.

    Or an object of a class in `sklearn_halrp.importance`, or any function of your own:
    ``importance(layers, held_out)`` returns a number, or a
    `~sklearn_halrp.importance.Ranking`, for each layer. For pickles it must be importable.
measured_losses : {"none", "network", "layers"}, default="none"
    Whether `report` has, beside what cutting to the chosen ranks is predicted to add to the
    held-out loss, what it adds: for the network as a whole, or for each layer too, which can take
    as long as training where there are many.
task_column : int or str, default=None
    Column of X, by position or name, that holds the task ids. It never reaches
    the network. With it, ``task_id`` arguments are not needed.
dtype : str or numpy dtype, default="float32"
    Type that X is converted to before it goes to the network that is given:
    ``"int64"`` if it begins with an embedding. The default network takes float32. It stays what
    it was when the first task was learned.
random_state : int, RandomState instance or None, default=None
    An int makes learning reproducible. What becomes of a task depends on it, on the
    base, the task's data and its id, and on no other task.
n_jobs : int, default=None
    Processes that learn the tasks of one call in parallel, once the base is trained;
    with another joblib backend, such as dask, machines (see docs/machines.md). The
    result is the same. Each process uses as many threads as this one, so call
    ``torch.set_num_threads(1)`` before using as many processes as there are cores.
cache_bytes : int, default=268435456
    Most memory for networks that are kept ready to predict, besides the base. Those
    of the tasks asked last are kept.
verbose : int, default=0
    Whether to show a progress bar for each task. Independent of the net's own
    ``verbose``.
"""

ATTRIBUTES = """\
net_ : skorch.NeuralNet
    The recipe as it was when the first task was learned. It builds the module anew in
    another process, and its settings hold for predictions; settings of `net` that
    are changed later hold for later training. Its module and that module's arguments stay.
tasks_ : list of task ids
    In the order they were first learned; the base was trained on the first, or jointly.
ranks_ : dict of task id to dict of str to int
    Ranks after pruning by weight; of a task that alone trained the base all are 0.
growth_ : dict of task id to float
    Numbers that each task stores besides the base, over the base's. The sum of the
    values is the growth of the whole model.
history_ : dict of task id to list of dict
    One dictionary per epoch: visit, phase, epoch, losses, accuracy, seconds; to five
    digits.
report_ : dict of task id to dict
    What was found while learning each task, to five digits; see `report` for a table.
n_numbers_ : int
    Numbers that base and tasks store together; pruned entries are not stored.
n_bytes_ : int
    The same in bytes, including one bit per entry of a pruned factor.
n_features_in_ : int
    Size of the second axis of X.
feature_names_in_ : array of shape (n_features_in_,)
    Names of the columns, where X had any.
sample_shape_ : tuple of int
    Shape of one row of X.
"""

REFERENCES = """\
Li, Lai, Wang, Shui, Sahoo, Ling, Yang, Wang, Gagné, Zhou, "Hessian Aware Low-Rank
Perturbation for Order-Robust Continual Learning", IEEE TKDE 36(11), 2024,
arXiv:2311.15161. `published_settings` has its settings.
"""


def documented(face: Face) -> Face:
    """Put the shared texts into the docstring of a face, where their names stand in brackets.

    >>> @documented
    ... class Face:
    ...     '''Learns.
    ...
    ...     References
    ...     ----------
    ...     <references>
    ...     '''
    >>> "arXiv:2311.15161" in Face.__doc__
    True
    """
    text = inspect.cleandoc(face.__doc__)  # type: ignore[arg-type] # it has one
    for name, shared in _TEXTS.items():
        text = text.replace(f"<{name}>", shared.rstrip())
    face.__doc__ = text
    return face


def named_by_method(cls: Face) -> Face:
    """Let the errors of a base class that is private begin with the method alone.

    >>> @named_by_method
    ... class Private:
    ...     def learn(self): ...
    >>> Private().learn(1)
    Traceback (most recent call last):
    TypeError: learn() takes 1 positional argument but 2 were given
    """
    for name, method in vars(cls).items():
        if inspect.isfunction(method):
            method.__qualname__ = name
    return cls


_TEXTS = {
    "method": METHOD,
    "parameters": PARAMETERS,
    "attributes": ATTRIBUTES,
    "references": REFERENCES,
}
