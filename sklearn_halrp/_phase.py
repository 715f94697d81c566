"""The user's skorch net in one phase of training: its class, with ours in front of it.

A phase trains a module that is there already, on rows that are split already. skorch asks
the net for both, and for batches and losses, by its methods; the class in front answers
from one record, ``net.phase_``, and leaves all else to the user's class. What a callback
copies, clones or pickles is a net of the user's class, as it is with skorch alone.
"""

import warnings
from dataclasses import dataclass, field, replace
from functools import cache, partial
from types import new_class
from typing import Any

from sklearn.base import clone
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from sklearn_halrp._batches import drawn, sliced
from sklearn_halrp._faults import let_through
from sklearn_halrp._modules import as_it_was
from sklearn_halrp._predictive import in_four_bytes
from sklearn_halrp._processes import agreed_step, named_as_in_module
from sklearn_halrp._random import no_draws
from sklearn_halrp._sample_weight import rows_in, rows_with_weights, weighted_loss
from sklearn_halrp._several import SeveralModules, SeveralSets, names_in_copies
from sklearn_halrp._steps import attend


@dataclass
class Phase:
    """What a net computes with, in place of what it would make itself.

    Attributes
    ----------
    module : torch.nn.Module, optional
        Used as it is: never copied.
    sets : pair of Dataset, optional
        Training and held-out rows; the latter may be None.
    row_weights : array of shape (n_samples,), optional
        Of the rows that the net is about to make a dataset of.
    weighted : bool
        Whether the rows of the sets bring weights along.
    own : bool
        Whether the user's ``initialize`` and ``initialize_module`` are called, for what they
        make besides the module.
    draws : bool
        Whether reading rows that are not trained on may draw random numbers, as torch's own
        loading does.
    first, last : sequences of skorch callbacks
        Ours. They hear of everything before and after the user's, and nobody sees them.
    accelerator : accelerate.Accelerator, optional
        While several processes train the net together.
    attended : dict of int to tuple
        The optimizers at whose steps ours act; see `attend`.
    """

    module: Any = None
    sets: Any = None
    row_weights: Any = None
    weighted: bool = False
    own: bool = True
    draws: bool = True
    first: tuple[Callback, ...] = ()
    last: tuple[Callback, ...] = ()
    accelerator: Any = None
    attended: dict[int, tuple[Optimizer, Any]] = field(default_factory=dict)


def in_phase(net: NeuralNet, phase: Phase) -> NeuralNet:
    """Return the same net with a phase, sharing all it has."""
    other: NeuralNet = object.__new__(_in_front_of(type(net)))  # type: ignore[arg-type]
    vars(other).update(vars(net), phase_=phase)
    return other


@cache
def _in_front_of(users: Any) -> Any:
    names = {name: getattr(users, name) for name in ("__module__", "__qualname__", "__doc__")}
    return new_class(users.__name__, (_InPhase, users), exec_body=lambda body: body.update(names))


def with_module(net: NeuralNet, module: Any) -> NeuralNet:
    """Return an initialised net in a phase with another module, sharing all else it has."""
    other: Any = object.__new__(type(net))
    vars(other).update(vars(net), phase_=replace(net.phase_, module=module), module_=module)
    return other


def class_of(net: NeuralNet) -> Any:
    """Return the class that the user gave a net, without ours in front of it."""
    return next(kind for kind in type(net).__mro__ if not issubclass(kind, _InPhase))


def has_own(net: NeuralNet, *names: str) -> bool:
    """Whether one of these methods of a net is the user's, not skorch's."""
    methods = [getattr(class_of(net), name) for name in names]
    return any(method.__module__.partition(".")[0] != "skorch" for method in methods)


