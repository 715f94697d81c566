"""What an estimator has learned, as one record that is never changed."""

from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray
from skorch import NeuralNet

from sklearn_halrp._network import Network
from sklearn_halrp._serving import Predictors
from sklearn_halrp._tables import Categories
from sklearn_halrp._task import Task
from sklearn_halrp._types import Target, TaskId


@dataclass(frozen=True, eq=False)
class Columns:
    """What the rows look like that all tasks share.

    Attributes
    ----------
    n_features : int
        Size of the second axis of X.
    sample_shape : tuple of int
        Shape of one row.
    names : array of str, optional
        Of the columns, where X had any.
    categories : tuple, optional
        Of each column, where X was a table with categories; see `categories_in`.
    missing : bool
        Whether numbers may be missing, NaN.
    """

    n_features: int
    sample_shape: tuple[int, ...]
    names: NDArray[Any] | None = None
    categories: Categories | None = None
    missing: bool = False


@dataclass(frozen=True, eq=False)
class Learned:
    """All that learning has made of an estimator.

    A call that learns or forgets makes a new record and puts it in place by one assignment
    at its end; a call that reads takes the record once. So whatever goes wrong leaves the
    estimator as it was, and no reader sees half a change.

    Attributes
    ----------
    net : skorch.NeuralNet
        The recipe as it was when the first task was learned.
    network : Network
    seed : int
        Drawn from ``random_state``, once.
    columns : Columns
    predictors : Predictors
        Ready networks. They follow from the rest, and records share them.
    others : tuple of Classes or Numbers
        Targets of tasks that are known and not here: a store reads only those asked for.
    """

    net: NeuralNet
    network: Network
    seed: int
    columns: Columns
    predictors: Predictors = field(default_factory=Predictors)
    others: tuple[Target, ...] = ()

    @property
    def tasks(self) -> dict[TaskId, Task]:
        """The tasks by id, in order of learning."""
        return self.network.tasks

    def with_network(self, network: Network) -> "Learned":
        """Return a record of the same base with other tasks."""
        return replace(self, network=network)

    def only(self, task_id: TaskId) -> "Learned":
        """Return a record of one task, which shares the base and the ready networks."""
        network = replace(self.network, tasks={task_id: self.tasks[task_id]})
        return replace(self, network=network, others=())

    def without_task(self, task_id: TaskId) -> "Learned":
        """Return a record without a task.

        It has ready networks of its own: whoever holds an earlier record may ask for those of
        the task, which are not to come back here.
        """
        network = self.network.without_task(task_id)
        return replace(self, network=network, predictors=Predictors())

    @property
    def joined(self) -> Any:
        """What the targets of all tasks are together: the labels of a classifier."""
        known = vars(self)  # functools.cached_property has a lock, which a fork may leave closed
        if "joined_" not in known:
            targets = [*(task.target for task in self.tasks.values()), *self.others]
            known["joined_"] = type(targets[0]).joined(targets)
        return known["joined_"]

    def net_for(self, task_id: TaskId, max_bytes: int) -> NeuralNet:
        """Return an initialised skorch net that predicts a task."""
        return self.predictors.net(self.net, self.network, task_id, max_bytes)
