"""Draws and tables in files: CSV, NPZ and netCDF."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from simgraph import files
from simgraph.errors import MissingExtraError, QueryError
from simgraph.query import Samples

__all__ = ["check_out", "write_csv", "write_samples"]

_FORMATS = (".csv", ".npz", ".nc")


def check_out(path: Path) -> None:
    """Checks that draws can be written to a file, before any are made.

    Raises:
        QueryError: If its name ends in none of ``.csv``, ``.npz`` and ``.nc``.
        MissingExtraError: If a package for its format is not installed.
    """
    if path.suffix not in _FORMATS:
        raise QueryError(f"--out {path} is neither .csv nor .npz nor .nc.")
    if path.suffix == ".nc":
        for package in ("xarray", "h5netcdf", "h5py"):
            if find_spec(package) is None:
                raise MissingExtraError(package, "arviz", f"--out {path}")


def write_samples(path: Path, samples: Samples) -> None:
    """Writes draws in the format that the name of the file asks for, atomically.

    Args:
        path: ``.csv``: one column per element; ``.npz``: one array per variable; ``.nc``: netCDF with named axes,
            for ``xarray.open_dataset``.
        samples: The draws.
    """
    if path.suffix == ".csv":
        write_csv(path, samples.columns())
    elif path.suffix == ".npz":
        files.write_with(path, lambda part: np.savez_compressed(part, **samples.to_numpy()))  # type: ignore[arg-type]
    else:
        files.write_with(path, lambda part: samples.to_xarray().to_netcdf(part, engine="h5netcdf"))


def write_csv(path: Path, columns: Mapping[str, Any]) -> None:
    """Writes columns by name, atomically."""

    def write(part: str) -> None:
        with open(part, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))

    files.write_with(path, write)
