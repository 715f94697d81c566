"""Files in their original formats, as arrays."""

import gzip
import io
import math
import struct
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image


def read_idx(path):
    """Return the bytes of an IDX file, gzipped or not, as an array of its shape."""
    content = Path(path).read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if content[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is no IDX file of bytes: it has to begin with 00 00 08.")
    n_axes = content[3]
    shape = struct.unpack_from(f">{n_axes}I", content, 4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes)
    if len(values) != math.prod(shape):
        raise ValueError(
            f"{path} holds {len(values)} bytes where its head promises {shape}; "
            "it is cut off or damaged. Fetch it again."
        )
    return values.reshape(shape)


def zipped_images(path):
    """Yield the name, with slashes, and the content of the images in a zip archive."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            hidden = name.rsplit("/", 1)[-1].startswith("._")  # what macOS puts into its archives
            if name.lower().endswith((".png", ".jpg")) and not hidden:
                yield name, archive.read(name)


def read_image(content, mode, size=None):
    """Return an image, in the format that its bytes say, as (channels, height, width).

    The mode is "L" for grey or "RGB" for colour; `size` is a height and width to reduce it to.
    """
    with Image.open(io.BytesIO(content)) as image:
        image = image.convert(mode)
        if size is not None:
            image = image.resize((size, size), Image.Resampling.BOX)
        values = np.asarray(image)
    return values[None] if mode == "L" else values.transpose(2, 0, 1)


def read_keel(path):
    """Return the columns and the labels, as text, of a KEEL file; lines with @ describe it."""
    lines = Path(path).read_text().splitlines()
    cells = [line.split(",") for line in lines if line.strip() and not line.startswith("@")]
    table = np.char.strip(np.array(cells))
    return table[:, :-1].astype(np.float32), table[:, -1]
