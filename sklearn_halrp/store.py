"""A store on disk: for services with more tasks than one wants to read or write at once.

A store is one file, a SQLite database. It holds the base once and each task as a record of its
own, so that opening it, predicting one task, and learning one more cost the same whether it has ten
tasks or a hundred thousand. Several processes may use it at the same time. Nothing in it is
executed, whoever wrote it.
"""

import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skorch import NeuralNet
from torch.utils.data import Dataset

from sklearn_halrp._described import check_settings, described, rebuilt, undamaged
from sklearn_halrp._estimator import ContinualEstimator
from sklearn_halrp._faults import let_through
from sklearn_halrp._files import replacing
from sklearn_halrp._fingerprint import check_fingerprint, fingerprint
from sklearn_halrp._ids import check_known, check_task_id, default_task_id, ids_in
from sklearn_halrp._intake import dtype_of, without_ids
from sklearn_halrp._learned import Learned
from sklearn_halrp._network import Network, to_array
from sklearn_halrp._one_task import OneTask
from sklearn_halrp._packed import packed, unpacked
from sklearn_halrp._records import Reading, Records, Row, State, Writing
from sklearn_halrp._saved import check_format, learned_to_state, tasks_from_state
from sklearn_halrp._serving import Predictors
from sklearn_halrp._soundness import check_learned, check_task
from sklearn_halrp._targets import target_from_state
from sklearn_halrp._task import Task
from sklearn_halrp._turns import Turn
from sklearn_halrp._types import Target, TaskId
from sklearn_halrp.exceptions import UnknownTaskError

__all__ = ["Store"]


