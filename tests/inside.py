"""The one way of the tests into what is private in the package; a test checks this.

When something private is moved or renamed, this file follows, and no test changes.
"""
# ruff: noqa: F401

from dataclasses import replace

from sklearn.base import clone

from sklearn_halrp import _convolution as convolution
from sklearn_halrp import _low_rank as low_rank
from sklearn_halrp import _records, _turns
from sklearn_halrp import _saved as saved
from sklearn_halrp import _visit as visit
from sklearn_halrp._averaging import keep_better
from sklearn_halrp._batches import drawn as drawn_batches
from sklearn_halrp._batches import sliced as sliced_batches
from sklearn_halrp._building import build_network
from sklearn_halrp._callbacks import FactorPenalty
from sklearn_halrp._choosing import PASSES, HeldOut, choose_factors
from sklearn_halrp._classes import Classes
from sklearn_halrp._coding import LEVELS, Coded
from sklearn_halrp._copies import copied
from sklearn_halrp._curvature import DAMPING, Curvatures, whitened_spectrum, whitened_split
from sklearn_halrp._datasets import labels_in
from sklearn_halrp._default_net import HoldOut, default_net, for_rows
from sklearn_halrp._encoding import Encoding, encoding_of, moved
from sklearn_halrp._faults import let_through
from sklearn_halrp._folding import begin, fold, measure, normed_layers
from sklearn_halrp._gradients import hessian_norm, mean_square_gradient, squared_mean_gradient
from sklearn_halrp._head import find_head, grow_head, with_head
from sklearn_halrp._ids import group_rows
from sklearn_halrp._importance import IMPORTANCES, Uniform
from sklearn_halrp._label_sets import positions_in
from sklearn_halrp._layer import Layer, Ranking
from sklearn_halrp._linear_head import Head, Seen, best_head
from sklearn_halrp._low_rank import FORMS, Factors, effective_weight, fit_scales, matrix_shape
from sklearn_halrp._modules import copy_with, get_tensor, named_tensors
from sklearn_halrp._numbers import Numbers
from sklearn_halrp._packed import packed, unpacked
from sklearn_halrp._partition import partition
from sklearn_halrp._plain import digest
from sklearn_halrp._predictive import add_up, chances, gauss_newton_loss, self_loss
from sklearn_halrp._pruning import MOST_PRUNED, Compact, cut_to_fit, prune
from sklearn_halrp._racing import SCALES
from sklearn_halrp._random import OwnDraws, seeded
from sklearn_halrp._rankings import rankings
from sklearn_halrp._ranks import choose_ranks, worthwhile_scales
from sklearn_halrp._records import PAGE, Reading, Records, Row, Writing, padded, without_padding
from sklearn_halrp._ridge import STRENGTHS, ridge
from sklearn_halrp._sample_weight import WithWeights
from sklearn_halrp._serving import Predictors, batch_size_of, outputs_of
from sklearn_halrp._several import SeveralModules, SeveralSets, turns
from sklearn_halrp._steps import Attending
from sklearn_halrp._storing import Budget, in_half
from sklearn_halrp._targets import target_from_state
from sklearn_halrp._task import StoredFactors, Task
from sklearn_halrp._training import around, losses, mean_loss, spread
from sklearn_halrp._visit import Settings
from sklearn_halrp._weight import PerturbedWeight


def network_of(clf):
    """The frozen base and the tasks of a fitted classifier."""
    return clf._learned.network


def task_of(clf, task_id):
    """What a classifier keeps of one task."""
    return network_of(clf).tasks[task_id]


def net_around(clf, module, **settings):
    """The classifier's net around a module, ready to be trained."""
    return around(clf.net, module, **settings)


def raw_arrays(task):
    """The arrays of a task as they are stored, by part and name."""
    return task._arrays(task._notes())


def model_of(one):
    """The model that knows one task, behind what `for_task` returns."""
    return one._model


def with_network(clf, network):
    """A copy of a fitted classifier that has another network."""
    other = clone(clf)
    other._learned = clf._learned.with_network(network)
    return other


def many_tasks(clf, task_id, n_tasks):
    """A copy of a fitted classifier that knows one task under many ids."""
    network = network_of(clf)
    task = network.tasks[task_id]
    return with_network(clf, replace(network, tasks=dict.fromkeys(range(n_tasks), task)))


def of_format(state, number):
    """The same state of a fitted classifier, with another number of its format."""
    return {**state, "_network": {**state["_network"], "format": number}}


def predictors_of(clf):
    """The merged networks that a classifier keeps ready."""
    return clf._learned.predictors


def turn_of_predictors(clf):
    """What a thread holds while it looks for a network that is ready."""
    return predictors_of(clf)._turn


def ready_nets(predictors):
    """The nets that are held now, by task."""
    return predictors._nets


def net_for(clf, task_id):
    """The net that predicts a task."""
    return clf._learned.net_for(task_id, clf.cache_bytes)


def turns_held():
    """How many locks of the package this thread would wait for."""
    held = 0
    for turn in list(_turns._turns):
        if turn._lock.acquire(blocking=False):
            turn._lock.release()
        else:
            held += 1
    return held


def around_a_fork():
    """What a process does with its stores before a fork, and after."""
    try:
        _records._before_fork()
    finally:
        _records._after_fork()


def is_connected(store):
    """Whether a store holds a connection to its file."""
    return store._records._readers.connection is not None


def records_of(store):
    """The file of a store, as records."""
    return store._records


def model_in(store):
    """The estimator without tasks that a store holds in memory."""
    return store._memory.model


def read_tasks(store):
    """What a store keeps in memory of the records that it read, by their numbers."""
    return dict(store._memory._kept)
