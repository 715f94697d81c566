"""Files in their original formats, as arrays."""

import gzip
import io
import math
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np


def read_idx(path):
    """Return the bytes of an IDX file, gzipped or not, as an array of its shape.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    ndarray of uint8
    """
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


def entries(path, wanted):
    """Yield the name and content of the files in a folder, zip or tar archive.

    Parameters
    ----------
    path : Path
    wanted : callable
        Told the name, with slashes, it says whether the content is to be read.
    """
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path.parent).as_posix()
            if file.is_file() and wanted(name):
                yield name, file.read_bytes()
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if not name.endswith("/") and wanted(name):
                    yield name, archive.read(name)
    else:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and wanted(member.name):
                    yield member.name, archive.extractfile(member).read()


class _Arrays(pickle.Unpickler):
    """Reads dicts, lists, strings and numpy arrays, and nothing that could run code."""

    known = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module, name):
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return lambda text, encoding: text.encode("latin1")
        if (module, name) not in self.known:
            raise pickle.UnpicklingError(
                f"the file wants {module}.{name}, which no file of arrays needs; do not trust it"
            )
        return self.known[module, name]


def read_pickle(content):
    """Return what a pickle of Python 2 holds: dicts with keys of bytes, lists and arrays.

    The file is the user's own. Still only arrays are made from it; anything else is refused.
    """
    return _Arrays(io.BytesIO(content), encoding="bytes").load()


def read_image(content, mode, size=None):
    """Return an image, in the format that its bytes say, as (channels, height, width).

    Parameters
    ----------
    content : bytes
    mode : {"L", "RGB"}
        Grey or colour.
    size : int, optional
        Height and width to reduce it to.

    Returns
    -------
    ndarray of uint8
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("Images need Pillow: pip install pillow") from error
    with Image.open(io.BytesIO(content)) as image:
        image = image.convert(mode)
        if size is not None:
            image = image.resize((size, size), Image.Resampling.BOX)
        values = np.asarray(image)
    return values[None] if mode == "L" else values.transpose(2, 0, 1)


def read_keel(path):
    """Return the columns and labels of a KEEL file; lines with @ are its description.

    Returns
    -------
    X : ndarray of float32, shape (n_rows, n_columns)
    labels : ndarray of str, shape (n_rows,)
    """
    lines = Path(path).read_text().splitlines()
    cells = [line.split(",") for line in lines if line.strip() and not line.startswith("@")]
    table = np.char.strip(np.array(cells))
    return table[:, :-1].astype(np.float32), table[:, -1]
