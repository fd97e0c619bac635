"""Draws for other libraries: pandas, xarray, ArviZ.

Axes are called as ArviZ calls them: ``draw`` (and ``chain``) run over draws, plates keep their names, and
axes without a name of their own are ``theta_dim_0``, ``theta_dim_1``, ... ; ``batch`` runs over pieces of evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from simgraph.errors import MissingExtraError, QueryError, listed
from simgraph.query.elements import Axes, columns
from simgraph.version import __version__

__all__ = ["axis_names", "to_arviz", "to_pandas", "to_xarray"]


def to_pandas(values: Mapping[str, Tensor], axes: Axes, *, batched: bool) -> Any:
    """Returns a data frame with one column per element.

    Raises:
        MissingExtraError: If pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise MissingExtraError("pandas", "pandas", "Samples.to_pandas()") from None
    return pandas.DataFrame(columns(values, batched=batched, axes=axes))


def to_xarray(values: Mapping[str, Tensor], axes: Axes, attributes: Mapping[str, Any], *, batched: bool) -> Any:
    """Returns an ``xarray.Dataset`` with the dimensions ([batch,] draw, *axes of the variable).

    Args:
        values: Tensors ([batch,] num_samples, *event_shape) by name.
        axes: What the axes of variables are called, and the points along them: coordinates, where they are numbers.
        attributes: What to keep about the whole set: numbers and text.
        batched: Whether the first axis runs over pieces of evidence.

    Raises:
        MissingExtraError: If xarray is not installed.
        QueryError: If a variable or a plate has the name of another dimension.
    """
    try:
        import xarray
    except ImportError:
        raise MissingExtraError("xarray", "arviz", "Samples.to_xarray()") from None
    lead = ("batch", "draw") if batched else ("draw",)
    named = {name: axis_names(name, value.dim() - len(lead), axes.dims) for name, value in values.items()}
    _check_names(named, lead)
    arrays = {name: ((*lead, *named[name]), value.numpy()) for name, value in values.items()}
    sizes = {axis: size for name, (own, array) in arrays.items() for axis, size in zip(own, array.shape, strict=True)}
    coords = {axis: np.arange(size) for axis, size in sizes.items()} | _numbers(axes)
    return xarray.Dataset(arrays, coords, {**_signature(), **attributes})


def to_arviz(values: Mapping[str, Tensor], axes: Axes, attributes: Mapping[str, Any], *, batched: bool) -> Any:
    """Returns an ArviZ ``DataTree`` with one group ``posterior`` of one chain; arguments as in :func:`to_xarray`.

    Dimensions are (chain, draw, [batch,] *axes of the variable), so that ArviZ tells pieces of evidence apart.

    Raises:
        MissingExtraError: If arviz-base is not installed.
        QueryError: If a variable or a plate has the name of another dimension.
    """
    try:
        import arviz_base
    except ImportError:
        raise MissingExtraError("arviz_base", "arviz", "Samples.to_arviz()") from None
    pieces = ("batch",) if batched else ()
    names = {name: axis_names(name, value.dim() - 1 - len(pieces), axes.dims) for name, value in values.items()}
    _check_names(names, ("chain", "draw", *pieces))
    arrays = {name: np.moveaxis(value.numpy(), len(pieces), 0)[None] for name, value in values.items()}
    named = {name: [*pieces, *own] for name, own in names.items()}
    tree = arviz_base.from_dict({"posterior": arrays}, dims=named, coords=_numbers(axes), sample_dims=["chain", "draw"])
    tree["posterior"].attrs |= {**_signature(), **attributes}
    return tree


def _numbers(axes: Axes) -> dict[str, np.ndarray]:
    """Returns the points along axes where each is one number."""
    return {axis: points for axis, points in axes.coords.items() if points.ndim == 1}


def axis_names(name: str, count: int, dims: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Returns the names of the ``count`` axes of a variable; those without one of their own are numbered.

    Example:
        >>> axis_names("theta", 3, {"theta": ["site"]})
        ('site', 'theta_dim_0', 'theta_dim_1')
    """
    named = tuple(dims.get(name, ()))
    return (*named, *(f"{name}_dim_{number}" for number in range(count - len(named))))


def _check_names(axes: Mapping[str, Sequence[str]], own: Sequence[str]) -> None:
    """Refuses names that would mean two things in one table, of which xarray would refuse or lose one.

    Args:
        axes: Names of the axes that each variable brings.
        own: Names of the axes that the export adds.
    """
    found = {axis for brought in axes.values() for axis in brought}
    clashes = [("plate", axis) for axis in own if axis in found]
    clashes += [("variable", name) for name in axes if name in found or name in own]
    if clashes:
        kind, name = clashes[0]
        known = listed(dict.fromkeys((*own, *sorted(found))))
        raise QueryError(
            f"the {kind} {name!r} has the name of another dimension of the table.\n"
            f"  Dimensions: {known}. Rename the {kind}, or use samples.to_numpy()"
        )


def _signature() -> dict[str, str]:
    return {"inference_library": "simgraph", "inference_library_version": __version__}
