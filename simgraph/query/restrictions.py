"""What a query demands of its draws: intervals, constraints and predicates.

A restriction reads some variables of one draw and says whether they satisfy it. Intervals and constraints
also say by how much they are violated: a residual that is at most 0 where they hold. Functions are written
for one draw and mapped over many.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from simgraph.errors import QueryError, did_you_mean
from simgraph.query.intervals import Interval
from simgraph.text import a_kind

__all__ = ["Bounds", "Condition", "Restriction", "constraint", "where"]


class Restriction(ABC):
    """A demand on the variables of one draw.

    Attributes:
        names: The variables that it reads.
        graded: Whether it says by how much a draw violates it.
    """

    names: tuple[str, ...]
    graded: bool

    @abstractmethod
    def residual(self, values: Mapping[str, Tensor]) -> Tensor:
        """Returns how far draws are from satisfying the restriction, at most 0 where they do.

        Args:
            values: Natural values by name, (rows, *plate sizes, *event_shape).

        Returns:
            Float64 residuals (rows,), differentiable where the restriction is graded.

        Raises:
            QueryError: If a function of the user's fails.
        """


@dataclass(frozen=True)
class Bounds(Restriction):
    """Says that a variable lies in an interval, element by element.

    Attributes:
        name: The variable.
        interval: Bounds of the variable's shape.
    """

    name: str
    interval: Interval
    graded = True

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.name,)

    def residual(self, values: Mapping[str, Tensor]) -> Tensor:
        value = values[self.name].double()
        low, high = torch.as_tensor(self.interval.low), torch.as_tensor(self.interval.high)
        beyond = torch.maximum(low - value, value - high)
        return beyond.flatten(1).amax(1) if beyond.dim() > 1 else beyond

    def __str__(self) -> str:
        low, high = self.interval.low, self.interval.high
        if (low == low.flat[0]).all() and (high == high.flat[0]).all():
            return f"{self.name} in ({low.flat[0]:g}, {high.flat[0]:g})"
        return f"{self.name} in an interval for each element"


@dataclass(frozen=True, eq=False)
class Condition(Restriction):
    """A function of named variables that draws have to satisfy; see :func:`constraint` and :func:`where`.

    Attributes:
        function: The function, written for one draw.
        graded: Whether it returns residuals (at most 0 where it holds) instead of truth values.
    """

    function: Callable[..., Any]
    graded: bool

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        empty = inspect.Parameter.empty
        return tuple(name for name, p in inspect.signature(self.function).parameters.items() if p.default is empty)

    def check(self, known: Sequence[str]) -> None:
        """Checks that the function can be called with variables by name.

        Args:
            known: Names of the variables.

        Raises:
            QueryError: If it reads an unknown name, or nothing at all.
        """
        parameters = inspect.signature(self.function).parameters.values()
        if any(p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters):
            raise QueryError(f"the function of {self} has parameters that are no names of variables (*, **, /).")
        if not self.names:
            raise QueryError(f"the function of {self} reads no variable.\n  Its parameters are names of variables.")
        for name in self.names:
            if name not in known:
                raise QueryError(
                    f"the function of {self} asks for {name!r}, which is not a variable of this model.\n"
                    f"  {did_you_mean(name, known)}"
                )

    def residual(self, values: Mapping[str, Tensor]) -> Tensor:
        parts = [values[name] for name in self.names]

        def one(*arguments: Tensor) -> Tensor:
            return self._read(self.function(**dict(zip(self.names, arguments, strict=True))))

        try:
            found = torch.vmap(one)(*parts)
        except Exception:  # the function looks at values (if, .item(), NumPy): one draw at a time
            found = torch.stack([self._alone(one, row) for row in zip(*parts, strict=True)])
        if torch.isnan(found).any():
            row = int(torch.isnan(found).nonzero()[0])
            raise QueryError(f"{self} is NaN for a draw: {self._shown([part[row] for part in parts])}.")
        return found

    def _alone(self, one: Callable[..., Tensor], arguments: Sequence[Tensor]) -> Tensor:
        try:
            return one(*arguments)
        except QueryError:
            raise
        except Exception as error:
            raise QueryError(
                f"{self} raised {type(error).__name__}: {error}\n  for the draw {self._shown(arguments)}"
            ) from error

    def _read(self, value: Any) -> Tensor:
        """Returns the residual of what the function returned for one draw."""
        if not isinstance(value, Tensor):
            try:
                value = torch.as_tensor(value)
            except (TypeError, ValueError, RuntimeError):
                kind = "None (is a return statement missing?)" if value is None else a_kind(value)
                raise QueryError(f"the function of {self} returned {kind}.\n  {self._advice}") from None
        if self.graded == (value.dtype == torch.bool):
            shown = "a truth value" if self.graded else f"a number ({value.dtype})"
            raise QueryError(f"the function of {self} returned {shown}.\n  {self._advice}")
        if self.graded:
            return value.double().flatten().amax(0)
        return (~value.flatten().all(0)).double()

    @property
    def _advice(self) -> str:
        if self.graded:
            return "sg.constraint takes a residual that is at most 0 where it holds; for truth values use sg.where."
        return "sg.where takes a function that returns true or false; for a residual use sg.constraint."

    def _shown(self, arguments: Sequence[Tensor]) -> str:
        return ", ".join(f"{name}={value.tolist()}" for name, value in zip(self.names, arguments, strict=True))

    def __str__(self) -> str:
        kind = "constraint" if self.graded else "where"
        label = getattr(self.function, "__name__", type(self.function).__name__)
        return f"{kind}({'' if label == '<lambda>' else label + ': '}{', '.join(self.names)})"

    __repr__ = __str__


def constraint(function: Callable[..., Any]) -> Condition:
    """Demands that a residual is at most 0.

    Args:
        function: Takes variables by name, each as a torch tensor of one draw in natural units, and returns a
            number, or several that have to be at most 0 together. Parameters with a default are constants.

    Returns:
        A condition for ``given``. Unlike :func:`where` it says how far a draw is from satisfying it, and so
        can be satisfied where that hardly ever happens by itself.

    Example:
        >>> constraint(lambda theta: theta[0] - theta[1])
        constraint(theta)
    """
    return _condition("constraint", function, graded=True)


def where(function: Callable[..., Any]) -> Condition:
    """Demands that a predicate is true.

    Args:
        function: Takes variables by name, each as a torch tensor of one draw in natural units, and returns
            true or false; of several truth values, all have to be true. Parameters with a default are constants.

    Returns:
        A condition for ``given``.

    Example:
        >>> where(lambda theta, x: x[0] > theta.max())
        where(theta, x)
    """
    return _condition("where", function, graded=False)


def _condition(kind: str, function: Any, *, graded: bool) -> Condition:
    if not callable(function):
        raise QueryError(f"{kind}(...) takes a function of variables, not {function!r}.")
    try:
        inspect.signature(function)
    except (TypeError, ValueError):
        raise QueryError(f"{kind}(...) takes a function whose parameters can be read, not {function!r}.") from None
    return Condition(function, graded)
