import pytest

from sklearn_halrp import ContinualClassifier, published_settings


def test_they_are_those_of_the_paper():
    clf = ContinualClassifier(**published_settings(n_tasks=10))
    assert (clf.approximation_rate, clf.max_rank, clf.warmup_epochs) == (0.9, 100, 1)
    assert (clf.convolution, clf.importance) == ("channel", "empirical")
    assert (clf.retrain_epochs, clf.precision) == (0, "full")
    assert 9 * clf.growth_budget == pytest.approx(0.6)


def test_every_setting_of_the_method_is_among_them():
    other = {"net", "base", "head", "task_column", "dtype", "random_state", "n_jobs"}
    other |= {"cache_bytes", "verbose", "class_weight", "joint_sampling", "least_gain"}
    other |= {"measured_losses"}
    assert set(published_settings()) == set(ContinualClassifier().get_params()) - other


def test_one_task_has_no_growth_to_bound():
    with pytest.raises(ValueError, match="at least 2"):
        published_settings(n_tasks=1)
