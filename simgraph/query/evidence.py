"""What a query is given: named values, checked before any work starts.

Evidence becomes token values and condition states. Every check of a name, shape, type, NaN or support
is made here, so that a query which cannot be answered fails at once, and by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from simgraph.compile import Compiled
from simgraph.compile.elements import Elements
from simgraph.compile.layout import Layout
from simgraph.compile.probe import Variable
from simgraph.dsl import Pieces
from simgraph.errors import EvidenceError, MissingValueError, OutOfRangeWarning, ShapeError, SupportError, warn
from simgraph.query.intervals import Interval
from simgraph.query.numbers import numbers
from simgraph.train.ranges import Ranges

__all__ = ["Evidence", "Missing", "check", "check_interval", "doubt", "missing", "rows_of"]


@dataclass(frozen=True)
class Missing:
    """Values of which some entries are not observed; see :func:`missing`.

    Attributes:
        values: The values; unobserved entries hold anything.
        observed: Boolean array of the same shape.
    """

    values: np.ndarray
    observed: np.ndarray


def missing(values: Any, mask: Any = None) -> Missing:
    """Says that some entries of a piece of evidence are not observed.

    Args:
        values: The values.
        mask: Boolean array of their shape, true where an entry is missing; where they are NaN by default.

    Returns:
        Evidence for ``given``.

    Raises:
        ShapeError: If the mask has another shape than the values.

    Example:
        >>> missing([1.0, float("nan")]).observed
        array([ True, False])
    """
    array = numbers("missing(...)", values)
    absent = np.isnan(array) if mask is None else np.asarray(mask, dtype=bool)
    if absent.shape != array.shape:
        raise ShapeError(f"missing(...) has a mask of shape {absent.shape} for values of shape {array.shape}.")
    return Missing(array, ~absent)


@dataclass(frozen=True)
class Evidence:
    """One checked piece of evidence.

    Attributes:
        values: Array (batch, *plate sizes, *event_shape); the batch has size 1 if the evidence has none.
        observed: Boolean array of the same shape.
        batched: Whether the user gave a batch axis.
    """

    values: np.ndarray
    observed: np.ndarray
    batched: bool

    def repeated(self, size: int, count: int) -> Evidence:
        """Returns the evidence of ``size`` pieces with each of them ``count`` times in a row."""
        wide = (size, *self.values.shape[1:])
        values, observed = (np.broadcast_to(array, wide).repeat(count, 0) for array in (self.values, self.observed))
        return Evidence(values, observed, batched=True)


def check(compiled: Compiled, ranges: Ranges, given: Mapping[str, Any], *, strict: bool) -> dict[str, Evidence]:
    """Checks named evidence.

    Args:
        compiled: The compiled graph; all names are known to it.
        ranges: What training saw.
        given: Values by name: numbers, arrays, tensors or :func:`missing`.
        strict: Whether a value far outside of what training saw is an error instead of a warning.

    Returns:
        Checked evidence by name.

    Raises:
        ShapeError, MissingValueError, SupportError, EvidenceError: See LANGUAGE; each names the node.
    """
    found: dict[str, Evidence] = {}
    for name, value in given.items():
        variable = compiled.layout.tokenizers[name].variable
        array = value.values if isinstance(value, Missing) else numbers(f"given({name}=...)", value)
        observed = value.observed if isinstance(value, Missing) else np.ones(array.shape, dtype=bool)
        _check_shape(compiled, variable, array)
        if np.isnan(array[observed]).any():
            count = int(np.isnan(array[observed]).sum())
            raise MissingValueError(
                f"given({name}=...) holds {count} NaN.\n"
                f"  Entries that were not observed are said explicitly: given({name}=sg.missing(values))"
            )
        _check_support(variable, array, observed)
        _check_whole(compiled, name, observed)
        batched = array.ndim > len(variable.shape)
        found[name] = Evidence(array.reshape(-1, *variable.shape), observed.reshape(-1, *variable.shape), batched)
        if _check_range(name, found[name], ranges, len(variable.plate_shape), strict=strict):
            _check_course(compiled.layout, name, found[name], strict=strict)
    return found


def rows_of(evidence: Mapping[str, Evidence]) -> int | None:
    """Returns the number of rows of batched evidence, None where none is batched.

    Raises:
        ShapeError: If batches differ in size.
    """
    sizes = {name: len(piece.values) for name, piece in evidence.items() if piece.batched}
    if len(set(sizes.values())) > 1:
        raise ShapeError(
            f"given(...) has batches of different sizes: {sizes}.\n"
            "  Rows of a batch belong together; give every batched name the same number of rows."
        )
    return next(iter(sizes.values()), None)


def check_interval(compiled: Compiled, ranges: Ranges, name: str, interval: Interval, *, strict: bool) -> Interval:
    """Checks an interval of a variable.

    Args:
        compiled: The compiled graph; the name is known to it.
        ranges: What training saw.
        name: The variable.
        interval: Its interval.
        strict: Whether an interval far outside of what training saw is an error instead of a warning.

    Returns:
        The interval, of the variable's full shape.

    Raises:
        ShapeError, SupportError, EvidenceError: Each names the variable.
    """
    variable = compiled.layout.tokenizers[name].variable
    try:
        low, high = (np.broadcast_to(end, variable.shape).copy() for end in (interval.low, interval.high))
    except ValueError:
        raise ShapeError(
            f"the interval of {name!r} has ends of shape {interval.low.shape}; {name!r} has shape {variable.shape}.\n"
            "  Give one number for all elements, or one for each, infinite where an element is open."
        ) from None
    support = variable.support
    first, last = np.maximum(low, support.low), np.minimum(high, support.high)
    empty = np.ceil(first) > np.floor(last) if support.kind == "integers" else first >= last
    if empty.any():
        where = tuple(np.argwhere(empty)[0].tolist())
        raise SupportError(
            f"the interval ({low[where]:g}, {high[where]:g}) of {name!r} holds no value of its support, {support}."
        )
    least, most = ranges.low[name], ranges.high[name]
    margin = 0.1 * (most - least)
    far = (low > most + margin) | (high < least - margin)
    if far.any():
        where = tuple(np.argwhere(far)[0].tolist())
        message = (
            f"the interval ({low[where]:g}, {high[where]:g}) of {name!r} lies outside of all {ranges.count} training"
            " values.\n  The model extrapolates there; check units, or the prior, or simulate more."
        )
        doubt(message, strict=strict)
    return Interval(low, high)


def _check_shape(compiled: Compiled, variable: Variable, array: np.ndarray) -> None:
    name, shape = variable.name, variable.shape
    if array.shape == shape or (array.ndim == len(shape) + 1 and array.shape[1:] == shape and len(array)):
        return
    text, spans = compiled.layout.shape_text(name), compiled.layout.spans(name)
    kind = f"plates {_text(spans)} and event shape {variable.event_shape}" if variable.plate_shape else ""
    shown = kind or f"event shape {variable.event_shape}"
    hint = "" if spans else f"\n  Several i.i.d. draws of one parameter? Declare a plate around {name!r}."
    raise ShapeError(
        f"given({name}=...) has shape {array.shape}; node {name!r} has {shown}.\n"
        f"  Accepted: {text} for one observation, {_text(['B', *spans, *map(str, variable.event_shape)])}"
        f" for B independent ones.{hint}"
    )


def _text(sizes: Sequence[str]) -> str:
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _check_support(variable: Variable, array: np.ndarray, observed: np.ndarray) -> None:
    support = variable.support
    whole = observed.all(-1) if support.event_dim else observed
    if support.event_dim and (whole != observed.any(-1)).any():
        raise EvidenceError(
            f"given({variable.name}=...) has a vector on the {support} of which only some entries are observed.\n"
            "  A vector on a simplex is observed as a whole, or missing as a whole."
        )
    inside = support.contains(np.where(observed, array, 0.0)) | ~whole
    if not inside.all():
        raise SupportError(
            f"given({variable.name}=...) lies outside of the support of {variable.name!r}, which is {support}:"
            f" {int((~inside).sum())} of {inside.size} values.\n"
            f"  First: {array[~inside][0]}"
        )


def _check_whole(compiled: Compiled, name: str, observed: np.ndarray) -> None:
    """Checks that elements which are one token are observed together."""
    tokenizer = compiled.layout.tokenizers[name]
    spec = tokenizer.variable.tokenizer
    if spec is None:
        return
    seen = torch.from_numpy(observed)
    if (tokenizer.present(seen) | tokenizer.present(~seen)).all():
        return
    parts = f"parts of {spec.noun}" if isinstance(spec, Pieces) else f"a part of what {spec} reads"
    raise EvidenceError(
        f"given({name}=...) observes {parts}.\n  What is one token is observed as a whole, or missing as a whole."
    )


def _check_range(name: str, evidence: Evidence, ranges: Ranges, plates: int, *, strict: bool) -> bool:
    """Doubts values that lie outside of those of training; returns whether there are none."""
    inside = True
    low, high = ranges.low[name], ranges.high[name]
    margin = 0.1 * (high - low)
    for side, beyond in (
        ("below", evidence.values < low - margin),
        ("above", evidence.values > high + margin),
    ):
        far = np.argwhere(beyond & evidence.observed)
        if not len(far):
            continue
        inside, where = False, tuple(far[0].tolist())
        event = where[1 + plates :]
        place = f"{name}{list(where[1:])}" if len(where) > 1 else name
        message = (
            f"{len(far)} of {evidence.values.size} values of given({name}=...) lie {side} all"
            f" {ranges.count} training values"
            f" (quantile {0.0 if side == 'below' else 1.0:g}); first: {place} = {evidence.values[where]:.6g},"
            f" trained on {low[event]:.6g} to {high[event]:.6g}.\n"
            "  The model extrapolates there; check units, or the prior, or simulate more."
        )
        doubt(message, strict=strict)
    return inside


def _check_course(layout: Layout, name: str, evidence: Evidence, *, strict: bool) -> None:
    """Doubts values of a function that lie outside of those that training saw about their points."""
    tokenizer, index = layout.tokenizers[name], layout.index_of(name)
    if index is None or not isinstance(tokenizer, Elements) or tokenizer.points is None:
        return
    low, high = (end.numpy() for end in tokenizer.usual())
    far = np.argwhere(((evidence.values < low) | (evidence.values > high)) & evidence.observed)
    if len(far):
        where = tuple(far[0].tolist())
        point = index.of_unit(tokenizer.points[where[1]])[0]
        message = (
            f"{len(far)} of {int(evidence.observed.sum())} values of given({name}=Curve(...)) lie outside of what"
            f" training saw about their points; first: {evidence.values[where]:.6g} at {point:.6g}, trained on"
            f" {low[where[1:]]:.6g} to {high[where[1:]]:.6g} there.\n"
            "  The model extrapolates there; check units and points, or the prior, or simulate more."
        )
        doubt(message, strict=strict)


def doubt(message: str, *, strict: bool) -> None:
    """Warns of evidence that training did not see the like of; fails if strict.

    Raises:
        EvidenceError: If strict.
    """
    if strict:
        raise EvidenceError(message)
    warn(message, OutOfRangeWarning)
