"""What a file is that was taken for another, from how it begins."""

import re
from pathlib import Path

# As joblib and pickle begin: protocols 2 to 5; zlib, gzip, bz2, xz, lzma and lz4.
_PICKLED = rb"\x80[\x02-\x05]"
_COMPRESSED = rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b|BZh|\xfd7zXZ|\x5d\x00\x00|\x04\x22\x4d\x18"
_SAFETENSORS = rb".{8}\{"  # the eight bytes are a number, and may be any

_PICKLE = "a joblib file or a pickle; if you trust its author, open it with joblib.load"
_KINDS = (
    (_SAFETENSORS, "a safetensors file; open it with sklearn_halrp.persistence.load"),
    (_PICKLED, _PICKLE),
    (_COMPRESSED, f"{_PICKLE} (compressed)"),
    (rb"PK\x03\x04", "a zip archive, as torch.save and numpy.savez write them"),
    (rb"[\t\n\r -~]+\Z", "text"),
)


def may_be_safetensors(begin: bytes) -> bool:
    """Whether a file that begins so may be one of safetensors."""
    return bool(re.match(_SAFETENSORS, begin, re.DOTALL))


def is_pickle(begin: bytes) -> bool:
    """Whether a file begins as those of pickle and joblib do, compressed or not.

    >>> import pickle
    >>> is_pickle(pickle.dumps([1])), is_pickle(b"BZh9"), is_pickle(b"SQLite format 3")
    (True, True, False)
    """
    return bool(re.match(_PICKLED + b"|" + _COMPRESSED, begin))


def looks_like(path: Path) -> str:
    """Return the end of a sentence that says what a file looks like.

    Nobody may have it open as a database: a file that is closed takes the locks of its process
    along.
    """
    with open(path, "rb") as file:
        begin = file.read(64)
    for pattern, text in _KINDS:
        if re.match(pattern, begin, re.DOTALL):
            return f"; it looks like {text}."
    return ", or it is damaged: it does not begin like one."
