import pytest

from sklearn_halrp._pruning import MOST_PRUNED
from tests.conftest import make_classifier, permuted
from tests.modules import MLP


@pytest.mark.parametrize("budget", [0.4, 0.7])
def test_a_budget_that_binds_is_used_up(digits, budget):
    X, y = digits
    clf = make_classifier(approximation_rate=1.0, growth_budget=budget)
    clf.partial_fit(X[:200], y[:200], task_id=0)
    clf.partial_fit(permuted(X[:200], 1), y[:200], task_id=1)
    module = MLP()
    n_numbers = sum(parameter.numel() for parameter in module.parameters())
    shapes = [module.body[0].weight.shape, module.body[2].weight.shape]
    # What a task keeps in full (biases, head), and the scales.
    fixed = n_numbers - sum(shape.numel() for shape in shapes) + sum(map(sum, shapes))
    allowed = budget * n_numbers
    # Ranks: as high as they may be when MOST_PRUNED of their entries are to go.
    before = clf.report_[1]["n_numbers_before_pruning"]
    most = fixed + (allowed - fixed) / (1 - MOST_PRUNED)
    assert most - max(map(sum, shapes)) < before <= most
    # Pruning: just enough, but that a term with an empty side goes whole.
    assert allowed < before
    stored = clf.growth_[1] * n_numbers
    assert allowed - 1 - max(map(max, shapes)) < stored < allowed + 1e-6
