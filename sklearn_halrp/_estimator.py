"""What every face has in common: learning, forgetting, and what was learned."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet
from torch.nn import Module

from sklearn_halrp import _report
from sklearn_halrp._building import build_network
from sklearn_halrp._checks import changed_arguments, check_net
from sklearn_halrp._choosing import MEASURED
from sklearn_halrp._datasets import given
from sklearn_halrp._default_net import fit_encoding, sizes_for
from sklearn_halrp._documented import named_by_method
from sklearn_halrp._heads import STARTS
from sklearn_halrp._ids import check_known, check_task_id, default_task_id, group_rows
from sklearn_halrp._importance import IMPORTANCES, check_importance
from sklearn_halrp._intake import Intake, dtype_of, rows_to_learn, rows_to_predict
from sklearn_halrp._joint import check_alone, in_fixed_order
from sklearn_halrp._learned import Learned
from sklearn_halrp._low_rank import FORMS
from sklearn_halrp._network import Network
from sklearn_halrp._notebook import tasks_table
from sklearn_halrp._one_task import OneTask
from sklearn_halrp._probing import ROWS, forward_on, rows_explained
from sklearn_halrp._processes import agreed
from sklearn_halrp._random import seeded_beside
from sklearn_halrp._saved import learned_from_state, learned_to_state, sealed, unsealed
from sklearn_halrp._scheduling import learn_all
from sklearn_halrp._serving import outputs_of
from sklearn_halrp._storing import PRECISIONS, Budget
from sklearn_halrp._training import recipe_of
from sklearn_halrp._turns import turn_of
from sklearn_halrp._types import TaskId
from sklearn_halrp._visit import Lesson, Settings
from sklearn_halrp.exceptions import GrowthBudgetWarning

if TYPE_CHECKING:
    import pandas


_LARGEST = 1e300  # an int may be larger than any float


def _one_of_names(names: Iterable[str]) -> StrOptions:
    """Return the constraint that a parameter is one of these, which errors list in this order."""
    return StrOptions(dict.fromkeys(names).keys())


@named_by_method
class ContinualEstimator(BaseEstimator):
    """A network that learns task after task and forgets none; a face says what tasks are.

    A face names its kind of target in ``_target``, and in ``_one_task`` the class of what
    `for_task` returns; it gives ``partial_fit``, ``predict`` and ``score`` a meaning.
    Everything that was learned is one record, ``_learned``, that a call replaces at its end:
    see `Learned`.
    """

    _target: Any = None
    _one_task: Any = None
    _learned: Learned  # once there is a task
    class_weight: Literal["balanced"] | Mapping[Any, float] | None = None  # of classifiers alone

    # task_id is routed through pipelines and searches without any set_*_request call.
    __metadata_request__fit = {"task_id": True, "sample_weight": True}
    __metadata_request__partial_fit = {"task_id": True, "sample_weight": True}
    __metadata_request__predict = {"task_id": True}
    __metadata_request__score = {"task_id": True, "sample_weight": True}

    _parameter_constraints = {
        "net": "no_validation",  # checked with the data, with an error of its own
        "class_weight": [_one_of_names(("balanced",)), Mapping, None],  # of classifiers alone
        "base": [_one_of_names(("first", "joint", "pretrained"))],
        "joint_sampling": [Interval(Real, 0, 1, closed="both")],
        "head": [str, None],
        "start": [_one_of_names(STARTS)],
        "warmup_epochs": [
            Interval(Integral, 0, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
        ],
        "approximation_rate": [Interval(Real, 0, 1, closed="right")],
        "least_gain": [Interval(Real, 0, _LARGEST, closed="left"), _one_of_names(("auto",))],
        "max_rank": [Interval(Integral, 1, None, closed="left")],
        "l1_penalty": [Interval(Real, 0, _LARGEST, closed="left")],
        "l2_penalty": [Interval(Real, 0, _LARGEST, closed="left")],
        "factor_lr_scale": [
            _one_of_names(("auto",)),
            Interval(Real, 0, _LARGEST, closed="neither"),
        ],
        "average_last": [Interval(Real, 0, 1, closed="left")],
        "prune_threshold": [Interval(Real, 0, _LARGEST, closed="left")],
        "growth_budget": [Interval(Real, 0, 10, closed="right")],  # a share, not per cent
        "retrain_epochs": [
            Interval(Integral, 0, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
        ],
        "precision": [_one_of_names(PRECISIONS)],
        "convolution": [_one_of_names(FORMS)],
        "importance": [_one_of_names(IMPORTANCES), callable],
        "measured_losses": [_one_of_names(MEASURED)],
        "task_column": [Integral, str, None],
        "dtype": "no_validation",
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "cache_bytes": [Interval(Integral, 0, None, closed="left")],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        net: NeuralNet | None = None,
        *,
        class_weight: Literal["balanced"] | Mapping[Any, float] | None = None,
        base: Literal["first", "joint", "pretrained"] = "first",
        joint_sampling: float = 0.5,
        head: str | None = None,
        start: Literal["auto", "warm-up", "head", "transfer"] = "auto",
        warmup_epochs: int | float = 0.4,
        approximation_rate: float = 0.9,
        least_gain: float | Literal["auto"] = "auto",
        max_rank: int = 100,
        l1_penalty: float = 1e-6,
        l2_penalty: float = 1e-4,
        factor_lr_scale: Literal["auto"] | float = "auto",
        average_last: float = 0.3,
        prune_threshold: float = 1e-5,
        growth_budget: float = 0.6,
        retrain_epochs: int | float = 0.5,
        precision: Literal["full", "half", "int8", "nf4"] = "int8",
        convolution: Literal["unfolded", "channel"] = "unfolded",
        importance: str | Callable[..., Any] = "fisher",
        measured_losses: Literal["none", "network", "layers"] = "none",
        task_column: int | str | None = None,
        dtype: DTypeLike = "float32",
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        cache_bytes: int = 2**28,
        verbose: int = 0,
    ) -> None:
        self.net = net
        self.class_weight = class_weight
        self.base = base
        self.joint_sampling = joint_sampling
        self.head = head
        self.start = start
        self.warmup_epochs = warmup_epochs
        self.approximation_rate = approximation_rate
        self.least_gain = least_gain
        self.max_rank = max_rank
        self.l1_penalty = l1_penalty
        self.l2_penalty = l2_penalty
        self.factor_lr_scale = factor_lr_scale
        self.average_last = average_last
        self.prune_threshold = prune_threshold
        self.growth_budget = growth_budget
        self.retrain_epochs = retrain_epochs
        self.precision = precision
        self.convolution = convolution
        self.importance = importance
        self.measured_losses = measured_losses
        self.task_column = task_column
        self.dtype = dtype
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.cache_bytes = cache_bytes
        self.verbose = verbose

    def set_params(self, **params: Any) -> Self:
        """Set parameters, those of the net as ``net__lr`` and so on.

        Parameters
        ----------
        **params

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            If a parameter is unknown, or one of a net is set where no net was given.
        """
        of_net = [name for name in params if name.startswith("net__")]
        if of_net and params.get("net", self.net) is None:
            wanted = f"{type(self).__name__}({self._target.net_class.__name__}(Module, ...))"
            raise ValueError(
                f"{of_net[0]} is a parameter of a net, and net is None: the network is built from "
                f"the data. Give a net, {wanted}."
            )
        return super().set_params(**params)

    # --- learning ----------------------------------------------------------------------

    def _learn(
        self,
        X: Any,
        y: Any,
        task_id: Any,
        sample_weight: Any,
        afresh: bool = False,
        **declared: Any,
    ) -> Self:
        """Learn tasks; put what was learned in place when all is done."""

        def learned_too(asked: Self) -> Learned:
            check_importance(importance=asked.importance)
            learned = None if afresh else asked._learned_or_none()
            return asked._with_lessons(learned, X, y, task_id, sample_weight, declared)

        return self._change(learned_too)

    def _change(self, change: Callable[[Self], Learned]) -> Self:
        """Put in place what a function makes of this estimator as it is now.

        Other threads that change it are waited for. Parameters that are set meanwhile hold from
        the next call on. When anything goes wrong, even at the very end, what was learned is
        what it was, and no seed was drawn.
        """
        turn = turn_of(self)
        if turn.is_mine:
            raise RuntimeError(
                "This estimator is learning, and a callback of its net asked it to learn or "
                "forget. Do so when the call is over, or with another estimator."
            )
        before: Any = None
        learned = undraw = None
        try:
            with turn.taken():
                before = self._as_it_is()
                before._validate_params()
                undraw = _undrawing(before.random_state)
                learned = change(before)
                self._learned = learned
            return self
        except BaseException:
            # An interruption may come as the turn is given back: then it is not done either.
            if learned is not None and self._learned_or_none() is learned:
                if "_learned" in vars(before):
                    self._learned = before._learned
                else:
                    del self._learned
            if undraw is not None:
                undraw()
            raise

    def _as_it_is(self, **others: Any) -> Self:
        """Return an estimator with the same learned tasks and parameters, but for some.

        It shares all of it: copy.copy would copy the weights.
        """
        other = object.__new__(type(self))
        other.__dict__ = {**self.__dict__, **others}
        return other

    def _with_lessons(
        self,
        learned: Learned | None,
        X: Any,
        y: Any,
        task_id: Any,
        sample_weight: Any,
        declared: dict[str, Any],
    ) -> Learned:
        """Return what was learned, with these rows learned too."""
        if self.net is not None:
            check_net(self.net, self._target.net_class)
        columns = None if learned is None else learned.columns
        intake = rows_to_learn(self, X, y, task_id, sample_weight, columns)
        known = {} if learned is None else learned.tasks
        groups = group_rows(default_task_id(intake.task_id, known, "partial_fit"), len(intake.y))
        lessons = []
        for name, rows in groups.items():
            before = known[name].target if name in known else None
            target_of = partial(self._target.of_task, known=before, **declared)
            lesson = intake.of_task(name, rows, target_of, class_weight=self.class_weight)
            lessons.append(Lesson(**lesson))
        if self.net is None and self.base == "pretrained":
            raise ValueError(
                "base='pretrained' needs a net whose module brings its weights along; net=None "
                "builds one with random weights. Give the net, or leave base='first'."
            )
        if learned is None:
            learned = self._begun(intake, lessons)
        else:
            self._check_module(learned.net)
        with rows_explained(learned.network.base, intake.X, dtype_of(self)):
            network = learn_all(
                learned.net if self.net is None else recipe_of(self.net),
                learned.network,
                lessons,
                Settings.of(self),
                learned.seed,
                n_jobs=self.n_jobs,
                builder=learned.net,
            )
        self._warn_if_over_budget(network, groups)
        return learned.with_network(network)

    def _begun(self, intake: Intake, lessons: Sequence[Lesson]) -> Learned:
        """Return a record without tasks: what holds for all tasks to come."""
        X, columns, net = intake.X, intake.columns, self.net
        if self.base == "joint" and len(lessons) > 1:
            if net is not None:
                check_alone(net)
            lessons = in_fixed_order(lessons)  # whichever comes first in the data
            X = lessons[0].X
        else:
            lessons = lessons[:1]
        target = lessons[0].target
        if net is None:
            size, n_rows = int(np.prod(columns.sample_shape)), sum(len(each.y) for each in lessons)
            n_classes = max(each.target.summary().get("n_classes", 2) for each in lessons)
            sizes = sizes_for(n_rows, columns.sample_shape, columns.categories, n_classes)
            net = self._target.default_net(size, target.n_outputs, **sizes)
        net = recipe_of(net)
        seed = agreed(net, _drawn(check_random_state(seed=self.random_state)))
        network = build_network(
            net,
            np.asarray(X[:ROWS]),
            target,
            head=self.head,
            form=self.convolution,
            seed=seed,
            frozen=self.base == "pretrained",
        )
        if self.net is None:
            fit_encoding(network.base, [lesson.X for lesson in lessons])
        return Learned(net, network, seed, columns)

    def _check_module(self, net: NeuralNet) -> None:
        """Refuse to go on with another module than that of the base."""
        if self.net is not None and self.net.module is not net.module:
            raise ValueError(
                f"The base is a {_name(net.module)}, and net has another module now, "
                f"{_name(self.net.module)}. Give it the same module to go on, or begin anew "
                "with fit."
            )
        changed = [] if self.net is None else changed_arguments(net, self.net)
        if changed:
            raise ValueError(
                f"The base was built with other arguments: net__module__{changed[0]} was changed "
                "since. Set it back to go on, or begin anew with fit."
            )

    def forget_task(self, task_id: TaskId) -> Self:
        """Remove a task for good.

        The other tasks stay as they are, to the last bit. If the base was trained on this
        task it stays too, since the others rest on it; what was the task's own is removed,
        and its head in the base is cleared. If another thread is learning, it waits until that is
        done.

        Parameters
        ----------
        task_id : int or str

        Returns
        -------
        self : estimator

        Raises
        ------
        sklearn_halrp.exceptions.UnknownTaskError
            If the task was never learned.
        ValueError
            If it is the only one: there is no estimator without a task.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_halrp import ContinualClassifier
        >>> X, y = np.repeat(np.eye(2), 20, axis=0), np.repeat([0, 1], 20)
        >>> clf = ContinualClassifier(random_state=0)
        >>> clf.fit(np.tile(X, (2, 1)), np.tile(y, 2), np.repeat(["a", "b"], 40)).tasks_
        ['a', 'b']
        >>> clf.forget_task("b").tasks_
        ['a']
        """

        def without_it(asked: Self) -> Learned:
            learned, name = asked._what_was_learned(), check_task_id(task_id)
            check_known([name], learned.tasks)
            if len(learned.tasks) == 1:
                raise ValueError(
                    f"{name!r} is the only task. Begin anew with fit, or learn another task first."
                )
            return learned.without_task(name)

        return self._change(without_it)

    def _warn_if_over_budget(self, network: Network, task_ids: Iterable[TaskId]) -> None:
        budget = Budget.of(network, growth_budget=self.growth_budget)
        for task_id in task_ids:
            task = network.tasks[task_id]
            if budget.exceeded_by(task):
                warnings.warn(
                    f"Task {task_id!r} stores {task.n_numbers} numbers, over the growth_budget "
                    f"of {100 * self.growth_budget:.3g}%, which allows "
                    f"{budget.numbers}: its scales, biases, normalisation and head "
                    "alone need them, so it has no low-rank terms. Raise growth_budget, or "
                    "use a network whose hidden layers are large beside its head.",
                    GrowthBudgetWarning,
                    stacklevel=7,
                )

    # --- predicting --------------------------------------------------------------------

    def _outputs(
        self, learned: Learned, X: Any, task_id: Any, method: str
    ) -> tuple[int, Iterable[tuple[Any, Any, NDArray[Any]]]]:
        """Take in rows; return their number, and per task its target, rows and what is said."""
        max_bytes = self.cache_bytes
        if not isinstance(max_bytes, Integral) or max_bytes < 0:
            self._validate_params()  # which says it
        intake = rows_to_predict(self, X, task_id, learned.columns)
        tasks, X = learned.tasks, intake.X
        groups = group_rows(default_task_id(intake.task_id, tasks, method), len(X))
        check_known(groups, tasks)

        def said(name: TaskId, rows: Any) -> tuple[Any, Any, NDArray[Any]]:
            net = learned.net_for(name, max_bytes=max_bytes)
            with rows_explained(net.module_, X, dtype_of(self)):
                outputs = outputs_of(net, given(X[rows]), private=not isinstance(rows, slice))
            target = tasks[name].target
            return target, rows, target.decoded(outputs, net)

        return len(X), (said(*group) for group in groups.items())

    def to_module(self, task_id: TaskId | None = None) -> Module:
        """Return a plain torch module that computes one task.

        It is of the class of the net's module, shares nothing with this estimator, and is
        in evaluation mode on the net's device. It can be compiled, exported or trained
        like any other.

        Parameters
        ----------
        task_id : int or str, default=None
            It may be left out while only one task is known.

        Returns
        -------
        torch.nn.Module
            A classifier's has the columns of ``task_classes_[task_id]`` as its outputs, as the
            net's criterion expects them: logits or probabilities. A regressor's gives numbers
            in the units of y: its last layer takes in ``target_means_`` and ``target_scales_``.
            (Where something follows that layer, it is an ``nn.Sequential`` of the net's module
            and these units. After a Poisson loss the numbers are logarithms of means.)

        Raises
        ------
        sklearn_halrp.exceptions.UnknownTaskError
            If the task was never learned.
        sklearn_halrp.exceptions.MissingTaskError
            If several tasks are known and `task_id` is left out.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_halrp import ContinualClassifier
        >>> X, y = np.repeat(np.eye(2), 20, axis=0), np.repeat([0, 1], 20)
        >>> module = ContinualClassifier(random_state=0).fit(X, y).to_module()
        >>> type(module).__name__
        'EncodedPerceptron'
        """
        learned = self._what_was_learned()
        network, task = learned.network, learned.tasks[_one_of(learned.tasks, task_id, "to_module")]
        # Made up, and of a kind that most modules can take: none is negative, and ints are 0.
        rows = np.random.RandomState(0).rand(2, *learned.columns.sample_shape)
        rows = rows.astype(dtype_of(self))
        with seeded_beside(learned.seed, learned.net.device):
            return task.target.finished(
                network.standalone(task), network.roles.head, partial(forward_on, learned.net, rows)
            )

    def for_task(self, task_id: TaskId | None = None) -> OneTask:
        """Return one task as a plain fitted estimator of scikit-learn's.

        It is for tools that know no tasks: explanations, calibration, conformal prediction,
        displays, or a service for one customer. It takes no ids, its classes are those of the
        task, and it predicts the same to the last bit.

        Parameters
        ----------
        task_id : int or str, default=None
            It may be left out while only one task is known.

        Returns
        -------
        estimator
            A classifier of a classifier: with `predict`, `predict_proba`, `predict_log_proba`,
            ``score(X, y, sample_weight=None)``, `classes_`, `n_features_in_` and, where X had
            names, `feature_names_in_`. With a `task_column`, X comes without that column.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If no task has been learned.
        sklearn_halrp.exceptions.UnknownTaskError
            If the task was never learned.
        sklearn_halrp.exceptions.MissingTaskError
            If several tasks are known and `task_id` is left out.

        See Also
        --------
        to_module : The task as a torch module, which shares nothing with this estimator.

        Notes
        -----
        It stays as it is whatever this estimator learns, forgets or is set to afterwards: ask
        again for what came since. A task that was forgotten is gone once its estimators are.

        It shares the base and the memory for networks that are ready, up to `cache_bytes`,
        and copies no weights. Saved with joblib or pickle it holds the base and this task
        alone.

        It cannot be fitted, and `sklearn.base.clone` returns it as it is. Where a tool calls
        `fit`, as pipelines and `CalibratedClassifierCV` do, give the tool
        ``sklearn.frozen.FrozenEstimator(clf.for_task(task_id))``.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_halrp import ContinualClassifier
        >>> X = np.repeat(np.eye(2), 20, axis=0)
        >>> clf = ContinualClassifier(random_state=0)
        >>> clf = clf.partial_fit(X, ["no"] * 20 + ["yes"] * 20, task_id="spam")
        >>> clf = clf.partial_fit(X, [3] * 20 + [7] * 20, task_id="grade")
        >>> spam = clf.for_task("spam")
        >>> spam
        TaskClassifier(task_id='spam')
        >>> spam.classes_.tolist(), spam.predict(np.eye(2)).tolist()
        (['no', 'yes'], ['no', 'yes'])
        """
        learned = self._what_was_learned()
        learned = learned.only(_one_of(learned.tasks, task_id, "for_task"))
        return self._one_task(self._as_it_is(task_column=None, _learned=learned))

    # --- what was learned --------------------------------------------------------------

    def __sklearn_is_fitted__(self) -> bool:
        """Whether a task has been learned."""
        return self._learned_or_none() is not None

    def __sklearn_tags__(self) -> Tags:
        """Describe the estimator to scikit-learn."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = self.net is None
        return tags

    def _learned_or_none(self) -> Learned | None:
        learned: Learned | None = vars(self).get("_learned")
        return learned

    def _what_was_learned(self) -> Learned:
        """Return the record; a call takes it once, and another thread may replace it meanwhile.

        Before anything is learned the error is an AttributeError too, so that `hasattr` answers.
        """
        check_is_fitted(self)
        learned = self._learned_or_none()
        assert learned is not None
        return learned

    @property
    def net_(self) -> NeuralNet:
        """The net as it was when the first task was learned."""
        return self._what_was_learned().net

    @property
    def sample_shape_(self) -> tuple[int, ...]:
        """Shape of one row of X."""
        return self._what_was_learned().columns.sample_shape

    @property
    def n_features_in_(self) -> int:
        """Size of the second axis of X."""
        return self._what_was_learned().columns.n_features

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """Names of the columns, where X had any."""
        names = self._what_was_learned().columns.names
        if names is None:
            raise AttributeError("feature_names_in_: the columns of X had no names.")
        return names

    @property
    def tasks_(self) -> list[TaskId]:
        """Ids of the tasks, in the order they were first learned."""
        return list(self._what_was_learned().tasks)

    @property
    def ranks_(self) -> dict[TaskId, dict[str, int]]:
        """Ranks after pruning, by task and weight."""
        return _report.ranks(self._what_was_learned().network)

    @property
    def growth_(self) -> dict[TaskId, float]:
        """Numbers that each task stores besides the base, over the base's."""
        return _report.growth(self._what_was_learned().network)

    @property
    def history_(self) -> dict[TaskId, list[dict[str, Any]]]:
        """The epochs of each task."""
        network = self._what_was_learned().network
        return {name: _report.epochs(network, name) for name in network.tasks}

    @property
    def report_(self) -> dict[TaskId, dict[str, Any]]:
        """What was found while learning each task, as plain data."""
        network = self._what_was_learned().network
        return {name: _report.of_task(network, name) for name in network.tasks}

    @property
    def n_numbers_(self) -> int:
        """Numbers that base and tasks store together."""
        network = self._what_was_learned().network
        return network.n_numbers + sum(task.n_numbers for task in network.tasks.values())

    @property
    def n_bytes_(self) -> int:
        """Bytes that base and tasks store together."""
        network = self._what_was_learned().network
        return network.n_bytes + sum(task.n_bytes for task in network.tasks.values())

    def report(self, level: Literal["task", "layer", "epoch"] = "task") -> "pandas.DataFrame":
        """Return what was found while learning, as a table.

        Parameters
        ----------
        level : {"task", "layer", "epoch"}, default="task"
            What one row stands for.

        Returns
        -------
        pandas.DataFrame
            Indexed by task, and by layer or visit.

        Raises
        ------
        ImportError
            If pandas is not installed; `report_` and `history_` hold the same as plain
            data.
        """
        return _report.table(self._what_was_learned().network, level)

    # --- notebooks ---------------------------------------------------------------------

    def _repr_html_inner(self) -> str:
        """Return the diagram of scikit-learn, and the tasks below it."""
        return super()._repr_html_inner() + self._tasks_html()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """Return what a notebook shows."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if "text/html" in bundle:
            bundle["text/html"] += self._tasks_html()
        return bundle

    def _tasks_html(self) -> str:
        learned = self._learned_or_none()
        return "" if learned is None else tasks_table(learned.network)

    # --- persistence -------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return settings and plain arrays; networks are built again from them."""
        state = dict(super().__getstate__())
        learned = state.pop("_learned", None)
        if learned is None:
            return state
        state |= learned_to_state(learned, dtype=dtype_of(self))
        return sealed(state, settings=self._get_param_names())

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Build the base again and put its arrays in place."""
        state = unsealed(state)
        learned = learned_from_state(state)
        # A file of an earlier version lacks the parameters that came since.
        state = {**type(self)().get_params(deep=False), **state}
        super().__setstate__(state if learned is None else {**state, "_learned": learned})


def _one_of(tasks: dict[TaskId, Any], task_id: TaskId | None, method: str) -> TaskId:
    """Return the id of the one task that is meant."""
    task_id = check_task_id(default_task_id(task_id, tasks, method))
    check_known([task_id], tasks)
    return task_id


def _undrawing(random_state: int | np.random.RandomState | None) -> Callable[[], None]:
    """Return a function that undoes the draw of a seed; what others drew since stays."""
    generator = check_random_state(random_state)
    before = generator.get_state()
    once = np.random.RandomState()
    once.set_state(before)
    _drawn(once)

    def undraw() -> None:
        if all(map(np.array_equal, generator.get_state(), once.get_state())):
            generator.set_state(before)

    return undraw


def _drawn(generator: np.random.RandomState) -> int:
    """Draw the number that all other random numbers follow from."""
    return int(generator.randint(2**31 - 1))


def _name(module: Any) -> str:
    return getattr(module, "__name__", type(module).__name__)
