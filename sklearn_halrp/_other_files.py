"""What a file is that was taken for a store, from how it begins."""

import re
from pathlib import Path

_PICKLE = "a joblib file or a pickle; if you trust its author, open it with joblib.load"
_KINDS = (
    (rb".{8}\{", "a safetensors file; open it with sklearn_halrp.persistence.load"),
    (rb"\x80[\x02-\x05]", _PICKLE),
    (rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b|BZh|\xfd7zXZ|\x5d\x00\x00", f"{_PICKLE} (compressed)"),
    (rb"PK\x03\x04", "a zip archive, as torch.save and numpy.savez write them"),
    (rb"[\t\n\r -~]+\Z", "text"),
)


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
