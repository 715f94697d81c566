"""The benchmark of the theorem: curvatures and the table beside independent truths."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear

from benchmarks import theorem
from benchmarks.methods import Training
from benchmarks.streams import load


def test_the_norm_of_the_hessian_is_its_largest_eigenvalue():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 3))
    X, y = torch.randn(40, 5), torch.randint(0, 3, (40,))

    def loss(weight):
        hidden = torch.tanh(linear(X, weight.reshape(6, 5), module[0].bias))
        return cross_entropy(module[3](hidden), y)

    hessian = torch.autograd.functional.hessian(loss, module[0].weight.detach().flatten())
    expected = torch.linalg.eigvalsh(hessian).abs().max()
    found = theorem.norm_of_hessian(module, "0.weight", X.numpy(), y.numpy())
    assert 0.95 * expected < found <= expected * 1.0001


def test_the_bound_is_half_the_norm_times_the_square_of_what_was_cut(monkeypatch):
    """Beside the report: prediction over importance is half the square of the same cut."""
    monkeypatch.setattr(theorem, "norm_of_hessian", lambda *_: 6.0)
    settings = {"importance": "empirical", "approximation_rate": 0.5, "warmup_epochs": 1}
    rows = theorem.increases(load("digits").first(2), Training(epochs=2), 0, settings)["rows"]
    assert rows
    for row in rows:
        square = 2 * row["predicted_increase"] / row["importance"]
        assert row["bound"] == pytest.approx(0.5 * 6.0 * square)


def test_the_module_that_is_kept_has_no_low_rank_terms(monkeypatch):
    seen = []
    monkeypatch.setattr(theorem, "norm_of_hessian", lambda module, *_: seen.append(module) or 1.0)
    settings = {"importance": "empirical", "approximation_rate": 0.5, "warmup_epochs": 1}
    stream = load("digits").first(2)
    theorem.increases(stream, Training(epochs=2), 0, settings)
    plain = stream.network(n_classes=seen[0](torch.as_tensor(stream.tasks[1].valid[0])).shape[1])
    assert [name for name, _ in seen[0].named_parameters()] == [
        name for name, _ in plain.named_parameters()
    ]


def test_the_table_counts_cuts_above_the_prediction_and_above_the_bound():
    def row(predicted, measured, bound):
        names = ("predicted_increase", "measured_increase", "bound")
        return {"layer": "w", **dict(zip(names, (predicted, measured, bound), strict=True))}

    key = {"importance": "fisher", "warmup": 1, "alpha": 0.5, "seed": 0}
    rows = [row(1, 2, 9), row(2, 6, 5), row(3, 4, 10), row(4, 3, 9.1), row(1e-13, 1, 0)]
    line = theorem.table(theorem.found([{"key": key, "rows": rows}])).splitlines()[-1]
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    # Ranks 1 2 3 4 and 1 4 3 2: 1 - 6 (0 + 4 + 0 + 4) / (4 * 15); ratios 2, 3, 4/3 and 3/4.
    assert cells[:5] == ["fisher, warm-up of 1", "4", "0.20", "1.7", "75 %"]
    # Ranks 2 1 4 3 and 1 4 3 2: 1 - 6 (1 + 9 + 1 + 1) / (4 * 15); ratios 4.5, 5/6, 2.5 and 3.
    assert cells[5:] == ["-0.20", "3", "25 %"]
