"""Function-valued variables in a question: where they are known, and where they are asked for.

Evidence is a curve, with points of its own. A question about a function names points (``at=``). All points of an index,
given and asked for, become the elements of its axis; of each function those are observed at which it was given, those
latent at which it is asked for, and the others absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from simgraph.compile.layout import Layout
from simgraph.dsl import Curve, Index
from simgraph.errors import (
    EvidenceError,
    MissingValueError,
    QueryError,
    ShapeError,
    UnknownNameError,
    did_you_mean,
    listed,
)
from simgraph.query.evidence import Missing, doubt
from simgraph.query.intervals import Interval
from simgraph.traces.points import points_of

__all__ = ["asked_points", "check_curves", "padded", "positions", "refuse", "together", "without_curves"]


def without_curves(layout: Layout, named: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Curve]]:
    """Splits evidence by name into that on plain variables and that on functions.

    Raises:
        QueryError: If a function is given by anything but a curve, or a curve is given for a plain variable.
    """
    plain, curves = {}, {}
    for name, value in named.items():
        index = layout.index_of(name)
        if isinstance(value, Curve) and index is None:
            raise QueryError(f"given({name}=Curve(...)): {name!r} is no function of an index.\n  Hand over its values.")
        if index is None:
            plain[name] = value
        elif isinstance(value, Curve):
            curves[name] = value
        elif isinstance(value, Interval):
            raise QueryError(
                f"given({name}=...) is an interval, and {name!r} a function of {index.name!r}: those have none.\n"
                "  Draw, and select draws."
            )
        else:
            raise QueryError(
                f"given({name}=...) does not say at which points of {index.name!r} {name!r} has these values.\n"
                f"  Hand over both: given({name}=sg.Curve(points, values))"
            )
    return plain, curves


def check_curves(layout: Layout, curves: Mapping[str, Curve], *, strict: bool) -> None:
    """Checks that curves fit their variables.

    Args:
        layout: The tokens.
        curves: Curves by name.
        strict: Whether more points than traces have in training are an error, rather than a warning.

    Raises:
        QueryError: If the function lies in a plate.
        ShapeError, EvidenceError, MissingValueError: If points or values do not fit.
    """
    for name, curve in curves.items():
        index, event = layout.index_of(name), layout.tokenizers[name].variable.event_shape
        assert index is not None
        if len(layout.plates[name]) > 1:
            raise QueryError(
                f"given({name}=...): a function in the plate {layout.plates[name][0]!r} can be asked for, not given."
            )
        points_of(index, curve.points, f"given({name}=Curve(points, ...))")
        if curve.points.ndim != (1 if index.dims == 1 else 2) or curve.values.shape[1:] != event:
            raise ShapeError(
                f"given({name}=...) has points of shape {curve.points.shape} and values of shape"
                f" {curve.values.shape}; {name!r} has {index.dims} coordinate{'s' if index.dims > 1 else ''} and values"
                f" of shape {event}."
            )
        if curve.values.dtype.kind not in "iubf":
            raise EvidenceError(f"given({name}=Curve(...)) holds {curve.values.dtype}, no numbers.")
        if np.isnan(curve.values).any():
            raise MissingValueError(
                f"given({name}=...) holds {int(np.isnan(curve.values).sum())} NaN.\n  Leave these points out."
            )
        if len(np.unique(curve.points, axis=0)) < len(curve):
            raise EvidenceError(
                f"given({name}=...) names a point twice; {name!r} has one value at each.\n"
                "  Keep one of them, or their mean."
            )
        if len(curve) > index.most:
            doubt(
                f"given({name}=Curve(...)) has {len(curve)} points; in training, traces had {index.span}.\n"
                "  The model extrapolates there: thin the curve, or train with more points, "
                f"index({index.name!r}, ..., num=({index.least}, {len(curve)})).",
                strict=strict,
            )


def asked_points(layout: Layout, at: Any, names: Iterable[str]) -> tuple[dict[str, np.ndarray], dict[Any, Any] | None]:
    """Returns the points (points, coordinates) that ``at`` names by index, and what it says of other axes.

    Args:
        layout: The tokens.
        at: What the user wrote.
        names: The variables that are asked for.

    Raises:
        QueryError: If a function is asked for and no points are named, or the other way round.
        ShapeError, DeclarationError: If points do not fit their index.
    """
    if at is not None and not isinstance(at, Mapping):
        raise QueryError(f"at={at!r} is no mapping.\n  For example: at={{'t': [0.0, 1.0]}}")
    named = {key.name if isinstance(key, Index) else key: value for key, value in (at or {}).items()}
    found: dict[str, np.ndarray] = {}
    needed: dict[str, str] = {}
    for name in names:
        if (index := layout.index_of(name)) is not None:
            needed.setdefault(index.name, name)
    for name, index in layout.indices.items():
        if name not in named:
            continue
        if name not in needed:
            raise QueryError(f"at= names points of {name!r}, and no function of it is asked for.\n  Leave it out.")
        points = points_of(index, named.pop(name), f"at={{{name!r}: ...}}")
        if len(points) > 1:
            raise QueryError(
                f"at={{{name!r}: ...}} names points for {len(points)} rows.\n"
                "  Name those of all rows once, as a list of points."
            )
        if len(np.unique(points[0], axis=0)) < points.shape[1]:
            raise QueryError(f"at={{{name!r}: ...}} names a point twice.\n  Name each once: numpy.unique(points).")
        found[name] = points[0]
    unknown = [str(name) for name in named if name not in layout.plate_names]
    if unknown:
        raise UnknownNameError(
            f"at= names {unknown[0]!r}, which is no plate and no index of this model.\n"
            f"  {did_you_mean(unknown[0], layout.plate_names, 'Plates and indices')}"
        )
    lacking = [name for index, name in needed.items() if index not in found]
    if lacking:
        index = layout.index_of(lacking[0])
        assert index is not None
        raise QueryError(
            f"nothing tells at which points {listed(lacking)} is asked for.\n"
            f"  Say it: at={{{index.name!r}: points}}, from {index.arranged(np.array(index.low))} to"
            f" {index.arranged(np.array(index.high))}."
        )
    return found, named or None


def together(layout: Layout, curves: Mapping[str, Curve], asked: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns all points (points, coordinates) of each index in rising order; else its middle."""
    found = {}
    for name, index in layout.indices.items():
        parts = [index.coordinates(curve.points) for key, curve in curves.items() if layout.index_of(key) == index]
        parts += [asked[name]] if name in asked else []
        middle = (np.array(index.low) + np.array(index.high))[None] / 2
        found[name] = np.unique(np.concatenate(parts), axis=0) if parts else middle
    return found


def padded(layout: Layout, name: str, curve: Curve, points: np.ndarray) -> Missing:
    """Returns a curve as values at all points (points, coordinates) of its index, missing where it is not given."""
    index = layout.index_of(name)
    assert index is not None
    place = positions(points, index.coordinates(curve.points))
    observed = np.zeros((len(points), *curve.values.shape[1:]), dtype=bool)
    values = np.zeros(observed.shape)
    observed[place], values[place] = True, curve.values
    return Missing(values, observed)


def positions(points: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Returns where some points (some, coordinates) stand among all of them."""
    return np.array([int((points == one).all(1).argmax()) for one in some])


def refuse(layout: Layout, names: Iterable[str], call: str, instead: str) -> None:
    """Raises an error if a variable is a function; names that are not known are left to others.

    Raises:
        QueryError: That names it.
    """
    functions = [name for name in names if name in layout.plates and layout.index_of(name) is not None]
    if functions:
        raise QueryError(f"{call} does not take functions, which {listed(functions)} is.\n  {instead}")
