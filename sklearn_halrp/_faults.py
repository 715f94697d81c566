"""Which errors of a trial are no answer, since they say nothing of what was tried."""

import re

import torch

# What was tried may be sound, and there was no memory, stack or time left for it; or the user
# wants a warning to be an error.
_NO_ANSWER = (MemoryError, torch.OutOfMemoryError, RecursionError, TimeoutError, Warning)
# Other allocators of torch raise a plain RuntimeError.
_NO_MEMORY = re.compile("DefaultCPUAllocator|out of memory|ALLOC_FAILED")


def let_through(error: Exception, answer: type[Exception] | tuple[()] = ()) -> None:
    """Raise an error again that is not the fault of what was tried.

    Parameters
    ----------
    error : Exception
        Caught in a trial. An interruption is no `Exception`, and passes anyway.
    answer : type of errors, optional
        That do say something here, such as a recursion in a file that is read.

    Examples
    --------
    >>> let_through(ValueError("shapes do not match"))
    >>> let_through(MemoryError("no room"))
    Traceback (most recent call last):
    MemoryError: no room
    """
    no_memory = isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))
    if no_memory or (isinstance(error, _NO_ANSWER) and not isinstance(error, answer)):
        raise error
