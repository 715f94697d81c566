"""Files that cannot execute code: numbers as safetensors, all else as JSON.

A pickle, and so a joblib file, runs whatever its author put into it, so load one only if you
trust its author. A file of this module holds numbers and settings alone; the code, a skorch
net with its module, is yours.
"""

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
from numpy.typing import NDArray
from skorch import NeuralNet

from sklearn_halrp._described import check_settings, described, rebuilt, undamaged
from sklearn_halrp._estimator import ContinualEstimator
from sklearn_halrp._faults import let_through
from sklearn_halrp._files import replacing
from sklearn_halrp._intake import dtype_of
from sklearn_halrp._other_files import is_pickle, may_be_safetensors
from sklearn_halrp._plain import digest, flat, nested, plain_number
from sklearn_halrp._saved import (
    FORMAT,
    check_format,
    learned_to_state,
    state_of_earlier_file,
    tasks_from_state,
)
from sklearn_halrp._soundness import check_learned

__all__ = ["dump", "load", "save"]

_KEY = "sklearn_halrp"


def save(estimator: ContinualEstimator, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator to a file, without its net.

    Parameters
    ----------
    estimator : ContinualClassifier or ContinualRegressor
        Fitted. The names of its columns, if X had any, are kept too.
    path : str or Path
        The file, which is replaced when all is written.

    Raises
    ------
    TypeError
        If it is neither: of a Pipeline save the last step, and of a subclass make a plain
        ContinualClassifier or ContinualRegressor, since a file holds no code.
    sklearn.exceptions.NotFittedError
        If no task has been learned.
    ValueError
        If a parameter has a value that it cannot have, or more was learned than a file holds.
    ImportError
        If safetensors is not installed.

    See Also
    --------
    load : The way back.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_halrp import ContinualClassifier
    >>> from sklearn_halrp.persistence import load, save
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = ContinualClassifier(random_state=0).fit(X[:200] / 16, y[:200])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(clf, Path(folder) / "digits.safetensors")
    ...     again = load(Path(folder) / "digits.safetensors")
    >>> bool((again.predict_proba(X / 16) == clf.predict_proba(X / 16)).all())
    True
    """
    about = {"format": FORMAT, **described(estimator)}
    arrays: dict[str, NDArray[Any]] = {}
    learned = learned_to_state(estimator._learned, with_net=False, dtype=dtype_of(estimator))
    about["learned"] = flat(learned, "", arrays)
    about["digest"] = digest(about, arrays)
    text = json.dumps(about, default=plain_number)
    written = _safetensors().save(arrays, metadata={_KEY: text})
    _header_of(written)  # so that nothing is written that could not be read
    with replacing(path) as file:
        file.write(written)


def dump(
    model: Any, path: str | os.PathLike[str], compress: int | bool | tuple[str, int] = 0
) -> None:
    """Write a model with joblib, as carefully as `save` does.

    ``joblib.dump`` writes over the file that is there, so whoever reads meanwhile gets half a
    model, and a process that is killed leaves none. This one puts the new file in place when
    all of it is on the disk. ``joblib.load`` reads it, and runs whatever its author put into it.

    Parameters
    ----------
    model : estimator
        A continual estimator, a pipeline or a search around one, or any that joblib takes.
    path : str or Path
        The file, which is replaced when all is written.
    compress : int, bool or tuple, default=0
        As of ``joblib.dump``; the ending of the file's name plays no part.

    See Also
    --------
    save : Files that cannot execute code.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import joblib
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_halrp import ContinualClassifier
    >>> from sklearn_halrp.persistence import dump
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = ContinualClassifier(random_state=0).fit(X[:200] / 16, y[:200])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     dump(clf, Path(folder) / "digits.joblib")
    ...     again = joblib.load(Path(folder) / "digits.joblib")
    >>> bool((again.predict_proba(X / 16) == clf.predict_proba(X / 16)).all())
    True
    """
    with replacing(path) as file:
        joblib.dump(model, file, compress=compress)


def load(
    path: str | os.PathLike[str],
    net: NeuralNet | None = None,
    *,
    importance: Callable[..., Any] | None = None,
) -> Any:
    """Read an estimator from a file that `save` wrote.

    Nothing in the file is executed, whoever wrote it.

    Parameters
    ----------
    path : str or Path
    net : skorch.NeuralNetClassifier or skorch.NeuralNetRegressor, optional
        As the estimator had it: with the same module and arguments. It may be left out
        for the default network alone.
    importance : callable or str, optional
        As the estimator had it, where it was none of those that go by a name. Only tasks that
        are learned later depend on it, so a name will do where those are not to come.

    Returns
    -------
    ContinualClassifier or ContinualRegressor
        It predicts as before, to the last bit on the same kind of machine, and goes on
        learning as if nothing had happened. A `random_state` that was a generator is None.

    Raises
    ------
    ValueError
        If the file is none of `save`, is damaged, or does not fit the net; if it needs a net or
        an importance that is not given, or this has no such name.
    TypeError
        If net or importance is of another type.
    ImportError
        If safetensors is not installed.

    Warns
    -----
    UserWarning
        If the net's module has another name than the one that was saved: if it is another
        module, of the same shapes, the predictions are others too. If the importance has another
        name: if it is another one, later tasks get other ranks.

    Examples
    --------
    >>> from sklearn_halrp.persistence import load
    >>> load("model.safetensors", net=net)  # doctest: +SKIP
    """
    saved = _read(path)
    estimator, others = rebuilt(saved, path, net, importance)
    for text in others:
        warnings.warn(f"{path}: {text}", stacklevel=2)
    return estimator


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the settings and the arrays of a file, which is opened once."""
    safetensors = _safetensors()
    with Path(path).open("rb") as file:
        _check_kind(path, file.peek(_KIND_BYTES)[:_KIND_BYTES])
        content = file.read()
    try:
        about = json.loads(_header_of(content)["__metadata__"][_KEY])
        arrays = safetensors.load(content)
    except Exception as error:
        let_through(error, answer=RecursionError)
        text = str(error) if type(error) is ValueError else repr(error)
        raise ValueError(
            f"{path} is no file of sklearn_halrp.persistence.save, or is damaged: {text}."
        ) from error
    del content
    with undamaged(path):
        number = about["format"]
    if isinstance(number, int):
        check_format(number, path)
    with undamaged(path):
        found = about.pop("digest", None)
        if (found is not None or number >= 5) and found != digest(about, arrays):
            raise ValueError("it is not what was saved. Take another copy of the file")
        if number < 4:
            saved = {**state_of_earlier_file(about, arrays), "objects": {}}
        else:
            saved = {**about, "learned": nested(about["learned"], arrays)}
        check_learned(saved["learned"])
        network = saved["learned"]["_network"]
        if network["format"] != number:
            raise ValueError("it has two formats")
        network["tasks"] = tasks_from_state(network)
        if not network["tasks"]:
            raise ValueError("it has no tasks")
        check_settings(saved)
    return saved


def _check_kind(path: str | os.PathLike[str], begin: bytes) -> None:
    """Refuse a file that begins as one of another kind does.

    Raises
    ------
    ValueError
    """
    if may_be_safetensors(begin):
        return
    if begin.startswith(b"SQLite format 3\0"):
        raise ValueError(
            f"{path} is a store, or another SQLite file: open it with sklearn_halrp.store.Store."
        )
    if is_pickle(begin):
        raise ValueError(
            f"{path} looks like a pickle: use joblib.load, if you trust its author. It is no file "
            "of sklearn_halrp.persistence.save."
        )
    raise ValueError(
        f"{path} is no file of sklearn_halrp.persistence.save, or its beginning is damaged."
    )


_KIND_BYTES = 16


def _header_of(content: bytes) -> dict[str, Any]:
    """Return the header of a safetensors file.

    Raises
    ------
    ValueError
        If it is longer than the file, or than safetensors reads, or not nested as it should be.
    """
    size = int.from_bytes(content[:8], "little")
    if 8 + size > len(content):
        raise ValueError(
            f"It has {len(content)} bytes, and a header of {size} by its first eight. Take another "
            "copy of the file"
        )
    if size > _MOST_HEADER:
        raise ValueError(
            f"A header of {size} bytes, and safetensors reads up to {_MOST_HEADER}. Of so many "
            "tasks make a sklearn_halrp.store.Store"
        )
    header = json.loads(content[8 : 8 + size])
    if not isinstance(header, dict):
        raise ValueError("A header that is no table")
    return header


_MOST_HEADER = 100_000_000


def _safetensors() -> ModuleType:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "Safe files need safetensors: pip install 'sklearn-halrp[safe]'. Without it, joblib "
            "keeps an estimator as well, in files to be opened only if you trust their author."
        ) from error
    return safetensors.numpy
