"""Several tasks in one call: one by one, or in processes."""

from collections.abc import Iterable, Sized
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend
from skorch import NeuralNet

from sklearn_halrp._faults import let_through
from sklearn_halrp._joint import learn_joint
from sklearn_halrp._learning import learn_base, learn_task
from sklearn_halrp._network import Network
from sklearn_halrp._processes import is_shared
from sklearn_halrp._saved import network_from_state, network_to_state
from sklearn_halrp._task import Task
from sklearn_halrp._training import writes_files
from sklearn_halrp._visit import Lesson, Settings

try:
    from joblib.externals import cloudpickle
except ImportError:  # since joblib 1.6 it is a package of its own
    import cloudpickle


def learn_all(
    recipe: NeuralNet,
    network: Network,
    lessons: Iterable[Lesson],
    settings: Settings,
    root_seed: int,
    n_jobs: int | None = None,
    builder: NeuralNet | None = None,
) -> Network:
    """Return a network in which all lessons are learned; the given one is kept.

    The base is trained first, if the first lesson is to train it, or all of them are. Given the
    base, tasks do not depend on each other, so they may be learned in parallel processes: the
    result is the same. Each process uses as many threads as the caller. They are learned one by one
    where processes would share files, or every step with yet others, or where a callback
    cannot be sent to them.

    Parameters
    ----------
    lessons : list of Lesson
    n_jobs : int, optional
        Processes, as joblib understands it.
    builder : skorch.NeuralNet, optional
        The net that built the base, if that is another than `recipe`.
    recipe, network, settings, root_seed
        As for `learn_base`.

    Returns
    -------
    Network
    """
    lessons = list(lessons)
    if trained_by_all(network, lessons, base=settings.base):
        network = learn_joint(recipe, network, lessons, settings, root_seed)
    elif network.trains_base(lessons[0].task_id):
        network = learn_base(recipe, network, lessons.pop(0), settings, root_seed)
    if not lessons:
        return network
    alone = _one_by_one(recipe) or settings.start == "transfer"  # which looks at all tasks
    if alone or effective_n_jobs(n_jobs) == 1:
        tasks, so_far = [], network
        for lesson in lessons:
            tasks.append(learn_task(recipe, so_far, lesson, settings, root_seed))
            if settings.start == "transfer":  # which may begin from those before
                so_far = so_far.with_task(lesson.task_id, tasks[-1])
    else:
        base = _Parcel(_packed(network.without_tasks()), network.n_bytes)
        tasks = Parallel(n_jobs=n_jobs, mmap_mode="c")(
            delayed(_learn_elsewhere)(
                torch.get_num_threads(),
                recipe,
                builder or recipe,
                base,
                _Parcel((lesson, network.tasks.get(lesson.task_id)), lesson.X.nbytes),
                settings,
                root_seed,
            )
            for lesson in lessons
        )
    for lesson, task in zip(lessons, tasks, strict=True):
        network = network.with_task(lesson.task_id, task)
    return network


def trained_by_all(network: Network, lessons: Sized, base: str) -> bool:
    """Whether the lessons of a first call train the base together.

    One alone trains it as the first task does.
    """
    return base == "joint" and len(lessons) > 1 and not network.frozen and not network.tasks


def _one_by_one(recipe: NeuralNet) -> bool:
    """Whether tasks must not be learned at the same time, whatever n_jobs says.

    Not every backend listens to ``n_jobs=1``.
    """
    backend, _ = get_active_backend()
    # Threads share one state of random numbers, checkpoints their files, and the processes of
    # an accelerator every step.
    shares = writes_files(recipe) or is_shared(recipe) or _stay_here(recipe)
    return shares or getattr(backend, "uses_threads", False)


def _stay_here(recipe: NeuralNet) -> bool:
    """Whether callbacks cannot go to other processes, such as with an open file."""
    try:
        cloudpickle.dumps([v for name, v in vars(recipe).items() if name.startswith("callbacks")])
    except Exception as error:
        let_through(error)
        return True
    return False


class _Parcel:
    """Names its size, by which dask decides to send it once and apart from the call."""

    def __init__(self, contents: Any, n_bytes: int) -> None:
        self.contents = contents
        self.n_bytes = n_bytes

    def __sizeof__(self) -> int:
        return self.n_bytes


def _packed(network: Network) -> Any:
    """Return a network for other processes: pickled, or where it cannot be, as plain arrays."""
    try:
        return np.frombuffer(cloudpickle.dumps(network), dtype=np.uint8)
    except Exception as error:  # such as those of parametrised modules
        let_through(error)
        return network_to_state(network)


def _learn_elsewhere(
    n_threads: int,
    recipe: NeuralNet,
    builder: NeuralNet,
    base: _Parcel,
    task: _Parcel,
    settings: Settings,
    root_seed: int,
) -> Task:
    """Learn a task in another process, which others may use afterwards."""
    own = torch.get_num_threads()
    try:
        if own != n_threads:
            torch.set_num_threads(n_threads)
        if isinstance(base.contents, dict):
            network = network_from_state(builder, base.contents, root_seed)
        else:
            network = cloudpickle.loads(base.contents.tobytes())
        lesson, known = task.contents
        if known:
            network = network.with_task(lesson.task_id, known)
        return learn_task(recipe, network, lesson, settings, root_seed)
    finally:
        if own != n_threads:
            torch.set_num_threads(own)
