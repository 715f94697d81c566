"""What fitted searches and pipelines end in."""

from typing import Any

from sklearn.pipeline import Pipeline


def innermost(estimator: Any, X: Any = None) -> tuple[Any, Any]:
    """Return what fitted searches and pipelines end in, and X as it arrives there."""
    if hasattr(estimator, "best_estimator_"):
        return innermost(estimator.best_estimator_, X)
    if isinstance(estimator, Pipeline):
        before = estimator[:-1]
        return innermost(estimator[-1], X if X is None or not len(before) else before.transform(X))
    return estimator, X
