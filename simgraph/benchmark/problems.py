"""Tasks with observations whose posteriors are known, in one form for programs that judge posteriors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simgraph.benchmark import (
    bernoulli_glm,
    gaussian_linear,
    gaussian_linear_uniform,
    gaussian_mixture,
    hmm,
    lotka_volterra,
    sir,
    slcp,
    slcp_distractors,
    two_moons,
)
from simgraph.benchmark.references import load_reference
from simgraph.errors import DeclarationError, did_you_mean
from simgraph.graph import Graph

__all__ = ["PROBLEMS", "TASKS", "Problem", "Task", "find_task", "flat"]

_OBSERVATIONS = 5


@dataclass(frozen=True)
class Problem:
    """A graph with observations whose posteriors are known.

    Attributes:
        graph: The graph.
        of: The variables that are asked for, in the order of the reference's columns.
        evidence: Values by name, for each observation.
        reference: Posterior draws (draws, dimensions), for each observation.
    """

    graph: Graph
    of: tuple[str, ...]
    evidence: Sequence[Mapping[str, Any]]
    reference: Sequence[np.ndarray]


def _published(name: str) -> np.ndarray:
    return load_reference(name).observations[:_OBSERVATIONS]


@dataclass(frozen=True)
class Task:
    """A task: a graph, and observations whose posteriors are known exactly or by published draws.

    Attributes:
        name: Name of the task; references are kept under it.
        graph: The graph.
        data: Shapes of what is observed, by name, in the order of a flat observation.
        parameters: Names of what is asked for, in the order of the references' columns.
        exact: Draws (count, dimensions) from the posterior of an observation (dimensions,), from a seed, where the
            posterior has a closed form.
        draws_of: The task whose published draws are used, where it is another one.
        observed: Makes the observations of a name, (observations, dimensions); the published ones by default.
    """

    name: str
    graph: Graph
    data: Mapping[str, tuple[int, ...]]
    parameters: tuple[str, ...] = ("theta",)
    exact: Callable[[np.ndarray, int, int], np.ndarray] | None = None
    draws_of: str | None = None
    observed: Callable[[str], np.ndarray] = field(default=_published)

    def observations(self) -> np.ndarray:
        """Returns the observations, flat: (observations, dimensions)."""
        return self.observed(self.name)

    def evidence(self, observation: np.ndarray) -> dict[str, Any]:
        """Returns the values by name, in the graph's shapes, of a flat observation (dimensions,)."""
        sizes = [int(np.prod(shape)) for shape in self.data.values()]
        pieces = np.split(observation, np.cumsum(sizes)[:-1])
        return {name: piece.reshape(shape) for (name, shape), piece in zip(self.data.items(), pieces, strict=True)}

    def reference(self, number: int, count: int) -> np.ndarray:
        """Returns draws (count, dimensions) from the posterior of an observation.

        Args:
            number: Number of the observation, from 0 on.
            count: Number of draws.

        Raises:
            DeclarationError: If fewer draws were published than asked for.
        """
        if self.exact is not None:
            return self.exact(self.observations()[number], count, number)
        draws = load_reference(self.draws_of or self.name).samples[number]
        if count > len(draws):
            raise DeclarationError(
                f"task {self.name!r} has {len(draws)} reference draws for each observation, not {count}."
            )
        return draws[:count]

    def problem(self, draws: int) -> Problem:
        """Returns all observations with so many reference draws each."""
        observations = self.observations()
        evidence = [self.evidence(observation) for observation in observations]
        reference = [self.reference(number, draws) for number in range(len(observations))]
        return Problem(self.graph, self.parameters, evidence, reference)


def flat(samples: Mapping[str, Any], names: Sequence[str]) -> np.ndarray:
    """Puts named draws (count, *event_shape) side by side, in the form (count, dimensions) of the references."""
    columns = [np.asarray(samples[name]) for name in names]
    return np.concatenate([column.reshape(len(column), -1) for column in columns], 1)


def find_task(name: str) -> Task:
    """Returns a task by its name.

    Raises:
        DeclarationError: If there is no task of that name.

    Example:
        >>> find_task("slcp").data
        {'x': (4, 2)}
    """
    if name not in TASKS:
        raise DeclarationError(f"{name!r} is no task of the benchmark.\n  {did_you_mean(name, TASKS, 'Tasks')}")
    return TASKS[name]


def _chain(name: str) -> np.ndarray:
    simulated = hmm.hmm.simulate(_OBSERVATIONS, seed=2**20, progress=False)  # no training has this seed
    return np.stack([simulated[f"x_{step}"] for step in range(hmm.STEPS)], 1)


_ALL = (
    Task("two_moons", two_moons.two_moons, {"x": (2,)}),
    Task("gaussian_linear", gaussian_linear.gaussian_linear, {"x": (10,)}, exact=gaussian_linear.posterior_draws),
    Task(
        "gaussian_linear_uniform",
        gaussian_linear_uniform.gaussian_linear_uniform,
        {"x": (10,)},
        exact=gaussian_linear_uniform.posterior_draws,
    ),
    Task("gaussian_mixture", gaussian_mixture.gaussian_mixture, {"x": (2,)}, exact=gaussian_mixture.posterior_draws),
    Task("slcp", slcp.slcp, {"x": (4, 2)}),
    Task("slcp_distractors", slcp_distractors.slcp_distractors, {"x": (100,)}, draws_of="slcp"),
    Task("bernoulli_glm", bernoulli_glm.bernoulli_glm, {"x": (10,)}, ("offset", "filter")),
    Task(
        "bernoulli_glm_raw",
        bernoulli_glm.bernoulli_glm_raw,
        {"y": (100,)},
        ("offset", "filter"),
        draws_of="bernoulli_glm",
    ),
    Task("sir", sir.sir, {"x": (10,)}),
    Task("lotka_volterra", lotka_volterra.lotka_volterra, {"x": (20,)}),
    Task(
        "hmm",
        hmm.hmm,
        {f"x_{step}": () for step in range(hmm.STEPS)},
        tuple(f"theta_{step}" for step in range(hmm.STEPS)),
        exact=hmm.posterior_draws,
        observed=_chain,
    ),
)

TASKS: Mapping[str, Task] = {task.name: task for task in _ALL}
"""Tasks by name."""

PROBLEMS: Mapping[str, Callable[[int], Problem]] = {
    name: TASKS[name].problem for name in ("gaussian_linear", "hmm", "slcp")
}
"""Problems that masks are compared on, by the name of their task; each takes the number of reference draws."""