class Store:
    """A fitted estimator in a file that many processes share, read task by task.

    Opening reads the base. A task is read when it is asked for, and kept in memory while it is in
    use. What a store predicts is what the estimator would, to the last bit.

    Parameters
    ----------
    path : str or Path
        A file that `create` made. It belongs on a disk of the machine: on network file systems
        the locks of SQLite are not reliable.
    net : skorch.NeuralNetClassifier or skorch.NeuralNetRegressor, optional
        As the estimator had it: with the same module and arguments, since a file holds no code.
        It may be left out for the default network alone.
    importance : callable or str, optional
        As the estimator had it, where it was none of those that go by a name.
    cache_bytes : int, optional
        Bound on the networks that are kept ready, and again on the tasks that were read.
        None is that of the estimator.
    timeout : float, default=60
        Seconds to wait for another process that writes.
    **settings
        Parameters of the estimator, such as `growth_budget`, `class_weight`, `n_jobs` or `verbose`,
        by which this object is to learn. None of them is written to the file, and others are as
        the estimator had them. Those that the first task fixed, such as `base` and
        `random_state`, cannot be given.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If it is a setting that no estimator of this kind has.
    ValueError
        If a setting has a value that it cannot have, or is fixed.
        If it is no store, is damaged, is of a later version, or does not fit the net; if it needs a
        net or an importance that is not given.

    See Also
    --------
    sklearn_halrp.persistence : One file, read and written as a whole.

    Notes
    -----
    A store may be used by many threads, and after a fork. Pickled, it is its path, net and
    settings, and is opened again where it arrives.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_halrp import ContinualClassifier
    >>> from sklearn_halrp.store import Store
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = ContinualClassifier(random_state=0).fit(X[:200] / 16, y[:200], task_id="north")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Store.create(Path(folder) / "digits.halrp", clf) as store:
    ...         store = store.partial_fit(X[:200, ::-1] / 16, y[:200], task_id="south")
    ...         tasks = store.task_ids()
    ...         predicted = store.predict(X[:5] / 16, task_id="north")
    >>> tasks
    ['north', 'south']
    >>> bool((predicted == clf.predict(X[:5] / 16)).all())
    True
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        net: NeuralNet | None = None,
        *,
        importance: Callable[..., Any] | str | None = None,
        cache_bytes: int | None = None,
        timeout: float = 60.0,
        **settings: Any,
    ) -> None:
        _check_numbers(cache_bytes, timeout)
        self.path = Path(path).absolute()
        self._given = {"net": net, "importance": importance}
        self._settings: dict[str, Any] = {"cache_bytes": cache_bytes, "timeout": timeout}
        self._of_learning = settings
        self._records = Records(self.path, timeout)
        self._memory: _Memory | None = None
        self._told = False
        try:
            self._of([])
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        estimator: ContinualEstimator,
        *,
        cache_bytes: int | None = None,
        timeout: float = 60.0,
    ) -> Self:
        """Make a store of a fitted estimator, with all its tasks, and open it.

        Parameters
        ----------
        path : str or Path
            Where there is no file yet.
        estimator : ContinualClassifier or ContinualRegressor
            Fitted. It is not changed, and what it learns later does not come into the store.
        cache_bytes, timeout
            As for the store.

        Returns
        -------
        Store

        Raises
        ------
        FileExistsError
            If there is a file.
        TypeError
            If it is neither kind of estimator: a file holds no code of others.
        sklearn.exceptions.NotFittedError
            If no task has been learned.
        """
        _check_numbers(cache_bytes, timeout)
        about = described(estimator, "Store.create")
        learned = estimator._learned

        def write(writing: Writing) -> None:
            writing.put_base(_base_record(about, estimator, learned))
            network = learned.network
            writing.say(frozen=network.frozen, cleared=network.has_cleared_head)
            for task_id, task in network.tasks.items():
                writing.put(_row(network, task_id, task))

        Records.create(Path(path).absolute(), write)
        return cls(
            path,
            estimator.net,
            importance=None if isinstance(estimator.importance, str) else estimator.importance,
            cache_bytes=cache_bytes,
            timeout=timeout,
        )

    # --- what is there -----------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of tasks."""
        count: int = self._records.read(len)
        return count

    def __contains__(self, task_id: object) -> bool:
        """Whether a task of this id is known; of what can be no id, it is not."""
        try:
            task_id = check_task_id(task_id)
        except (TypeError, ValueError):
            self._records.check_open()
            return False
        known: bool = self._records.read(lambda reading: task_id in reading)
        return known

    def __iter__(self) -> Iterator[TaskId]:
        """Go through the ids in order of learning, without holding all of them.

        Tasks that come or go meanwhile may be among them or not.
        """
        place = -1
        while True:
            page = self._records.read(partial(Reading.after, place=place, limit=_PAGE))
            yield from (task_id for _, task_id in page)
            if len(page) < _PAGE:
                return
            place = page[-1][0]

    def task_ids(self) -> list[TaskId]:
        """Return the ids of all tasks, in order of learning, as of one moment."""
        names: list[TaskId] = self._records.read(list)
        return names

    @property
    def classes_(self) -> NDArray[Any]:
        """The labels of all tasks together, sorted; of a classifier only."""
        return self._of([], labels=True).classes_

    def __repr__(self) -> str:
        """Name the file."""
        return f"Store({str(self.path)!r})"

    # --- predicting --------------------------------------------------------------------

    def predict(
        self, X: ArrayLike | Dataset[Any], task_id: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Predict as the estimator does; read the tasks that are asked for, and no others.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
        task_id : int, str or array-like of shape (n_samples,), default=None
            One id for all rows, or one per row. It may be left out while only one task is known.

        Returns
        -------
        array of shape (n_samples,), or of a regressor (n_samples, n_outputs)

        Raises
        ------
        sklearn_halrp.exceptions.UnknownTaskError
            If an id was never learned, or is forgotten.
        sklearn_halrp.exceptions.MissingTaskError
            If several tasks are known and `task_id` is left out.
        ValueError
            If X does not fit, or the record of a task is damaged: the others still serve.
        """
        model, X, ids = self._asked(X, task_id, "predict")
        return model.predict(X, ids)

    def predict_proba(
        self, X: ArrayLike | Dataset[Any], task_id: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Predict the probability of every class, as a classifier does.

        Parameters
        ----------
        X, task_id
            As for `predict`.

        Returns
        -------
        array of shape (n_samples, n_classes), float32
            Columns are `classes_`, the labels of all tasks in the store; those of other tasks
            are 0. ``for_task(task_id).predict_proba(X)`` has those of one task alone.

        Raises
        ------
        ValueError
            As `predict`.
        """
        model, X, ids = self._asked(X, task_id, "predict_proba", labels=True)
        return model.predict_proba(X, ids)

    def for_task(self, task_id: TaskId | None = None) -> OneTask:
        """Return one task as a plain fitted estimator of scikit-learn's.

        Parameters
        ----------
        task_id : int or str, default=None
            It may be left out while only one task is known.

        Returns
        -------
        estimator
            As of `ContinualClassifier.for_task`. It stays as it is, whatever happens to the store.

        Raises
        ------
        sklearn_halrp.exceptions.UnknownTaskError
            If the task is not known.
        """
        task_id = self._records.read(lambda reading: default_task_id(task_id, reading, "for_task"))
        task_id = check_task_id(task_id)
        return self._of([task_id]).for_task(task_id)

    def estimator(self, task_ids: TaskId | Iterable[TaskId] | None = None) -> Any:
        """Return an estimator in memory, for all that a store does not do itself.

        Parameters
        ----------
        task_ids : int, str or list of these, default=None
            The tasks it is to have, at least one. None is all.

        Returns
        -------
        ContinualClassifier or ContinualRegressor
            What it learns and forgets does not come into the store.

        Raises
        ------
        sklearn_halrp.exceptions.UnknownTaskError
            If a task is not known.
        """
        names = None if task_ids is None else ids_in(task_ids)
        if names == []:
            raise ValueError("task_ids is empty, and an estimator has at least one task.")
        model = self._of(names)
        learned = replace(model._learned, predictors=Predictors())
        return model._as_it_is(task_column=self._task_column, _learned=learned)

    # --- learning and forgetting -------------------------------------------------------

    def partial_fit(
        self,
        X: ArrayLike | Dataset[Any],
        y: ArrayLike | None = None,
        task_id: ArrayLike | None = None,
        **more: Any,
    ) -> Self:
        """Learn a new task, or go on learning a known one, and write it down.

        It becomes what it would with the estimator, to the last bit, and all tasks of the call are
        written at once, when all is learned. Others may predict, learn and forget meanwhile. If
        another process changed one of these tasks meanwhile, they are learned again, on what is
        there now; so it is as if one had waited for the other.

        Parameters
        ----------
        X, y, task_id
            As for the ``partial_fit`` of the estimator.
        **more
            As there: ``sample_weight``, and of a classifier ``classes``.

        Returns
        -------
        self : Store

        Raises
        ------
        sklearn_halrp.exceptions.UnknownTaskError
            If a task was forgotten while it was learned: it does not come back by itself.
        TimeoutError
            If another process writes, or reads, for longer than the timeout.
        PermissionError
            If the file or its folder may not be written to; that is seen before anything is
            learned.
        ValueError, TypeError, sklearn_halrp.exceptions.TrainingDivergedError
            As there. Whatever goes wrong, the store is as it was.
        KeyboardInterrupt
            The store is as it was; or, if it came in the instant after the write, the tasks are
            learned. ``task_id in store`` tells for a new one.
        """
        self._records.check_writable()
        X, ids = without_ids(X, task_id, self._task_column)

        def look(reading: Reading) -> tuple[State, Any, dict[TaskId, int | None]]:
            named = default_task_id(ids, reading, "partial_fit")
            # The first task, and whether it is alone, decide what becomes of the base.
            names = ids_in(named) if reading.state.frozen else list(dict.fromkeys(reading))
            numbers = {name: reading.number_of(name) for name in (*names, *ids_in(named))}
            return reading.state, named, numbers

        while True:
            state, ids, numbers = self._records.read(look)
            model = self._of([name for name, number in numbers.items() if number is not None])
            before = model._learned
            if model.start == "transfer":
                raise ValueError(
                    "start='transfer' looks at all learned tasks, and a store reads none but those "
                    "that are asked for. Open it with Store(path, start='auto')."
                )
            model.partial_fit(X, y, ids, **more)
            if self._kept(model, before, state, numbers):
                return self

    def _kept(
        self, model: Any, before: Learned, state: State, numbers: dict[TaskId, int | None]
    ) -> bool:
        """Write what was learned, unless what it rests on is another now."""
        network, known = model._learned.network, before.tasks
        changed = {n: t for n, t in network.tasks.items() if t is not known.get(n)}
        rows = [_row(network, name, task) for name, task in changed.items()]
        new_base = network.base is not before.network.base
        if self._memory is not None:  # an earlier version shall say that it is one
            new_base |= (
                max((task.format for task in changed.values()), default=0) > self._memory.format
            )
        record = _base_record(self._about, model, model._learned) if new_base else b""

        def write(writing: Writing) -> bool:
            for name, number in numbers.items():
                now = writing.number_of(name)
                if number is not None and now is None:
                    raise UnknownTaskError(
                        f"Task {name!r} was forgotten while these rows were learned, and nothing "
                        "was kept of them. Call partial_fit again to learn it as a new task."
                    )
                if now != number:
                    return False
            found = writing.state
            if found.base != state.base or (new_base and found.frozen != state.frozen):
                return False
            for row in rows:
                writing.put(row)
            if new_base:
                writing.put_base(record)
            writing.say(frozen=found.frozen or network.frozen, cleared=found.cleared)
            return True

        written: bool = self._records.write(write)
        return written

    def forget_task(self, task_id: TaskId) -> Self:
        """Remove a task for good; see ``forget_task`` of the estimator.

        All that the file held of the task is overwritten: its numbers, its labels where no other
        task has them, its history, its id. Other processes that have it in memory drop it with
        their next call.

        Parameters
        ----------
        task_id : int or str

        Returns
        -------
        self : Store

        Raises
        ------
        sklearn_halrp.exceptions.UnknownTaskError
            If the task is not known.
        ValueError
            If it is the only one.
        TimeoutError
            If another process writes, or reads, for longer than the timeout.
        PermissionError
            If the file or its folder may not be written to.
        KeyboardInterrupt
            The task is there; or, if it came in the instant after the write, it is gone.
            ``task_id in store`` tells.
        """
        self._records.check_writable()
        task_id = check_task_id(task_id)
        while not self._forgotten(task_id):
            pass
        return self

    def _forgotten(self, task_id: TaskId) -> bool:
        """Remove a task, unless the base became another one meanwhile."""

        def look(reading: Reading) -> tuple[State, bool]:
            check_known([task_id], reading)
            cleared = reading.state.cleared or reading.others_on_base_head(task_id)
            return reading.state, not cleared

        state, to_clear = self._records.read(look)
        record = b""
        if to_clear:
            model = self._of([])
            learned = model._learned.with_network(model._learned.network.with_cleared_head())
            record = _base_record(self._about, model, learned)

        def write(writing: Writing) -> bool:
            check_known([task_id], writing)
            if writing.has_one:
                raise ValueError(
                    f"{task_id!r} is the only task, and a store has at least one. Learn another "
                    "first, or close the store and remove its file."
                )
            again = not writing.state.cleared and not writing.others_on_base_head(task_id)
            if writing.state.base != state.base or again != to_clear:
                return False
            writing.remove(task_id)
            if to_clear:
                writing.put_base(record)
            writing.say(frozen=True, cleared=state.cleared or to_clear)
            return True

        written: bool = self._records.write(write)
        return written

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write a copy of the whole store, as of one moment, while it is in use.

        Others go on reading meanwhile; who writes waits until the copy is done.

        Parameters
        ----------
        path : str or Path
            The copy, a store itself. A file that is there is replaced when all is written.

        Raises
        ------
        ValueError
            If it is the file of this store.
        OSError
            If it cannot be written: a file that is there stays.
        """
        if os.path.realpath(path) == os.path.realpath(self.path):
            raise ValueError(f"{path} is this store; a backup goes to another file.")
        with replacing(path) as file:
            self._records.copy(file.name)

    # --- opening and closing -----------------------------------------------------------

    def close(self) -> None:
        """Close the file for good; `Store` opens it again."""
        self._records.close()

    def __enter__(self) -> Self:
        """Close it at the end of the block."""
        self._records.check_open()
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return what opens the store again: where it is, and what was given with it."""
        return {"path": self.path, **self._given, **self._settings, **self._of_learning}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the store."""
        self.__init__(**state)  # type: ignore[misc]

    # --- reading -----------------------------------------------------------------------

    def _asked(
        self, X: Any, task_id: Any, method: str, labels: bool = False
    ) -> tuple[Any, Any, Any]:
        """Return an estimator with the tasks that are asked for, the rows, and their ids."""
        X, ids = without_ids(X, task_id, self._task_column)
        if ids is None:
            ids = self._records.read(
                lambda reading: default_task_id(None, reading, method, hint="")
            )
        return self._of(ids_in(ids), labels), X, ids

    @property
    def _about(self) -> dict[str, Any]:
        """What the file says of the estimator."""
        assert self._memory is not None  # since it was opened
        return self._memory.about

    @property
    def _task_column(self) -> int | str | None:
        column: int | str | None = self._about["parameters"]["task_column"]
        return column

    def _of(self, names: list[TaskId] | None, labels: bool = False) -> Any:
        """Return an estimator with these tasks, or all, as of one moment.

        Parameters
        ----------
        names : list of int or str, optional
        labels : bool
            Whether it is to know the labels of the other tasks too.
        """

        def look(reading: Reading) -> tuple[Any, ...]:
            memory = self._memory and self._memory.of(reading.state)
            base = b"" if memory else reading.base()
            numbers = _numbers(reading, list(reading) if names is None else names)
            sets = reading.label_sets() if labels else []
            held = {} if memory is None else memory.get([*numbers.values(), *sets])
            tasks = {n: reading.task(n, name) for name, n in numbers.items() if n not in held}
            shown = {n: reading.record(n) for n in sets if n not in held}
            return reading.state, memory, base, numbers, sets, held, tasks, shown

        state, memory, base, numbers, sets, held, tasks, shown = self._records.read(look)
        if memory is None:
            memory = self._new_memory(base, state)
        self._memory = memory
        for name, number in numbers.items():
            if number in tasks:
                held[number] = memory.keep(
                    number, self._task(name, tasks[number], memory.network), len(tasks[number])
                )
        for number, record in shown.items():
            held[number] = memory.keep(number, self._labels(record), len(record))
        return memory.model_with(
            {name: held[number] for name, number in numbers.items()},
            state.frozen,
            tuple(held[number] for number in sets),
        )

    def _new_memory(self, base: bytes, state: State) -> "_Memory":
        """Build the base from its record."""
        with undamaged(self.path):
            about = unpacked(base)
            number = about["learned"]["_network"]["format"]
            check_format(number, self.path)
            check_learned(about["learned"])
            check_settings(about)
            kept = about["learned"].pop("fingerprint")

        def check(learned: Learned, target: type[Target]) -> None:
            check_fingerprint(kept, _of_nobody(learned, target))

        model, others = rebuilt(about, self.path, **self._given, call="Store", check=check)
        _set(model, self._of_learning)
        if not self._told:
            self._told = True
            for text in others:
                warnings.warn(f"{self.path}: {text}", stacklevel=4)
        del about["learned"]
        return _Memory(about, model, state, self._settings["cache_bytes"], number)

    def _labels(self, record: bytes) -> Target:
        """Return what a prediction for other tasks shows of some, from its record."""
        try:
            target = target_from_state(unpacked(record))
            target.check()
            return target
        except Exception as error:  # as below
            let_through(error, answer=RecursionError)
            raise ValueError(f"A set of labels in {self.path} is damaged: {error}.") from error

    def _task(self, name: TaskId, record: bytes, network: Network) -> Task:
        """Return a task from its record."""
        try:
            ((found, task),) = tasks_from_state({"tasks": [unpacked(record)]}).items()
            if found != name:
                raise ValueError(f"it is that of task {found!r}")
            check_task(network, task)
        except Exception as error:  # whatever can be wrong with what somebody else wrote
            let_through(error, answer=RecursionError)
            raise ValueError(
                f"The record of task {name!r} in {self.path} is damaged: {error}. Other tasks are "
                "not concerned; forget_task removes this one."
            ) from error
        return task


class _Memory:
    """What of a store is in memory, as long as its base stays and no task is forgotten.

    Parameters
    ----------
    about : dict
        What the file says of the estimator, besides what was learned.
    model : ContinualEstimator
        Without tasks.
    state : State
    max_bytes : int, optional
        None is what the model says.
    number : int
        The format of the record of the base.
    """

    def __init__(
        self, about: dict[str, Any], model: Any, state: State, max_bytes: int | None, number: int
    ) -> None:
        self.about, self.model, self.state, self.format = about, model, state, number
        self.max_bytes = model.cache_bytes if max_bytes is None else max_bytes
        self._learned = replace(model._learned, predictors=Predictors())
        self._kept: OrderedDict[int, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._turn = Turn()

    @property
    def network(self) -> Network:
        """The base, without tasks."""
        return self._learned.network

    def of(self, state: State) -> "_Memory | None":
        """Return what may serve a store in this state: this, or one that holds the base alone."""
        if self.state.base != state.base:
            return None
        if self.state.forgotten == state.forgotten:
            return self
        return _Memory(self.about, self.model, state, self.max_bytes, self.format)

    def get(self, numbers: Iterable[int]) -> dict[int, Any]:
        """Return what was made of these records, as far as it is here."""
        with self._turn.taken():
            found = {number: self._kept[number][0] for number in numbers if number in self._kept}
            for number in found:
                self._kept.move_to_end(number)
        return found

    def keep(self, number: int, what: Any, size: int) -> Any:
        """Keep what was made of a record, and less of others where it is too much; return it."""
        with self._turn.taken():
            if number not in self._kept:
                self._bytes += size
            self._kept[number] = what, size
            while len(self._kept) > 1 and self._bytes > self.max_bytes:
                _, (_, size) = self._kept.popitem(last=False)
                self._bytes -= size
        return what

    def model_with(
        self, tasks: dict[TaskId, Task], frozen: bool, others: tuple[Target, ...]
    ) -> Any:
        """Return an estimator that has these tasks, and takes X without a column of ids."""
        network = replace(self._learned.network, tasks=tasks, frozen=frozen)
        learned = replace(self._learned, network=network, others=others)
        return self.model._as_it_is(_learned=learned, task_column=None, cache_bytes=self.max_bytes)


def _check_numbers(cache_bytes: Any, timeout: Any) -> None:
    if not isinstance(timeout, Real) or not 0 <= float(timeout) < float("inf"):
        raise ValueError(f"timeout must be a number of seconds, 0 or more; got {timeout!r}.")
    if cache_bytes is not None and (not isinstance(cache_bytes, Integral) or cache_bytes < 0):
        raise ValueError(f"cache_bytes must be None or an int, 0 or more; got {cache_bytes!r}.")


_FIXED = {"base", "joint_sampling", "head", "convolution", "dtype", "random_state", "task_column"}


def _set(estimator: Any, settings: dict[str, Any]) -> None:
    """Set parameters by which an estimator learns."""
    known = set(estimator.get_params(deep=False)) - {"net", "importance", "cache_bytes"}
    for name in settings:
        if name in _FIXED & known:
            raise ValueError(
                f"{name} is fixed for all tasks of a store. To change it, fit another estimator, "
                "and make another store of that."
            )
        if name.startswith("net__"):
            raise TypeError(
                f"{name} is a parameter of a net, which learns as it is when the store is opened: "
                f"Store(path, net=net.set_params({name.removeprefix('net__')}=...))."
            )
        if name not in known:
            raise TypeError(
                f"A store of a {type(estimator).__name__} has no setting {name!r}. It has "
                f"{', '.join(sorted(known - _FIXED))}."
            )
    estimator.set_params(**settings)
    estimator._validate_params()


def _numbers(reading: Reading, names: list[TaskId]) -> dict[TaskId, int]:
    """Return the numbers of the records of tasks, or refuse ids that are not known."""
    found = {name: reading.number_of(name) for name in names}
    check_known([name for name, number in found.items() if number is None], reading)
    return {name: number for name, number in found.items() if number is not None}


def _base_record(about: dict[str, Any], estimator: Any, learned: Learned) -> bytes:
    """Return what all tasks rest on: settings, and weights without tasks."""
    alone = learned.with_network(replace(learned.network, tasks={}))
    state = learned_to_state(alone, with_net=False)
    state["fingerprint"] = fingerprint(_of_nobody(learned, estimator._target), dtype_of(estimator))
    return packed({**about, "learned": state})


def _of_nobody(learned: Learned, target: type[Target]) -> Learned:
    """Return a record of one task, which is made up: the base with other weights in its head."""
    network, rng = learned.network, np.random.RandomState(0)
    own = {
        name: rng.standard_normal(tensor.shape).astype(to_array(tensor).dtype)
        for name, tensor in network.own_of_base().items()
        if name in network.in_head
    }
    task = Task.of(target.made_up(len(own[network.roles.head_weight])), own=own)
    return learned.with_network(replace(network, tasks={0: task}))


def _row(network: Network, task_id: TaskId, task: Task) -> Row:
    shown = task.target.shown_beside_others()
    return Row(
        task_id,
        packed({"id": task_id, **task.to_state()}),
        None if shown is None else packed(shown),
        network.uses_base_head(task),
    )


_PAGE = 1000  # ids that are read at once
