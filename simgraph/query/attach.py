"""What ``given`` is handed, checked and sorted into evidence and restrictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simgraph.errors import QueryError
from simgraph.graph.validate import OPTIONS
from simgraph.query.evidence import Evidence, check, check_interval, rows_of
from simgraph.query.intervals import Interval
from simgraph.query.question import Question
from simgraph.query.restrictions import Bounds, Condition, Restriction

__all__ = ["Attached", "attach", "sort"]


@dataclass(frozen=True)
class Attached:
    """All that is known in a question.

    Attributes:
        evidence: Evidence by name.
        size: Number of pieces of evidence.
        batched: Whether results have a batch axis.
        restrictions: Intervals, constraints and predicates.
    """

    evidence: dict[str, Evidence]
    size: int
    batched: bool
    restrictions: tuple[Restriction, ...]


def sort(
    question: Question, conditions: Sequence[Any], values: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Condition]]:
    """Sorts what ``given`` is handed into values by name, each name once, and conditions.

    Args:
        question: The question.
        conditions: Mappings from names or nodes to values, and conditions.
        values: Values by name.

    Raises:
        QueryError: If a name is given twice, or something is no condition.
        UnknownNameError: If a name is not in the model.
    """
    bounded = [restriction.name for restriction in question.restrictions if isinstance(restriction, Bounds)]
    demands = [condition for condition in conditions if isinstance(condition, Condition)]
    named: dict[str, Any] = {}
    for mapping in (*(condition for condition in conditions if not isinstance(condition, Condition)), values):
        if not isinstance(mapping, Mapping):
            raise QueryError(
                f"given(...) takes mappings from names to values, or conditions, not {mapping!r}.\n"
                "  For example: given(x=0.3), given({x: 0.3}), given(sg.where(lambda x: x > 0))"
            )
        for key, value in mapping.items():
            if key in OPTIONS:
                raise QueryError(f"{key!r} is no variable but an option of sample(...): sample(..., {key}={value!r})")
            name = question.known(key)
            if name in named or name in question.evidence or name in question.curves or name in bounded:
                raise QueryError(
                    f"{name!r} is given twice.\n  Give it once: a value, or sg.between(low, high) for two ends. Each"
                    " given(...) adds to what is known before; another value is asked about from the model again."
                )
            named[name] = value
    return named, demands


def attach(question: Question, named: Mapping[str, Any], demands: Sequence[Condition], *, strict: bool) -> Attached:
    """Adds values, intervals, constraints and predicates to what a question knows.

    Args:
        question: The question; the plates that the values lie in have their sizes.
        named: Values and intervals by name.
        demands: Constraints and predicates.
        strict: Whether evidence far outside of the training range is an error instead of a warning.

    Raises:
        QueryError: If a condition is already decided.
        EvidenceError, ShapeError, SupportError: If a value does not fit its variable, or batches differ in size.
    """
    compiled, ranges = question.trained.compiled, question.trained.ranges
    bounds = [
        Bounds(name, check_interval(compiled, ranges, name, value, strict=strict))
        for name, value in named.items()
        if isinstance(value, Interval)
    ]
    points = {name: value for name, value in named.items() if not isinstance(value, Interval)}
    evidence = question.evidence | check(compiled, ranges, points, strict=strict)
    rows = rows_of(evidence)
    restrictions = (*question.restrictions, *bounds, *demands)
    whole = {name for name, piece in evidence.items() if piece.observed.all()}
    for restriction in restrictions:
        if isinstance(restriction, Condition):
            restriction.check(compiled.layout.names)
        if whole.issuperset(restriction.names):
            raise QueryError(
                f"{restriction} reads nothing but what is given, so it is already decided.\n  Leave it out."
            )
    return Attached(evidence, rows or 1, rows is not None, restrictions)
