"""The scikit-learn face: one classifier that learns task after task."""

import warnings
from contextlib import contextmanager
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)
from torch.utils.data import Dataset

from sklearn_halrp import _report
from sklearn_halrp._building import build_network
from sklearn_halrp._checks import (
    balanced,
    check_known,
    check_net,
    check_task_id,
    check_weights,
    default_task_id,
    group_rows,
    in_proportion,
    keep_types,
    labels_of_task,
    positions_in,
    rows_of,
    split_task_column,
    task_classes,
    union_of_classes,
)
from sklearn_halrp._datasets import DatasetRows, check_dataset, from_tensor, given, labels_in
from sklearn_halrp._default_net import default_net
from sklearn_halrp._importance import ESTIMATORS
from sklearn_halrp._learning import Lesson, Settings, learn_all
from sklearn_halrp._low_rank import FORMS
from sklearn_halrp._notebook import tasks_table
from sklearn_halrp._probing import ROWS
from sklearn_halrp._processes import agreed
from sklearn_halrp._saved import network_from_state, network_to_state
from sklearn_halrp._serving import Predictors, probabilities
from sklearn_halrp._storing import PRECISIONS
from sklearn_halrp._training import recipe_of
from sklearn_halrp.exceptions import GrowthBudgetWarning


class ContinualClassifier(ClassifierMixin, BaseEstimator):
    """One compact network that learns task after task and forgets none.

    The first task trains a network, the base. Every later task t learns, for each
    linear or convolution weight W of the frozen base, a perturbation

    ``W_t = diag(r) W diag(s) + U V``

    whose rank follows from Hessian information, layer by layer, and whose entries are
    pruned to a budget. Biases, normalisation and the head belong to the task. Since
    nothing of an earlier task is ever touched, its predictions stay the same to the
    last bit.

    Parameters
    ----------
    net : skorch.NeuralNetClassifier, default=None
        The recipe for networks and training: module, criterion, optimizer, ``lr``,
        ``max_epochs``, ``batch_size``, device, callbacks. It must not be fitted and is
        never changed. None builds a network from the data: two hidden layers of 100
        units, Adam with ``lr=1e-3``, ``max_epochs=50``, ``batch_size=32``, a fifth of the
        rows held out. Parameters such as ``net__lr`` need a net that is given.
    base : {"first", "pretrained"}, default="first"
        Where the base comes from: trained on the first task, or the weights that the
        module has when it is built. With a pretrained base every task, the first too,
        is a perturbation.
    head : str, default=None
        Name of the linear layer that gives the outputs, such as ``"last"`` or
        ``"fc.2"``. None finds it. Every task gets one of its own, with as many outputs
        as it has classes.
    warmup_epochs : int or float, default=0.4
        Epochs, out of ``max_epochs``, in which all weights of a new task are trained
        freely to see which change it needs. A float between 0 and 1 is a share of them,
        rounded, and at least one epoch. When there are not more epochs than that, all of
        them are warm-up and the perturbation is cut from it untrained. (Published: 1 of 12
        or 20, 3 of 12 or 20, and 20 to 25 of 50, by network and data.)
    approximation_rate : float, default=0.9
        Share alpha of the total score that the chosen ranks keep, in (0, 1].
    max_rank : int, default=100
        Highest rank of a layer.
    l1_penalty : float, default=1e-6
        lambda_1, on the magnitudes of U and V. Published: 1e-6 to 1e-4.
    l2_penalty : float, default=1e-4
        lambda_2, on half the squares of r, s, U and V. Published: 1e-4 to 1e-3.
    factor_lr_scale : float, default=1.0
        Learning rate of U and V, over the net's. Where a task brings few steps of training,
        low-rank terms that begin small do not get far in them: 3 to 10 can help much there,
        and can do harm where the steps are many. Worth a search.
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
    precision : {"full", "half"}, default="full"
        Whether r, s, U and V are kept in as many bytes a number as the network's weights, or once
        they are trained in two. Training and predictions compute with the type of the weights
        either way, and `growth_budget` counts numbers.
    convolution : {"unfolded", "channel"}, default="unfolded"
        Whether U V spans the unfolded kernel of a convolution, or output and input
        channels and is added at each position of the kernel, as published. A term of
        the latter has fewer numbers; at the same growth the former is the more accurate
        where tasks have little in common.
    importance : {"fisher", "empirical", "kfac", "uniform"}, default="fisher"
        How the Hessian is estimated on held-out data: by one number for each layer, its
        mean squared gradient, with the labels that the network itself predicts, or
        (``"empirical"``, and where the net's outputs are no probabilities) with those of the
        data, as published; in Kronecker form, by the
        second moments of each layer's inputs and of the gradients in its outputs, which
        weighs single directions; or not at all.
    task_column : int or str, default=None
        Column of X, by position or name, that holds the task ids. It never reaches
        the network. With it, ``task_id`` arguments are not needed.
    dtype : str or numpy dtype, default="float32"
        Type that X is converted to before it goes to the network that is given:
        ``"int64"`` if it begins with an embedding. The default network takes float32.
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

    Attributes
    ----------
    net_ : skorch.NeuralNetClassifier
        The recipe as it was when the first task was learned. It builds the module anew in
        another process, and its settings hold for predictions; settings of `net` that
        are changed later hold for later training.
    tasks_ : list of task ids
        In the order they were first learned; the base was trained on the first.
    classes_ : array of shape (n_classes,)
        The labels of all tasks together, sorted.
    task_classes_ : dict of task id to array
        The labels of each task, sorted.
    ranks_ : dict of task id to dict of str to int
        Ranks after pruning by weight; of the first task all are 0.
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

    See Also
    --------
    published_settings : The settings of the publication.
    sklearn_halrp.metrics : Accuracy, forgetting and growth over a stream of tasks.

    References
    ----------
    Li, Lai, Wang, Shui, Sahoo, Ling, Yang, Wang, Gagné, Zhou, "Hessian Aware Low-Rank
    Perturbation for Order-Robust Continual Learning", IEEE TKDE 36(11), 2024,
    arXiv:2311.15161. `published_settings` has its settings.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_halrp import ContinualClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = ContinualClassifier(random_state=0)
    >>> clf = clf.partial_fit(X[:900] / 16, y[:900], task_id="upright")
    >>> before = clf.predict_proba(X[900:] / 16, task_id="upright")
    >>> clf = clf.partial_fit(X[:900, ::-1] / 16, y[:900] % 2, task_id="turned")
    >>> bool((clf.predict_proba(X[900:] / 16, task_id="upright") == before).all())
    True
    >>> clf.score(X[900:, ::-1] / 16, y[900:] % 2, task_id="turned") > 0.9
    True
    """

    _parameter_constraints = {
        "net": "no_validation",  # checked with the data, with an error of its own
        "base": [StrOptions({"first", "pretrained"})],
        "head": [str, None],
        "warmup_epochs": [
            Interval(Integral, 0, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
        ],
        "approximation_rate": [Interval(Real, 0, 1, closed="right")],
        "max_rank": [Interval(Integral, 1, None, closed="left")],
        "l1_penalty": [Interval(Real, 0, None, closed="left")],
        "l2_penalty": [Interval(Real, 0, None, closed="left")],
        "factor_lr_scale": [Interval(Real, 0, None, closed="neither")],
        "prune_threshold": [Interval(Real, 0, None, closed="left")],
        "growth_budget": [Interval(Real, 0, 10, closed="right")],  # a share, not per cent
        "retrain_epochs": [
            Interval(Integral, 0, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
        ],
        "precision": [StrOptions(set(PRECISIONS))],
        "convolution": [StrOptions(set(FORMS))],
        "importance": [StrOptions(set(ESTIMATORS))],
        "task_column": [Integral, str, None],
        "dtype": "no_validation",
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "cache_bytes": [Interval(Integral, 0, None, closed="left")],
        "verbose": ["verbose"],
    }

    # task_id is routed through pipelines and searches without any set_*_request call.
    __metadata_request__fit = {"task_id": True, "sample_weight": True}
    __metadata_request__partial_fit = {"task_id": True, "sample_weight": True}
    __metadata_request__predict = {"task_id": True}
    __metadata_request__predict_proba = {"task_id": True}
    __metadata_request__predict_log_proba = {"task_id": True}
    __metadata_request__score = {"task_id": True, "sample_weight": True}

    def __init__(
        self,
        net=None,
        *,
        base="first",
        head=None,
        warmup_epochs=0.4,
        approximation_rate=0.9,
        max_rank=100,
        l1_penalty=1e-6,
        l2_penalty=1e-4,
        factor_lr_scale=1.0,
        prune_threshold=1e-5,
        growth_budget=0.6,
        retrain_epochs=0.5,
        precision="full",
        convolution="unfolded",
        importance="fisher",
        task_column=None,
        dtype="float32",
        random_state=None,
        n_jobs=None,
        cache_bytes=2**28,
        verbose=0,
    ):
        self.net = net
        self.base = base
        self.head = head
        self.warmup_epochs = warmup_epochs
        self.approximation_rate = approximation_rate
        self.max_rank = max_rank
        self.l1_penalty = l1_penalty
        self.l2_penalty = l2_penalty
        self.factor_lr_scale = factor_lr_scale
        self.prune_threshold = prune_threshold
        self.growth_budget = growth_budget
        self.retrain_epochs = retrain_epochs
        self.precision = precision
        self.convolution = convolution
        self.importance = importance
        self.task_column = task_column
        self.dtype = dtype
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.cache_bytes = cache_bytes
        self.verbose = verbose

    def set_params(self, **params):
        """Set parameters, those of the net as ``net__lr`` and so on.

        Parameters
        ----------
        **params

        Returns
        -------
        self : ContinualClassifier

        Raises
        ------
        ValueError
            If a parameter is unknown, or one of a net is set where no net was given.
        """
        of_net = [name for name in params if name.startswith("net__")]
        if of_net and params.get("net", self.net) is None:
            raise ValueError(
                f"{of_net[0]} is a parameter of a net, and net is None: the network is built from "
                "the data. Give a net, ContinualClassifier(NeuralNetClassifier(Module, ...))."
            )
        return super().set_params(**params)

    # --- learning ----------------------------------------------------------------------

    def fit(self, X, y=None, task_id=None, *, sample_weight=None):
        """Forget everything and learn the tasks in the order they first appear.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
            Finite numbers: an array, a DataFrame, a tensor. Or a
            ``torch.utils.data.Dataset`` of pairs of a row and a label,
            which is read batch by batch, when it is needed; rows are converted to `dtype`.
        y : array-like of shape (n_samples,)
            Labels, ints or strings. None with a Dataset: its attribute ``targets`` or ``y``
            is used, or all rows are read once for them.
        task_id : int, str or array-like of shape (n_samples,), default=None
            One id for all rows, or one per row. None is a single task, 0.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts among those of its task: in the loss of every phase
            and in the importance of layers. Not negative.

        Returns
        -------
        self : ContinualClassifier

        Raises
        ------
        ValueError, TypeError
            If an argument cannot be used. As with every error and interruption, the
            estimator is left as it was before the call.
        sklearn_halrp.exceptions.TrainingDivergedError
            If a loss or a weight becomes NaN or infinite.
        """
        with self._all_or_nothing():
            for name in _LEARNED:
                vars(self).pop(name, None)
            return self._learn(X, y, task_id, None, sample_weight)

    def partial_fit(self, X, y=None, task_id=None, *, classes=None, sample_weight=None):
        """Learn a new task, or go on learning a known one.

        A new id learns a task. A known id goes on learning that task and changes no
        other; new labels give its head new outputs. Going on trains on the rows given and
        on nothing else, so within its own task it can lose what older rows taught: give
        some of those again. The first task trains the base for as long as it is alone;
        with the second the base is frozen for good.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
            Rows of the same shape as those of the first task, or a Dataset, as for `fit`.
        y : array-like of shape (n_samples,)
            Labels, ints or strings; None with a Dataset.
        task_id : int, str or array-like of shape (n_samples,), default=None
            One id for all rows, or one per row; several new tasks are learned in order
            of first appearance. It may be left out as long as it always was: the rows then
            belong to one task, 0.
        classes : array-like of shape (n_classes,), default=None
            All labels the tasks of this call will ever have, when `y` lacks some.
        sample_weight : array-like of shape (n_samples,), default=None
            As for `fit`.

        Returns
        -------
        self : ContinualClassifier

        Raises
        ------
        ValueError, TypeError
            If an argument cannot be used. As with every error and interruption, the
            estimator is left as it was before the call.
        sklearn_halrp.exceptions.MissingTaskError
            If `task_id` is left out and a task with another id than 0 is known.
        sklearn_halrp.exceptions.TrainingDivergedError
            If a loss or a weight becomes NaN or infinite.

        Notes
        -----
        A `sklearn.pipeline.Pipeline` has no ``partial_fit``. To go on at the end of one, leave
        its other steps as they were fitted:
        ``model[-1].partial_fit(model[:-1].transform(X), y, task_id)``.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_halrp import ContinualClassifier
        >>> X = np.repeat(np.eye(2), 20, axis=0)
        >>> clf = ContinualClassifier(random_state=0)
        >>> clf = clf.partial_fit(X, ["no"] * 20 + ["yes"] * 20, task_id="spam")
        >>> clf = clf.partial_fit(X, [3] * 20 + [7] * 20, task_id="grade")
        >>> clf.predict(np.eye(2), task_id=["spam", "grade"]).tolist()
        ['no', 7]
        """
        with self._all_or_nothing():
            return self._learn(X, y, task_id, classes, sample_weight)

    def _learn(self, X, y, task_id, classes, sample_weight):
        first = not self.__sklearn_is_fitted__()
        X, task_id = self._take_task_column(X, task_id)
        X, y = self._labelled_rows(X, y, first)
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, X)
        known = {} if first else self._network.tasks
        groups = group_rows(default_task_id(task_id, known, "partial_fit"), len(y))
        lessons = [
            self._lesson(
                name, X[rows], y[rows], classes, known.get(name), rows_of(sample_weight, rows)
            )
            for name, rows in groups.items()
        ]
        if self.net is not None:
            check_net(self.net)
        elif self.base == "pretrained":
            raise ValueError(
                "base='pretrained' needs a net whose module brings its weights along; net=None "
                "builds one with random weights. Give the net, or leave base='first'."
            )
        if first:
            self._start(X, lessons[0])
        else:
            self._check_shape(X)
            self._check_module()
        settings = Settings(
            self.warmup_epochs,
            self.approximation_rate,
            self.max_rank,
            self.l1_penalty,
            self.l2_penalty,
            self.factor_lr_scale,
            self.prune_threshold,
            self.retrain_epochs,
            self.growth_budget,
            self.precision,
            self.importance,
            self.verbose,
        )
        self._network = learn_all(
            self.net_ if self.net is None else recipe_of(self.net),
            self._network,
            lessons,
            settings,
            self._seed,
            self.n_jobs,
            builder=self.net_,
        )
        self._warn_if_over_budget(groups)
        self.classes_ = union_of_classes([t.classes for t in self._network.tasks.values()])
        return self

    def _start(self, X, lesson):
        """Fix what holds for all tasks to come."""
        self.sample_shape_ = X.shape[1:]
        size = int(np.prod(self.sample_shape_))
        self.net_ = default_net(size, len(lesson.classes)) if self.net is None else self.net
        self.net_ = recipe_of(self.net_)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self._seed = agreed(self.net_, seed)
        self._predictors = Predictors()
        self._network = build_network(
            self.net_,
            np.asarray(X[:ROWS]),
            len(lesson.classes),
            self.head,
            self.convolution,
            self._seed,
            frozen=self.base == "pretrained",
        )

    def _lesson(self, task_id, X, y, declared, known, weights):
        y = labels_of_task(task_id, y)
        classes = task_classes(task_id, y, declared, None if known is None else known.classes)
        weights = None if weights is None else balanced(task_id, weights)
        return Lesson(task_id, X, positions_in(classes, y).astype(np.int64), classes, weights)

    def forget_task(self, task_id):
        """Remove a task for good.

        The other tasks stay as they are, to the last bit. If the base was trained on this
        task it stays too, since the others rest on it; what was the task's own is removed,
        and its head in the base is cleared.

        Parameters
        ----------
        task_id : int or str

        Returns
        -------
        self : ContinualClassifier

        Raises
        ------
        sklearn_halrp.exceptions.UnknownTaskError
            If the task was never learned.
        ValueError
            If it is the only one: there is no classifier without a task.

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
        network = self._learned
        task_id = check_task_id(task_id)
        check_known([task_id], network.tasks)
        if len(network.tasks) == 1:
            raise ValueError(
                f"{task_id!r} is the only task. Begin anew with fit, or learn another task first."
            )
        with self._all_or_nothing():
            self._network = network.without_task(task_id)
            self.classes_ = union_of_classes(self.task_classes_.values())
        self._predictors.drop(task_id)
        return self

    def _warn_if_over_budget(self, task_ids):
        for task_id in task_ids:
            task, base = self._network.tasks[task_id], self._network.n_numbers
            if task.n_numbers > self.growth_budget * base:
                warnings.warn(
                    f"Task {task_id!r} stores {task.n_numbers} numbers, over the growth_budget "
                    f"of {100 * self.growth_budget:.3g}%, which allows "
                    f"{int(self.growth_budget * base)}: its scales, biases, normalisation and head "
                    "alone need them, so it has no low-rank terms. Raise growth_budget, or "
                    "use a network with wider hidden layers.",
                    GrowthBudgetWarning,
                    stacklevel=4,
                )

    @contextmanager
    def _all_or_nothing(self):
        """Leave the estimator as it was when anything goes wrong inside."""
        self._validate_params()
        before, rng = dict(vars(self)), check_random_state(self.random_state)
        drawn = rng.get_state()
        try:
            yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            rng.set_state(drawn)
            raise

    # --- predicting --------------------------------------------------------------------

    def predict_proba(self, X, task_id=None):
        """Predict the probability of every class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
        task_id : int, str or array-like of shape (n_samples,), default=None
            One id for all rows, or one per row. It may be left out while only one task
            is known.

        Returns
        -------
        array of shape (n_samples, n_classes), float32
            Columns are `classes_`; those of other tasks are 0.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If no task has been learned.
        sklearn_halrp.exceptions.UnknownTaskError
            If an id was never learned.
        sklearn_halrp.exceptions.MissingTaskError
            If several tasks are known and `task_id` is left out.
        ValueError
            If X does not have the shape of the rows that were learned, or the number
            of ids differs from that of the rows.
        """
        return self._predict_proba(X, task_id, "predict_proba")

    def _predict_proba(self, X, task_id, method):
        n_samples, groups = self._probabilities(X, task_id, method)
        result = None
        every_row = np.arange(n_samples)
        for classes, rows, values in groups:
            if result is None:
                result = np.zeros((n_samples, len(self.classes_)), dtype=values.dtype)
            columns = positions_in(self.classes_, classes)
            result[every_row[rows, None], columns] = values
        return result

    def predict_log_proba(self, X, task_id=None):
        """Predict the logarithm of the probability of every class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
        task_id : int, str or array-like of shape (n_samples,), default=None
            As for `predict_proba`.

        Returns
        -------
        array of shape (n_samples, n_classes), float32
            Columns are `classes_`; those of other tasks are minus infinity.

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError
            As `predict_proba`.
        """
        probability = self._predict_proba(X, task_id, "predict_log_proba")
        with np.errstate(divide="ignore"):
            return np.log(probability)

    def predict(self, X, task_id=None):
        """Predict the label of every row, among those of its task.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
        task_id : int, str or array-like of shape (n_samples,), default=None
            One id for all rows, or one per row. It may be left out while only one task
            is known.

        Returns
        -------
        array of shape (n_samples,)
            Labels of the tasks asked for: an array of objects if some of these tasks have
            ints and others strings.

        Raises
        ------
        sklearn.exceptions.NotFittedError, ValueError
            As `predict_proba`.
        """
        return self._predict(X, task_id, "predict")

    def _predict(self, X, task_id, method):
        n_samples, groups = self._probabilities(X, task_id, method)
        groups = list(groups)
        labels = union_of_classes([classes for classes, *_ in groups])
        result = np.empty(n_samples, dtype=labels.dtype)
        for classes, rows, values in groups:
            result[rows] = classes[values.argmax(axis=1)]
        return result

    def score(self, X, y=None, *, task_id=None, sample_weight=None):
        """Return the accuracy of the predictions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *sample_shape)
        y : array-like of shape (n_samples,)
        task_id : int, str or array-like of shape (n_samples,), default=None
            As for `predict`.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each row counts.

        Returns
        -------
        float
            Mean accuracy over the rows, in [0, 1].

        Notes
        -----
        scikit-learn's classifiers take weights in third place, where `fit` and `predict` have
        ids here. So that neither is taken for the other, both go by name.
        """
        predicted = self._predict(X, task_id, "score")
        if sample_weight is not None:
            sample_weight = in_proportion(check_weights(sample_weight, predicted))
        y = labels_in(X) if isinstance(X, Dataset) and y is None else y
        y = column_or_1d(np.asarray(keep_types(y), dtype=object))
        check_consistent_length(y, predicted)
        # Entry by entry, since scikit-learn's metrics mix no ints and strings.
        correct = np.array(y == predicted.astype(object), dtype=bool)
        return accuracy_score(np.ones_like(correct), correct, sample_weight=sample_weight)

    def _probabilities(self, X, task_id, method):
        """Return the number of rows, and per task its classes, rows and probabilities."""
        check_is_fitted(self)
        X, task_id = self._take_task_column(X, task_id)
        X = self._rows(X)
        self._check_shape(X)
        tasks = self._network.tasks
        groups = group_rows(default_task_id(task_id, tasks, method), len(X))
        check_known(groups, tasks)
        return len(X), (
            (
                tasks[name].classes,
                rows,
                probabilities(
                    self._net_for(name), given(X[rows]), private=not isinstance(rows, slice)
                ),
            )
            for name, rows in groups.items()
        )

    def _net_for(self, task_id):
        return self._predictors.net(self.net_, self._network, task_id, self.cache_bytes)

    def to_module(self, task_id=None):
        """Return a plain torch module that computes one task.

        It is of the class of the net's module, shares nothing with this classifier, and is
        in evaluation mode on the net's device. It can be compiled, exported or trained
        like any other.

        Parameters
        ----------
        task_id : int or str, default=None
            It may be left out while only one task is known.

        Returns
        -------
        torch.nn.Module
            Its outputs are the columns of ``task_classes_[task_id]``, as the net's
            criterion expects them: logits or probabilities.

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
        'MultilayerPerceptron'
        """
        tasks = self._learned.tasks
        task_id = check_task_id(default_task_id(task_id, tasks, "to_module"))
        check_known([task_id], tasks)
        return self._network.standalone(tasks[task_id])

    # --- checks ------------------------------------------------------------------------

    def _array_checks(self):
        # torch warns of arrays that it could write to and must not, as pandas gives them.
        dtype = "float32" if self.net is None else self.dtype
        # One layout: sums over another one round differently, and processes do not keep it.
        return {"dtype": dtype, "order": "C", "allow_nd": True, "force_writeable": True}

    def _rows(self, X):
        """Return rows that can be predicted."""
        if isinstance(X, Dataset):
            return DatasetRows(X, self._array_checks()["dtype"])
        return validate_data(self, X, reset=False, **self._array_checks())

    def _labelled_rows(self, X, y, reset):
        """Return rows that can be learned, and their labels."""
        if not isinstance(X, Dataset):
            return validate_data(self, X, keep_types(y), reset=reset, **self._array_checks())
        if y is not None:
            raise ValueError("X is a Dataset, which has its labels itself: leave y out.")
        rows = DatasetRows(X, self._array_checks()["dtype"])
        if reset:
            self.n_features_in_ = rows.shape[1]
        return rows, labels_in(X)

    def _take_task_column(self, X, task_id):
        check_dataset(X)
        X = from_tensor(X, self.task_column)
        if self.task_column is None:
            return X, task_id
        if isinstance(X, Dataset):
            raise ValueError("A Dataset has no columns: pass task_id, and leave task_column out.")
        if task_id is not None:
            raise ValueError(
                f"task_id was passed, and task_column={self.task_column!r} says that the ids "
                "are in X. Leave one of them out."
            )
        return split_task_column(X, self.task_column)

    def _check_shape(self, X):
        if X.shape[1:] != self.sample_shape_:
            raise ValueError(
                f"X has rows of shape {X.shape[1:]}; the base was trained on rows of shape "
                f"{self.sample_shape_}. All tasks share one network, so bring X to that shape."
            )

    def _check_module(self):
        if self.net is not None and self.net.module is not self.net_.module:
            raise ValueError(
                f"The base is a {_name(self.net_.module)}, and net has another module now, "
                f"{_name(self.net.module)}. Give it the same module to go on, or begin anew "
                "with fit."
            )

    def __sklearn_is_fitted__(self):
        """Whether a task has been learned."""
        return hasattr(self, "_network")

    def __sklearn_tags__(self):
        """Describe the estimator to scikit-learn."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    # --- what was learned --------------------------------------------------------------

    @property
    def _learned(self):
        check_is_fitted(self)
        return self._network

    @property
    def tasks_(self):
        """Ids of the tasks, in the order they were first learned."""
        return list(self._learned.tasks)

    @property
    def task_classes_(self):
        """The labels of each task, sorted."""
        return {name: task.classes.copy() for name, task in self._learned.tasks.items()}

    @property
    def ranks_(self):
        """Ranks after pruning, by task and weight."""
        return _report.ranks(self._learned)

    @property
    def growth_(self):
        """Numbers that each task stores besides the base, over the base's."""
        return _report.growth(self._learned)

    @property
    def history_(self):
        """The epochs of each task."""
        return {name: _report.epochs(self._learned, name) for name in self._learned.tasks}

    @property
    def report_(self):
        """What was found while learning each task, as plain data."""
        return {name: _report.of_task(self._learned, name) for name in self._learned.tasks}

    @property
    def n_numbers_(self):
        """Numbers that base and tasks store together."""
        return self._learned.n_numbers + sum(t.n_numbers for t in self._learned.tasks.values())

    @property
    def n_bytes_(self):
        """Bytes that base and tasks store together."""
        return self._learned.n_bytes + sum(t.n_bytes for t in self._learned.tasks.values())

    def report(self, level="task"):
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
        return _report.table(self._learned, level)

    # --- notebooks ---------------------------------------------------------------------

    def _repr_html_inner(self):
        """Return the diagram of scikit-learn, and the tasks below it."""
        return super()._repr_html_inner() + self._tasks_html()

    def _repr_mimebundle_(self, **kwargs):
        """Return what a notebook shows."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if "text/html" in bundle:
            bundle["text/html"] += self._tasks_html()
        return bundle

    def _tasks_html(self):
        return tasks_table(self._network) if self.__sklearn_is_fitted__() else ""

    # --- persistence -------------------------------------------------------------------

    def __getstate__(self):
        """Return settings and plain arrays; networks are built again from them."""
        state = dict(super().__getstate__())
        state.pop("_predictors", None)
        if "_network" in state:
            state["_network"] = network_to_state(self._network, self.net_, self._seed)
        return state

    def __setstate__(self, state):
        """Build the base again and put its arrays in place."""
        # A file of an earlier version lacks the parameters that came since.
        state = {**type(self)().get_params(deep=False), **state}
        saved = state.pop("_network", None)
        super().__setstate__(state)
        if saved is not None:
            self._predictors = Predictors()
            self._network = network_from_state(self.net_, saved, self._seed)


def _name(module):
    return getattr(module, "__name__", type(module).__name__)


# What fit forgets.
_LEARNED = (
    "_network",
    "_seed",
    "net_",
    "_predictors",
    "classes_",
    "sample_shape_",
    "n_features_in_",
    "feature_names_in_",
)
