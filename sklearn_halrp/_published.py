"""The settings of the publication, where the defaults are others."""

from typing import Any


def published_settings(n_tasks: int = 2, growth: float = 0.6) -> dict[str, Any]:
    """Return the published settings of a `ContinualClassifier` for small networks.

    They are those of LeNet in the paper and its code. The penalties varied from stream to
    stream there, lambda_1 (``l1_penalty``) from 1e-6 to 1e-4 and lambda_2 (``l2_penalty``)
    from 1e-4 to 1e-3; change them after.

    Parameters
    ----------
    n_tasks : int, default=2
        Tasks that will be learned, the first one included.
    growth : float, default=0.6
        Growth of all tasks together, published: 0.2 to 0.6. The paper bounds them together
        and `ContinualClassifier` each by itself, so each task after the first gets its part.

    Returns
    -------
    dict of str to object
        Keyword arguments of `ContinualClassifier`.

    Raises
    ------
    ValueError
        If there is no task after the first.

    References
    ----------
    arXiv:2311.15161, section 5.

    Examples
    --------
    >>> from sklearn_halrp import ContinualClassifier, published_settings
    >>> clf = ContinualClassifier(**published_settings(n_tasks=5))
    >>> clf.convolution, clf.growth_budget
    ('channel', 0.15)
    """
    if n_tasks < 2:
        raise ValueError(f"n_tasks counts the first task too, so it is at least 2; got {n_tasks}.")
    return {
        "start": "warm-up",
        "warmup_epochs": 1,
        "approximation_rate": 0.9,
        "max_rank": 100,
        "l1_penalty": 1e-6,
        "l2_penalty": 1e-4,
        "factor_lr_scale": 1.0,
        "average_last": 0.0,
        "prune_threshold": 1e-5,
        "growth_budget": growth / (n_tasks - 1),
        "retrain_epochs": 0,
        "precision": "full",
        "convolution": "channel",
        "importance": "empirical",
    }
