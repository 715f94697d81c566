"""LoRA and AdaLoRA as the library peft has them, on the base that our own have.

The library is imported when it is used; README.md says how to install it.
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.methods._method import WithOwn, head_of, logits, statistics, train


class Peft(WithOwn):
    """Train a network on the first task, and an adapter of the library on every other.

    Biases, norms and head belong to each task.

    Parameters
    ----------
    rank : int
        Of every adapted layer; AdaLoRA begins with twice as much and keeps this on average.
    scale : float
        Of the product of low rank.
    """

    kinds = (nn.Linear, nn.Conv2d)

    def __init__(self, network, training, seed, rank=4, scale=1.0):
        super().__init__(network, training, seed)
        self.rank, self.scale = rank, scale
        self.adapted = {}

    def config(self, n_steps, **common):
        """Return the library's configuration of an adapter that is trained so many steps."""
        from peft import LoraConfig

        alpha = self.scale * self.rank
        return LoraConfig(r=self.rank, lora_alpha=alpha, bias="all", **common)

    def learn(self, task):
        if self.first() is None:
            self.begin(task)
            own = self.own[task.name]
            self.fit(task, lambda: own, own.values())
        else:
            self.adapt(task)

    def adapt(self, task):
        """Train an adapter, by the library's own module."""
        from peft import get_peft_model

        self.draw(task.name)
        module = self.network(n_classes=task.n_classes)
        base, head = self.first(), head_of(module)[0]
        kept = {name: base[name].detach() for name in base if name not in self.parts["head"]}
        module.load_state_dict(kept, strict=False)
        layers = {
            name: part for name, part in module.named_modules() if isinstance(part, self.kinds)
        }
        norms = {name.rpartition(".")[0] for name in self.parts["norm"]}
        X, y = map(torch.as_tensor, task.train)
        n_steps = self.training.epochs * -(-len(y) // self.training.batch_size)
        config = self.config(
            n_steps, target_modules=[*(layers.keys() - {head})], modules_to_save=[head, *norms]
        )
        model = get_peft_model(module, config)
        parameters = [p for p in model.parameters() if p.requires_grad]

        def step(rows):
            return cross_entropy(logits(model, {}, X[rows], True), y[rows])

        train(step, parameters, len(y), self.training, after=self.after(model))
        if self.training.anew:
            statistics(model, dict(model.named_buffers()), X, self.training.batch_size)
        self.adapted[task.name] = model

    def after(self, model):
        """Return what is called after each step, if anything is."""

    def outputs(self, name, X):
        """Return logits."""
        if name in self.own:
            return super().outputs(name, X)
        with torch.no_grad():
            batches = torch.as_tensor(X).split(1024)
            return torch.cat([logits(self.adapted[name], {}, x, False) for x in batches])

    def n_numbers(self):
        """Count what is trained, and the statistics of the tasks' norms."""
        numbers = super().n_numbers()
        for model in self.adapted.values():
            buffers = (b for name, b in model.named_buffers() if "modules_to_save" in name)
            kept = [p for p in model.parameters() if p.requires_grad]
            numbers += sum(tensor.numel() for tensor in [*kept, *buffers])
        return numbers


class AdaLoRA(Peft):
    """Ranks are taken from where they matter least (Zhang et al., ICLR 2023); linear layers only.

    The last third of the steps has the final ranks.
    """

    kinds = (nn.Linear,)

    def config(self, n_steps, **common):
        from peft import AdaLoraConfig

        return AdaLoraConfig(
            target_r=self.rank,
            init_r=2 * self.rank,
            lora_alpha=self.scale * self.rank,
            total_step=n_steps,
            tinit=n_steps // 10,
            tfinal=n_steps // 3,
            deltaT=max(1, n_steps // 50),
            bias="all",
            **common,
        )

    def after(self, model):
        count = iter(range(1, 10**9))
        return lambda: model.base_model.update_and_allocate(next(count))

    def n_numbers(self):
        """Count no row and column whose scale is zero."""
        numbers = super().n_numbers()
        for model in self.adapted.values():
            for name, scales in model.named_parameters():
                if ".lora_E." in name:
                    layer = model.get_submodule(name.split(".lora_E.")[0])
                    dropped = int((scales == 0).sum())
                    numbers -= dropped * (1 + layer.in_features + layer.out_features)
        return numbers
