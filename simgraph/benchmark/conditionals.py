"""Tasks that ask for arbitrary conditionals: any part of a trace is given, all the rest is asked for.

What is given follows the published benchmark: nothing, all data, all parameters, or each element with probability 0.3
or 0.7. The right draws come from exact methods, see the modules of the graphs.

References:
    Gloeckler, Deistler, Weilbach, Wood and Macke, "All-in-one simulation-based inference" (2024), section 4.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np

from simgraph.benchmark.question import SEED, Question
from simgraph.graph import Graph
from simgraph.query.evidence import missing

__all__ = ["Conditionals"]

Draws = Callable[[Mapping[str, np.ndarray], Mapping[str, np.ndarray], int, int], Mapping[str, np.ndarray]]
"""(values by name, which of them are observed, count, seed) -> draws (count, *event_shape) by name."""


@dataclass(frozen=True)
class Conditionals:
    """A task whose questions are random conditionals.

    Attributes:
        name: Name of the task.
        graph: The graph.
        parameters: Names of its parameters; all other variables are data.
        draws: Draws everything that is not observed from its exact law.
        whole: By name the number of trailing axes whose elements are observed together or not at all.
        questions: Number of questions.
    """

    name: str
    graph: Graph
    parameters: tuple[str, ...]
    draws: Draws
    whole: Mapping[str, int] = field(default_factory=dict)
    questions: int = 20

    def question(self, number: int) -> Question:
        """Returns a question by its number, from 0 on; it is the same every time."""
        return replace(self.about(self._trace(number), number), reference=partial(self._reference, number))

    def about(self, trace: Mapping[str, np.ndarray], number: int) -> Question:
        """Returns a question about a trace, values by name: of what is given, that has the number."""
        observed = self._observed(number)
        given = {name: elements for name, elements in observed.items() if elements.any()}
        latent = {name: ~elements for name, elements in observed.items() if not elements.all()}
        evidence = {name: missing(trace[name], ~elements) for name, elements in given.items()}
        return Question(evidence, latent)

    def _reference(self, number: int, count: int, part: int) -> np.ndarray:
        values = {name: value.astype(np.float64) for name, value in self._trace(number).items()}
        draws = self.draws(values, self._observed(number), count, 2 * number + part)
        return self.question(number).columns(draws)

    def _trace(self, number: int) -> dict[str, np.ndarray]:
        return {name: column[number] for name, column in self._traces.items()}

    @cached_property
    def _traces(self) -> dict[str, np.ndarray]:
        traces = self.graph.simulate(self.questions, seed=SEED, progress=False)
        return {name: np.asarray(traces[name]) for name in self.graph.variables}

    def _observed(self, number: int) -> dict[str, np.ndarray]:
        """Draws which elements are given, by name: the five kinds take turns."""
        random = np.random.default_rng([SEED, number])
        kind = number % 5
        observed = {}
        for name, column in self._traces.items():
            shape = column.shape[1:]
            units = shape[: len(shape) - self.whole.get(name, 0)]
            parameter = name in self.parameters
            chance = (0.0, float(not parameter), float(parameter), 0.3, 0.7)[kind]
            chosen = random.random(units) < chance
            observed[name] = np.broadcast_to(chosen.reshape(units + (1,) * (len(shape) - len(units))), shape).copy()
        if all(elements.all() for elements in observed.values()):  # nothing would be left to ask for
            return {name: np.zeros_like(elements) for name, elements in observed.items()}
        return observed
