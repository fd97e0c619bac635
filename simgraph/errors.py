"""Every error that simgraph raises, and the helpers that make messages useful.

A message says what is wrong, where it was declared, why it matters and how to mend it; its first line
is complete on its own. There is one class per cause, so that callers can catch exactly what they mean.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any

__all__ = [
    "CoverageWarning",
    "CycleError",
    "DeclarationError",
    "DuplicateNameError",
    "EvidenceError",
    "FileFormatError",
    "GraphError",
    "InvalidGraphError",
    "MissingExtraError",
    "MissingValueError",
    "NodeReturnError",
    "OutOfRangeWarning",
    "QueryError",
    "ReservedNameError",
    "RestrictionError",
    "SamplingBiasWarning",
    "ShapeError",
    "SimgraphError",
    "SimgraphWarning",
    "SimulationError",
    "SupportError",
    "TracesError",
    "TrainingError",
    "UnknownNameError",
    "UnknownParentError",
    "did_you_mean",
    "listed",
    "warn",
    "where",
]


class SimgraphError(Exception):
    """Base class of all errors that simgraph raises on purpose."""


class DeclarationError(SimgraphError):
    """A node, plate or graph was declared with arguments that cannot work."""


class GraphError(SimgraphError):
    """The nodes handed to a graph do not form a valid graph."""


class UnknownParentError(GraphError):
    """A node asks for a parent that the graph does not hold."""


class CycleError(GraphError):
    """The nodes form a cycle."""


class DuplicateNameError(GraphError):
    """Two different nodes, plates or both carry one name."""


class ReservedNameError(GraphError):
    """A node carries a name that means something else in the language."""


class InvalidGraphError(GraphError):
    """Several problems of one graph, reported at once.

    Attributes:
        problems: The single errors, in order of declaration.
    """

    def __init__(self, problems: Iterable[GraphError]) -> None:
        self.problems = tuple(problems)
        numbered = "\n".join(
            f"({i}) {type(problem).__name__}: {problem}" for i, problem in enumerate(self.problems, start=1)
        )
        super().__init__(f"the graph has {len(self.problems)} problems.\n{numbered}")


class NodeReturnError(SimgraphError):
    """A node function returned something that its declaration does not allow."""


class ShapeError(SimgraphError):
    """A value has a shape other than the one declared or expected."""


class SupportError(SimgraphError):
    """A value lies outside the support of its node, or a support cannot be handled."""


class SimulationError(SimgraphError):
    """Traces failed while they were simulated.

    Attributes:
        traces: What was simulated before the error was raised, with failed values marked missing,
            so that no simulator time is lost; ``None`` if there is nothing to keep.
    """

    def __init__(self, message: str, traces: Any = None) -> None:
        super().__init__(message)
        self.traces = traces


class TracesError(SimgraphError):
    """Traces do not fit together, or do not fit the graph."""


class TrainingError(SimgraphError):
    """Training cannot start, or cannot go on."""


class QueryError(SimgraphError):
    """A query asks for something that cannot be answered."""


class UnknownNameError(QueryError, KeyError):
    """A query names a node that the model does not have; a ``KeyError``, as mappings promise."""

    __str__ = Exception.__str__  # a KeyError would print its message in quotes


class EvidenceError(QueryError):
    """A piece of evidence cannot be used."""


class MissingValueError(EvidenceError):
    """Evidence holds NaN without saying that the entries are missing."""


class RestrictionError(QueryError):
    """No draws that satisfy the intervals, constraints and predicates of a query were found."""


class FileFormatError(SimgraphError):
    """A file is not what it claims to be, is damaged, or was written by a newer version."""


class MissingExtraError(SimgraphError, ImportError):
    """An optional dependency is needed and not installed.

    Args:
        package: The module that could not be imported.
        extra: The extra of simgraph that installs it.
        purpose: What it is needed for.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package!r}.\n  Install it with: pip install 'simgraph[{extra}]'")


class SimgraphWarning(UserWarning):
    """Base class of all warnings that simgraph gives on purpose."""


class SamplingBiasWarning(SimgraphWarning):
    """The traces that are kept do not follow the law that the graph declares."""


class CoverageWarning(SimgraphWarning):
    """Corrected draws may not cover the law that was asked for."""


class OutOfRangeWarning(SimgraphWarning):
    """Evidence lies far outside of what the simulator ever produced."""


def listed(names: Iterable[Any]) -> str:
    """Formats names as a comma-separated list; ``(none)`` when empty."""
    return ", ".join(str(name) for name in names) or "(none)"


def warn(message: str, category: type[SimgraphWarning] = SimgraphWarning) -> None:
    """Warns at the line outside of simgraph that led here, however many calls lie between.

    Args:
        message: What is doubtful, why, and what to do.
        category: The class of the warning.
    """
    home, level = os.path.dirname(__file__) + os.sep, 2
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(home):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def did_you_mean(name: str, known: Iterable[str], label: str = "Known names") -> str:
    """Suggests the closest known name and lists all of them, the closest first.

    Args:
        name: What was asked for.
        known: What exists.
        label: How to introduce the list.

    Returns:
        One sentence or two, to be put on a line of its own.

    Example:
        >>> did_you_mean("thetta", ["x", "theta"])
        "Did you mean 'theta'? Known names: theta, x."
        >>> did_you_mean("r0", ["R0", "x"])
        "Did you mean 'R0'? Known names: R0, x."
    """
    pool = sorted(set(known))
    lower = {candidate.lower(): candidate for candidate in reversed(pool)}
    alike = difflib.get_close_matches(str(name).lower(), lower, n=3, cutoff=0.6)
    close = [lower[candidate] for candidate in alike]
    ordered = close + [candidate for candidate in pool if candidate not in close]
    suggestion = f"Did you mean {close[0]!r}? " if close else ""
    return f"{suggestion}{label}: {listed(ordered)}."


def where(function: Callable[..., Any]) -> str:
    """Names the place where a function was defined, as ``file:line``.

    Paths below the working directory are given relative to it. Callables without source (builtins,
    objects of extension types) are named by their type.
    """
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    if code is None:
        code = getattr(getattr(type(function), "__call__", None), "__code__", None)  # noqa: B004 (its code is wanted)
    if code is None:
        return f"<{type(function).__name__}>"
    path = code.co_filename
    if os.path.isabs(path):
        relative = os.path.relpath(path)
        path = path if relative.startswith("..") else relative
    return f"{path}:{code.co_firstlineno}"
