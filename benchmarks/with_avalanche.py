"""Methods as the library Avalanche has them, on the same streams.

    python -m benchmarks.with_avalanche STREAM --data-dir DIR [--seeds 5] [--jobs 2] [--json FILE]

Stream, network, epochs, batches, optimiser, seeds, rows for tuning and the number of settings are
those of `benchmarks.compare`, and the results are written in the same form. Every task has a head
of its own. Everything else is the library's: its training loop, its batches, its losses. So there
are differences from `benchmarks.methods`:

- Batch normalisation is shared by all tasks; ours may give each task its own.
- EWC squares the mean gradient of a batch, with the true labels, and not those of single rows
  with the labels that the network predicts. Its importances are smaller by orders of magnitude, so
  the strengths go further up. It keeps a copy of weights and importances for each task.
- LwF distils from the heads of all earlier tasks in every batch, as ours does;
  the library leaves out the factor T², so its strengths are four times as large.
- Replay puts rows of all earlier tasks into one batch, and averages over all its rows.
- PackNet fixes all biases with the first task. It refuses batch normalisation, so only networks
  without are learned by it.

The library is no dependency of this package. It comes with a pip that is kept from changing torch:

    pip install -c constraints.txt torch scikit-learn skorch
    pip install -c constraints.txt torch torchmetrics tensorboard matplotlib psutil gputil \
        requests wandb gdown dill "qpsolvers[open_source_solvers]"
    pip install --no-deps torchvision pytorchcv avalanche-lib==0.6.0
    pip install --no-deps -e .
"""

import math

import torch
from torch import nn

from benchmarks.command import parser
from benchmarks.compare import compare
from benchmarks.contestants import CONTESTANTS, Contestant
from benchmarks.methods._method import Method, head_of, parts

try:
    import torchvision  # noqa: F401
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "Avalanche needs an environment of its own, which the head of "
        "benchmarks/with_avalanche.py tells how to make."
    ) from None
except RuntimeError:
    # Avalanche imports torchvision, whose images nobody needs here. Its compiled operators are for
    # another build of torch than the one for processors alone; their names are enough.
    OPERATORS = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import avalanche
from avalanche.benchmarks import DatasetExperience, with_task_labels
from avalanche.benchmarks.utils import (
    ConstantSequence,
    DataAttribute,
    TaskAwareSupervisedClassificationDataset,
    TaskLabels,
)
from avalanche.models import MultiHeadClassifier, MultiTaskModule, avalanche_forward
from avalanche.models.packnet import PackNetModel
from avalanche.training import supervised
from avalanche.training.plugins import ReplayPlugin
from avalanche.training.storage_policy import ExperienceBalancedBuffer


def without_head(network):
    """Return a fresh network with nothing in the place of its head, and its number of outputs."""
    body = network(n_classes=2)
    name, head = head_of(body)
    body.set_submodule(name, nn.Identity())
    return body, head.in_features


class WithHeads(MultiTaskModule):
    """A network with a head for each task; the rest of it sees a batch whole.

    All heads have as many outputs; the library masks those that a task has no class for.
    """

    def __init__(self, network, n_outputs):
        super().__init__()
        self.body, width = without_head(network)
        self.heads = MultiHeadClassifier(width, n_outputs)

    def forward(self, x, task_labels):
        """Return logits of each row's own head, or a dictionary of all heads' without labels."""
        return self.heads(self.body(x), task_labels)


class PackedWithHeads(PackNetModel):
    """The same for PackNet, which divides all weights but those of the heads."""

    def __init__(self, network, n_outputs):
        body, width = without_head(network)
        super().__init__(body)
        self.heads = MultiHeadClassifier(width, n_outputs)

    def forward(self, x, task_labels):
        return self.heads(super().forward(x, task_labels), task_labels)


def experience(task, number):
    """Return the rows that a task learns from as the library's strategies want them."""
    X, y = map(torch.as_tensor, task.train)
    labels = TaskLabels(ConstantSequence(number, len(y)))
    dataset = TaskAwareSupervisedClassificationDataset(
        [torch.utils.data.TensorDataset(X, y)],
        data_attributes=[DataAttribute(y.tolist(), "targets"), labels],
    )
    one = with_task_labels(DatasetExperience(dataset=dataset, current_experience=number))
    one.classes_in_this_experience = list(range(task.n_classes))
    return one


