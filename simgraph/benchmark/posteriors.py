"""Tasks that ask for posteriors of given observations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from simgraph.benchmark.question import Question
from simgraph.benchmark.references import load_reference
from simgraph.errors import DeclarationError
from simgraph.graph import Graph

__all__ = ["OBSERVATIONS", "Posteriors"]

OBSERVATIONS = 5
"""Number of observations of every task."""


def _published(name: str) -> np.ndarray:
    return load_reference(name).observations[:OBSERVATIONS]


@dataclass(frozen=True)
class Posteriors:
    """A task: a graph, and observations whose posteriors are known exactly or by published draws.

    Attributes:
        name: Name of the task; references are kept under it.
        graph: The graph.
        data: Shapes of what is observed, by name, in the order of a flat observation.
        parameters: Names of what is asked for, in the order of the references' columns.
        exact: Draws (count, dimensions) from the posterior of an observation (dimensions,), from a seed, where the
            posterior has a closed form.
        log_prob: Exact log densities (rows,) of parameters (rows, dimensions) given observations (rows, dimensions),
            where the posterior has a closed form.
        draws_of: The task whose published draws are used, where it is another one.
        observed: Makes the observations of a name, (observations, dimensions); the published ones by default.
    """

    name: str
    graph: Graph
    data: Mapping[str, tuple[int, ...]]
    parameters: tuple[str, ...] = ("theta",)
    exact: Callable[[np.ndarray, int, int], np.ndarray] | None = None
    log_prob: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    draws_of: str | None = None
    observed: Callable[[str], np.ndarray] = field(default=_published)

    @property
    def questions(self) -> int:
        """Number of questions, one for each observation."""
        return len(self.observations())

    def question(self, number: int) -> Question:
        """Returns the question for the parameters given an observation, by its number from 0 on."""
        question = self.about(self.evidence(self.observations()[number]), number)
        return replace(question, reference=partial(self.reference, number))

    def about(self, trace: Mapping[str, np.ndarray], number: int) -> Question:
        """Returns the question for the parameters given the data of a trace, values by name, whatever the number."""
        latent = {name: np.ones(shape, dtype=bool) for name, shape in self._shapes.items()}
        return Question({name: trace[name] for name in self.data}, latent)

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        traces = self.graph.simulate(1, seed=0, progress=False)
        return {name: np.shape(traces[name])[1:] for name in self.parameters}

    def observations(self) -> np.ndarray:
        """Returns the observations, flat: (observations, dimensions)."""
        return self.observed(self.name)

    def evidence(self, observation: np.ndarray) -> dict[str, Any]:
        """Returns the values by name, in the graph's shapes, of a flat observation (dimensions,)."""
        sizes = [int(np.prod(shape)) for shape in self.data.values()]
        pieces = np.split(observation, np.cumsum(sizes)[:-1])
        return {name: piece.reshape(shape) for (name, shape), piece in zip(self.data.items(), pieces, strict=True)}

    def reference(self, number: int, count: int, part: int = 0) -> np.ndarray:
        """Returns draws (count, dimensions) from the posterior of an observation.

        Args:
            number: Number of the observation, from 0 on.
            count: Number of draws.
            part: Number of the set, 0 or 1; the two sets are independent of each other.

        Raises:
            DeclarationError: If fewer draws were published than asked for.
        """
        if self.exact is not None:
            return self.exact(self.observations()[number], count, 2 * number + part)
        draws = load_reference(self.draws_of or self.name).samples[number]
        if (part + 1) * count > len(draws):
            raise DeclarationError(
                f"task {self.name!r} has {len(draws)} reference draws for each observation;"
                f" that is not enough for {part + 1} set{'s' * part} of {count}."
            )
        return draws[part * count :][:count]