class _InPhase:
    """The methods in front of those of the user's class."""

    phase_ = Phase()

    # --- what it is to others

    def _without_phase(self):
        net = object.__new__(class_of(self))
        vars(net).update({name: v for name, v in vars(self).items() if name != "phase_"})
        return net

    def __reduce_ex__(self, protocol):
        # By a later protocol, pickle compares the class it finds with the one in front.
        return self._without_phase().__reduce_ex__(1)

    def __sklearn_clone__(self):
        return clone(self._without_phase())

    # --- what it computes with

    def initialize(self):
        self._let_the_user("initialize", NeuralNet.initialize)
        if self.phase_.module is not None and not self.compile:
            vars(self)["module_"] = self.phase_.module  # the user may have wrapped it
        return self

    def initialize_module(self):
        if self.phase_.module is None:
            return super().initialize_module()
        self._let_the_user("initialize_module")
        self.module_ = self.phase_.module
        return self

    def initialized_instance(self, instance_or_cls, kwargs):
        if instance_or_cls is self.module and self.phase_.module is not None:
            return self.phase_.module
        return super().initialized_instance(instance_or_cls, kwargs)

    def _let_the_user(self, name, skorchs=None):
        """Call a method of the user's that prepares the module, and keep the module as it was.

        It was written for a module that is built anew, and may put others beside it.
        """
        method = getattr(super(), name)
        if self.phase_.module is None or not has_own(self, name):
            return method()
        if not self.phase_.own:
            return skorchs and skorchs(self)
        try:
            with no_draws(self.device), as_it_was(self.phase_.module):
                return method()
        except Exception as error:
            let_through(error)
            warnings.warn(
                f"{class_of(self).__name__}.{name} cannot be called in this phase of training, so "
                f"what it makes is missing: {type(error).__name__}: {error}",
                stacklevel=2,
            )
        return skorchs and skorchs(self)

    def get_dataset(self, X, y=None):
        dataset = super().get_dataset(X, y)
        weights = self.phase_.row_weights
        return dataset if weights is None else rows_with_weights(dataset, weights)

    def get_split_datasets(self, X, y=None, **parameters):
        return self.phase_.sets or super().get_split_datasets(X, y, **parameters)

    def get_iterator(self, dataset, training=False):
        if isinstance(dataset, SeveralSets):
            batches_of = partial(self.get_iterator, training=training)
            return dataset.batches(batches_of, self.phase_.module, training)
        name = "iterator_train" if training else "iterator_valid"
        skorchs = class_of(self).get_iterator is NeuralNet.get_iterator
        if not skorchs or getattr(self, name) is not DataLoader:
            iterator = super().get_iterator(dataset, training=training)
        else:  # as in skorch, but with batches cut from arrays at once
            settings = {"batch_size": self.batch_size, **self.get_params_for(name)}
            if settings["batch_size"] == -1:
                settings["batch_size"] = len(dataset)
            iterator = (drawn if training or self.phase_.draws else sliced)(dataset, **settings)
        accelerator = self.phase_.accelerator
        return accelerator.prepare(iterator) if training and accelerator else iterator

    def infer(self, x, **parameters):
        return super().infer(rows_in(x) if self.phase_.weighted else x, **parameters)

    def get_loss(self, *args, **parameters):
        if self.phase_.weighted:
            return weighted_loss(self, super().get_loss, *args, **parameters)
        return super().get_loss(*args, **parameters)

    def _get_predict_nonlinearity(self):
        nonlinearity = super()._get_predict_nonlinearity()
        return lambda outputs: nonlinearity(in_four_bytes(outputs))

    # --- how it is trained

    def notify(self, method_name, **parameters):
        for callback in self.phase_.first:
            getattr(callback, method_name)(self, **parameters)
        super().notify(method_name, **parameters)
        for callback in self.phase_.last:
            getattr(callback, method_name)(self, **parameters)
        if method_name.endswith("_begin"):
            self._attend_steps()

    def _attend_steps(self):
        """Act at the steps of all optimizers that there are by now."""
        for name in self._optimizers:
            attend(getattr(self, name + "_"), self.phase_.first, self.phase_.attended)
        for _, hooks in self.phase_.attended.values():
            if hooks:
                hooks.forget()

    def train_step(self, batch, **parameters):
        step, accelerator = super().train_step(batch, **parameters), self.phase_.accelerator
        step = self._comparable(step)
        return agreed_step(accelerator, step) if accelerator else step

    def validation_step(self, batch, **parameters):
        return self._comparable(super().validation_step(batch, **parameters))

    def evaluation_step(self, batch, *args, **parameters):
        outputs = super().evaluation_step(batch, *args, **parameters)
        return self._comparable({"y_pred": outputs})["y_pred"]

    def _comparable(self, step):
        """Return a step whose outputs have as many columns for each of several tasks."""
        module = self.phase_.module
        if not isinstance(module, SeveralModules) or "y_pred" not in step:
            return step
        return {**step, "y_pred": module.padded(step["y_pred"])}

    def get_all_learnable_params(self):
        parameters = super().get_all_learnable_params()
        if isinstance(self.phase_.module, SeveralModules):
            return names_in_copies(parameters)
        return named_as_in_module(self, parameters) if self.phase_.accelerator else parameters

    def _initialize_accelerator(self):
        return super()._initialize_accelerator() if self.phase_.accelerator else self
