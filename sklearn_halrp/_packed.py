"""Nested data as one block of bytes that tells when it is damaged, and back.

A block is a digest of all that follows, the length of a text, the text, which is JSON, and the
arrays that this names, one after the other. Nothing in it is compressed or executed, so that what
is read is never larger than the block.
"""

import hashlib
import json
import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_halrp._plain import flat, nested, plain_number

_DIGEST = hashlib.sha256().digest_size
_LENGTH = struct.Struct("<Q")


def packed(value: Any) -> bytes:
    """Return nested data as a block; see `flat` for what it may hold.

    >>> unpacked(packed({"a": np.arange(3), "b": ["x", b"yz"]}))
    {'a': array([0, 1, 2]), 'b': ['x', b'yz']}
    """
    arrays: dict[str, NDArray[Any]] = {}
    value = flat(value, "", arrays)
    named = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    text = json.dumps({"value": value, "arrays": named}, default=plain_number)
    data = text.encode()
    data += b" " * (-(len(data) + _DIGEST + _LENGTH.size) % 16)  # so that arrays may be aligned
    parts = [_LENGTH.pack(len(data)), data, *(array.tobytes() for array in arrays.values())]
    body = b"".join(parts)
    return hashlib.sha256(body).digest() + body


def unpacked(block: bytes) -> Any:
    """Return the data of a block, with lists in place of tuples, and arrays that are read-only.

    Raises
    ------
    ValueError
        If the block is damaged.

    Examples
    --------
    >>> unpacked(packed([1, 2])[:-1])
    Traceback (most recent call last):
    ValueError: its bytes do not have the digest that was written with them
    """
    body = memoryview(block)[_DIGEST:]
    if hashlib.sha256(body).digest() != block[:_DIGEST]:
        raise ValueError("its bytes do not have the digest that was written with them")
    try:
        (length,) = _LENGTH.unpack_from(body)
        begin = _LENGTH.size + length
        about = json.loads(bytes(body[_LENGTH.size : begin]))
        arrays = {}
        for name, kind, shape in about["arrays"]:
            dtype = np.dtype(kind)
            if dtype.kind not in "biufc" or not all(size >= 0 for size in shape):
                raise ValueError(f"an array of type {kind} and shape {shape}")
            end = begin + math.prod(shape) * dtype.itemsize
            if end > len(body):
                raise ValueError(f"an array of shape {shape} that the block does not hold")
            arrays[name] = np.frombuffer(body[begin:end], dtype).reshape(shape)
            begin = end
        if begin != len(body):
            raise ValueError("more bytes than its arrays have")
        return nested(about["value"], arrays)
    except (KeyError, TypeError, RecursionError, struct.error) as error:
        raise ValueError(f"it is no block of this package: {error!r}") from error
