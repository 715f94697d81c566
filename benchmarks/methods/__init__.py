"""Ways to learn a stream of tasks, all with the same face."""

from benchmarks.methods._method import Method, Training
from benchmarks.methods.adapters import BatchEnsemble, LoRA
from benchmarks.methods.distillation import LearningWithoutForgetting
from benchmarks.methods.halrp import (
    HALRP,
    AsItComes,
    FromSeveral,
    FromSeveralAsItComes,
    TrainingRowsOnly,
)
from benchmarks.methods.joint import Joint
from benchmarks.methods.models import MODELS, Models, OneForAll, OneLinear
from benchmarks.methods.packnet import PackNet
from benchmarks.methods.penalties import EWC, L2
from benchmarks.methods.replay import Replay
from benchmarks.methods.separate import Copies, Separate
from benchmarks.methods.sharing import FineTuning
from benchmarks.methods.with_peft import AdaLoRA, Peft

__all__ = [
    "EWC",
    "HALRP",
    "L2",
    "MODELS",
    "AdaLoRA",
    "AsItComes",
    "BatchEnsemble",
    "Copies",
    "FineTuning",
    "FromSeveral",
    "FromSeveralAsItComes",
    "Joint",
    "LearningWithoutForgetting",
    "LoRA",
    "Method",
    "Models",
    "OneForAll",
    "OneLinear",
    "PackNet",
    "Peft",
    "Replay",
    "Separate",
    "Training",
    "TrainingRowsOnly",
]
