"""How draws are made to satisfy intervals, constraints and predicates: choices, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, fields

from simgraph.errors import QueryError, did_you_mean

__all__ = ["METHODS", "Guided", "Method", "Rejection", "Splitting", "find_method"]


@dataclass(frozen=True)
class Method:
    """A method, with a budget after which it gives up with an error.

    Attributes:
        time_limit: Seconds for each call of ``sample``.
    """

    time_limit: float = 120.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            whole = field.type == "int"
            kind = "whole number of 1 or more" if whole else "positive number"
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not value > 0:
                raise QueryError(f"{type(self).__name__}({field.name}={value!r}) is not a {kind}.")


@dataclass(frozen=True)
class Rejection(Method):
    """Draws from the learned law until enough draws satisfy the demand: exact for that law, and slow where few do.

    Attributes:
        tries: Draws for each piece of evidence, at most.
    """

    tries: int = 1_000_000


@dataclass(frozen=True)
class Splitting(Method):
    """Sequential Monte Carlo through a ladder of relaxed demands; see :mod:`simgraph.query.splitting`.

    Attributes:
        sweeps: Moves of each draw on each rung of the ladder, and half as many between two places that are kept.
        particles: Draws that climb the ladder together.
    """

    sweeps: int = 4
    particles: int = 500


@dataclass(frozen=True)
class Guided(Method):
    """Guided diffusion: fast and approximate, some draws may violate the demand; see :mod:`simgraph.query.guidance`.

    Attributes:
        steps: Noise levels.
        recurrence: How often the step to the next level is repeated, with noise put back between.
        strength: Factor on the gradient of the guide.
    """

    steps: int = 30
    recurrence: int = 3
    strength: float = 1.0


METHODS: dict[str, Method | None] = {
    "auto": None,
    "rejection": Rejection(),
    "smc": Splitting(),
    "guided": Guided(),
}
"""Methods by name; ``"auto"`` tries rejection, and takes ``"smc"`` where too few draws satisfy the demand."""


def find_method(method: str | Method) -> Method | None:
    """Returns a method by name, or the one that was handed over; None leaves the choice open.

    Raises:
        QueryError: If there is no such method.
    """
    if isinstance(method, Method):
        return method
    if not isinstance(method, str) or method not in METHODS:
        raise QueryError(f"method={method!r} is not known.\n  {did_you_mean(str(method), METHODS, 'Methods')}")
    return METHODS[method]
