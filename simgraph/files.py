"""One file format for everything that is kept: a safetensors file with a JSON manifest in its header.

Reading such a file runs no code: safetensors holds plain arrays, JSON holds plain data. Files are
written under a temporary name in the same folder and renamed, so that a reader never sees half a file
and an interrupted write leaves the old one in place.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from simgraph.errors import FileFormatError

__all__ = ["FORMAT", "read", "write", "write_with"]

FORMAT = 1
"""Version of the format that this version writes; it reads all versions up to this one."""


def write(
    path: str | os.PathLike[str], kind: str, arrays: Mapping[str, np.ndarray], manifest: Mapping[str, Any]
) -> None:
    """Writes arrays and a manifest to one file, atomically.

    Args:
        path: Where to write; an existing file is replaced.
        kind: What the file holds, for example ``"traces"``; checked when it is read.
        arrays: Arrays by name.
        manifest: JSON-serialisable data.
    """
    header = {"simgraph": json.dumps({"format": FORMAT, "kind": kind, **manifest}, allow_nan=True)}
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    write_with(path, lambda temporary: save_file(contiguous, temporary, metadata=header))


def write_with(path: str | os.PathLike[str], writer: Callable[[str], Any]) -> None:
    """Lets ``writer`` fill a temporary file beside ``path``, then renames it to ``path``."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=target.suffix)
    os.close(handle)
    try:
        writer(temporary)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads a file that :func:`write` wrote.

    Args:
        path: The file.
        kind: What the caller expects the file to hold.

    Returns:
        The arrays and the manifest.

    Raises:
        FileNotFoundError: If there is no such file.
        FileFormatError: If the file is damaged, foreign, of another kind, or of a newer version.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{os.fspath(path)} is not a file.")
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise FileFormatError(
            f"{os.fspath(path)} cannot be read: it is damaged, cut short, or not a simgraph file.\n  ({error})"
        ) from error
    return arrays, _manifest(path, kind, header)


def _manifest(path: str | os.PathLike[str], kind: str, header: Mapping[str, str]) -> dict[str, Any]:
    try:
        manifest = json.loads(header["simgraph"])
        version, found = manifest["format"], manifest["kind"]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise FileFormatError(f"{os.fspath(path)} has no simgraph manifest: another program wrote it.") from None
    if not isinstance(version, int) or version < 1:
        raise FileFormatError(f"{os.fspath(path)} has the format version {version!r}, which never existed.")
    if version > FORMAT:
        raise FileFormatError(
            f"{os.fspath(path)} has format version {version}; this version of simgraph reads up to {FORMAT}.\n"
            "  Upgrade with: pip install --upgrade simgraph"
        )
    if found != kind:
        raise FileFormatError(f"{os.fspath(path)} holds {found!r}, not {kind!r}.")
    return dict(manifest)