class Naive(Method):
    """Fine-tuning, and what the others have in common; outputs are for the task that has most."""

    model_type = WithHeads

    def __init__(self, network, training, seed, n_outputs, **settings):
        super().__init__(network, training, seed)
        self.n_classes = {}
        self.draw("network")
        self.model = self.model_type(network, n_outputs)
        self.strategy = self.make_strategy(
            model=self.model,
            optimizer=torch.optim.Adam(self.model.parameters(), lr=training.lr),
            criterion=nn.CrossEntropyLoss(),
            train_mb_size=training.batch_size,
            train_epochs=training.epochs,
            evaluator=None,
            **settings,
        )

    def make_strategy(self, **settings):
        return supervised.Naive(**settings)

    def learn(self, task):
        """Let the strategy train, with a fresh optimiser for each task as ours have."""
        one = experience(task, len(self.n_classes))
        self.n_classes[task.name] = task.n_classes
        self.draw(task.name)
        self.strategy.train(one, eval_streams=[], reset_optimizer_state=True)

    @torch.no_grad()
    def predict(self, name, X):
        number = list(self.n_classes).index(name)
        self.model.eval()
        out = [
            avalanche_forward(self.model, x, torch.full((len(x),), number))
            for x in torch.as_tensor(X).split(1024)
        ]
        return torch.cat(out)[:, : self.n_classes[name]].argmax(1).numpy()

    def n_numbers(self):
        """Count the network, with heads of as many outputs as the tasks have classes."""
        return self.n_body() + (self.model.heads.in_features + 1) * sum(self.n_classes.values())

    def n_body(self):
        """Count what all tasks share."""
        return sum(tensor.numel() for tensor in self.model.body.state_dict().values())


class EWC(Naive):
    """The penalty of each earlier task, apart from the others."""

    def make_strategy(self, strength, **settings):
        return supervised.EWC(ewc_lambda=strength, mode="separate", **settings)

    def n_numbers(self):
        """Count what the penalties need."""
        (plugin,) = (p for p in self.strategy.plugins if hasattr(p, "importances"))
        kept = [*plugin.importances.values(), *plugin.saved_params.values()]
        return super().n_numbers() + sum(p.data.numel() for one in kept for p in one.values())


class LwF(Naive):
    """Distillation; the copy that it keeps between tasks is the network, so it is not counted."""

    def make_strategy(self, strength, **settings):
        return supervised.LwF(alpha=strength, temperature=2, **settings)


class Replay(Naive):
    """A batch of kept rows is joined to every batch.

    The library's memory has one size; the number of tasks divides it evenly from the start.
    """

    def make_strategy(self, memory, n_tasks, **settings):
        size = memory * n_tasks
        policy = ExperienceBalancedBuffer(size, adaptive_size=False, num_experiences=n_tasks)
        self.plugin = ReplayPlugin(size, storage_policy=policy)
        return supervised.Naive(plugins=[self.plugin], **settings)

    def n_numbers(self):
        """Count the rows and their labels too, which the library keeps as they are."""
        buffer = self.plugin.storage_policy.buffer
        return super().n_numbers() + len(buffer) * (buffer[0][0].numel() + 1)


class PackNet(Naive):
    """Each task keeps an equal part of the weights; a share of the epochs comes after pruning."""

    model_type = PackedWithHeads

    def make_strategy(self, n_tasks, retrain, **settings):
        self.n_tasks = n_tasks
        return supervised.PackNet(
            post_prune_epochs=round(retrain * settings["train_epochs"]),
            prune_proportion=lambda number: 1 - 1 / (n_tasks - number),
            **settings,
        )

    def n_body(self):
        """Count it without the masks."""
        return sum(parameter.numel() for parameter in self.model.wrappee.parameters())

    def n_bytes(self):
        """Count for each weight as many bits as it takes to name its owner, or that it has none."""
        bits = math.ceil(math.log2(self.n_tasks + 1))
        weights = sum(p.numel() for p in self.model.wrappee.parameters() if p.dim() > 1)
        return 4 * self.n_numbers() + weights * bits // 8


def contestants(stream, names=None):
    """Return those that are named, or all that can learn the stream."""
    outputs = {"n_outputs": max(task.n_classes for task in stream.tasks)}
    counted = {**outputs, "n_tasks": len(stream.tasks)}
    found = {
        "fine-tuning": Contestant(Naive, outputs),
        "EWC": Contestant(EWC, outputs, {"strength": [1e2, 1e3, 1e4, 1e5, 1e6, 1e7]}),
        "LwF": Contestant(LwF, outputs, {"strength": [0.04, 0.12, 0.4, 1.2, 4, 12]}),
        "replay, 50 rows": Contestant(Replay, {**counted, "memory": 50}),
        "replay, 200 rows": Contestant(Replay, {**counted, "memory": 200}),
    }
    if not parts(stream.network(n_classes=2))["norm"]:
        found["PackNet"] = Contestant(PackNet, counted, CONTESTANTS["PackNet"].grid)
    found = {f"{name} (Avalanche)": one for name, one in found.items()}
    return {name: found[name] for name in names or found}


def main(arguments=None):
    options = parser("with_avalanche", __doc__, str, seeds=5, jobs=1).parse_args(arguments)
    compare(options, contestants, avalanche=avalanche.__version__)


if __name__ == "__main__":
    main()
