"""Evidence as text: ``name=value``, ``name=low..high``, ``name[element]=...``, ``name=[points]:[values]``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simgraph.dsl import Curve
from simgraph.errors import QueryError, UnknownNameError, did_you_mean
from simgraph.query import Interval, above, below, between, missing

__all__ = ["evidence", "places"]

_EXAMPLES = "For example: x=0.5, y=[1,2], x=0.1..0.4, x=0.1.., x=..0.4, y[1]=0.1..0.4; a function: f=[0,2.5]:[0.1,0.3]"


def evidence(texts: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Reads evidence from what stands behind ``--given``.

    A value is a number, a JSON list of numbers in which ``nan`` is missing, or an interval of which one end may be
    left out. Elements of a variable can be given one by one; those that are not named stay missing, or without bounds.
    A function has points and values, two lists with a colon between them.

    Args:
        texts: Pieces of the form ``name=value`` or ``name[element]=value``.
        shapes: Shape of the value of each variable, by name.

    Returns:
        Values for ``given``, by name.

    Raises:
        QueryError: If a piece cannot be read, or two of them contradict each other.
        UnknownNameError: If an element belongs to a variable that does not exist.
        EvidenceError: If an interval is empty.

    Example:
        >>> evidence(["x=0.1..0.4"], {"x": ()})
        {'x': Interval(low=array(0.1), high=array(0.4))}
    """
    whole: dict[str, Any] = {}
    parts: dict[str, dict[tuple[int, ...], Any]] = {}
    for text in texts:
        left, equals, value = text.partition("=")
        name, bracket, element = left.strip().partition("[")
        if not equals or not name or (bracket and not element.endswith("]")):
            raise QueryError(f"--given {text!r} is not of the form name=value.\n  {_EXAMPLES}")
        found = _curve(value) if "]:" in value else _interval(value) if ".." in value else _number(value)
        if found is None:
            raise QueryError(
                f"--given {left.strip()} has the value {value!r}, which is no number, no list of numbers, no interval"
                f" and no function.\n  {_EXAMPLES}"
            )
        own = parts.setdefault(name, {}) if bracket else {}
        place = _place(name, element[:-1], shapes) if bracket else ()
        if name in whole or place in own or (not bracket and name in parts):
            raise QueryError(f"--given names {left.strip()!r} twice.\n  Give each variable, or each element, once.")
        if bracket:
            own[place] = found
        else:
            whole[name] = found
    joined = {name: _joined(name, own, shapes[name]) for name, own in parts.items()}
    return {name: _missing(value) for name, value in (whole | joined).items()}


def places(texts: Sequence[str]) -> dict[str, int | list[float]]:
    """Reads sizes of plates, and points of indices, from what stands behind ``--at``.

    Raises:
        QueryError: If a piece is not of the form ``plate=number`` or ``index=[points]``, or names one twice.

    Example:
        >>> places(["school=7", "t=[0,2.5]"])
        {'school': 7, 't': [0.0, 2.5]}
    """
    found: dict[str, int | list[float]] = {}
    for text in texts:
        name, _, value = (part.strip() for part in text.partition("="))
        points = _number(value) if value.startswith("[") else None
        if not name or not (value.isdecimal() or points is not None):
            raise QueryError(
                f"--at {text!r} is not of the form plate=number or index=[points].\n"
                "  For example: --at school=7, or --at t=[0,2.5]"
            )
        if name in found:
            raise QueryError(f"--at names {name!r} twice.\n  Give each plate and index once.")
        found[name] = int(value) if points is None else points.tolist()
    return found


def _number(text: str) -> np.ndarray | None:
    """Returns a number or a list of numbers."""
    try:
        if not text.strip().startswith("["):
            return np.asarray(float(text))
        whole = re.sub(r"(?<!\d)\.(?=\d)", "0.", text)  # JSON knows no .5
        parsed = json.loads(whole.replace("nan", "NaN"))
        return np.asarray(parsed, dtype=np.float64)
    except (ValueError, TypeError):
        return None


def _curve(text: str) -> Curve | None:
    """Returns points and values of a function."""
    points, _, values = text.partition("]:")
    found = _number(f"{points}]"), _number(values)
    return None if found[0] is None or found[1] is None else Curve(*found)


def _interval(text: str) -> Interval | None:
    """Returns an interval, of which one end may be left out."""
    low, _, high = text.partition("..")
    try:
        ends = [float(end) if end.strip() else None for end in (low, high)]
    except ValueError:
        return None
    match ends:
        case [None, None]:
            return None
        case [bottom, None]:
            return above(bottom)
        case [None, top]:
            return below(top)
    return between(*ends)


def _place(name: str, text: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Returns the index of an element."""
    if name not in shapes:
        raise UnknownNameError(f"{name!r} is not a variable of this model.\n  {did_you_mean(name, shapes)}")
    shape = shapes[name]
    try:
        place = tuple(int(number) for number in text.split(","))
    except ValueError:
        place = (-1,)  # what is no number is no element either
    if len(place) != len(shape) or not all(0 <= number < size for number, size in zip(place, shape, strict=True)):
        raise QueryError(
            f"--given names the element {name}[{text}], which does not exist: {name!r} has the shape {shape}.\n"
            "  Elements are numbered from 0."
        )
    return place


def _joined(name: str, parts: Mapping[tuple[int, ...], Any], shape: tuple[int, ...]) -> Any:
    """Returns one value for all elements of a variable."""
    kinds = {isinstance(value, Interval) for value in parts.values()}
    if len(kinds) > 1:
        raise QueryError(
            f"--given gives numbers for some elements of {name!r} and intervals for others.\n"
            "  Elements of one variable are given in one way."
        )
    if kinds == {True}:
        low, high = np.full(shape, -np.inf), np.full(shape, np.inf)
        for place, value in parts.items():
            low[place], high[place] = value.low, value.high
        return between(low, high)
    values = np.full(shape, np.nan)
    for place, value in parts.items():
        if value.ndim:
            raise QueryError(f"--given {name}[{', '.join(map(str, place))}] is a list; an element is one number.")
        values[place] = value
    return values


def _missing(value: Any) -> Any:
    return missing(value) if isinstance(value, np.ndarray) and np.isnan(value).any() else value
