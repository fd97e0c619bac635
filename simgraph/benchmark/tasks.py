"""The tasks of the benchmark by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
    slcp_conditionals,
    slcp_distractors,
    tree,
    two_moons,
    two_moons_conditionals,
)
from simgraph.benchmark.conditionals import Conditionals
from simgraph.benchmark.posteriors import OBSERVATIONS, Posteriors
from simgraph.benchmark.question import SEED
from simgraph.benchmark.references import load_reference
from simgraph.errors import DeclarationError, did_you_mean

__all__ = ["TASKS", "Task", "find_task"]

Task = Posteriors | Conditionals


def find_task(name: str) -> Task:
    """Returns a task by its name.

    Raises:
        DeclarationError: If there is no task of that name.

    Example:
        >>> find_task("slcp").questions
        5
    """
    if name not in TASKS:
        raise DeclarationError(f"{name!r} is no task of the benchmark.\n  {did_you_mean(name, TASKS, 'Tasks')}")
    return TASKS[name]


def _observations_of(other: str) -> Callable[[str], np.ndarray]:
    return lambda _: load_reference(other).observations[:OBSERVATIONS]


def _chain(name: str) -> np.ndarray:
    simulated = hmm.hmm.simulate(OBSERVATIONS, seed=SEED, progress=False)
    return np.stack([simulated[f"x_{step}"] for step in range(hmm.STEPS)], 1)


_STATES = tuple(f"theta_{step}" for step in range(hmm.STEPS))

_ALL: tuple[Task, ...] = (
    Posteriors("two_moons", two_moons.two_moons, {"x": (2,)}),
    Posteriors(
        "gaussian_linear",
        gaussian_linear.gaussian_linear,
        {"x": (10,)},
        exact=gaussian_linear.posterior_draws,
        log_prob=gaussian_linear.posterior_log_prob,
    ),
    Posteriors(
        "gaussian_linear_uniform",
        gaussian_linear_uniform.gaussian_linear_uniform,
        {"x": (10,)},
        exact=gaussian_linear_uniform.posterior_draws,
        log_prob=gaussian_linear_uniform.posterior_log_prob,
    ),
    Posteriors(
        "gaussian_mixture",
        gaussian_mixture.gaussian_mixture,
        {"x": (2,)},
        exact=gaussian_mixture.posterior_draws,
        log_prob=gaussian_mixture.posterior_log_prob,
    ),
    Posteriors("slcp", slcp.slcp, {"x": (4, 2)}),
    Posteriors("slcp_distractors", slcp_distractors.slcp_distractors, {"x": (100,)}, draws_of="slcp"),
    Posteriors("bernoulli_glm", bernoulli_glm.bernoulli_glm, {"x": (10,)}, ("offset", "filter")),
    Posteriors(
        "bernoulli_glm_raw",
        bernoulli_glm.bernoulli_glm_raw,
        {"y": (100,)},
        ("offset", "filter"),
        draws_of="bernoulli_glm",
    ),
    Posteriors(
        "bernoulli_glm_embedded",
        bernoulli_glm.bernoulli_glm_embedded,
        {"y": (100,)},
        ("offset", "filter"),
        draws_of="bernoulli_glm",
        observed=_observations_of("bernoulli_glm_raw"),
    ),
    Posteriors("sir", sir.sir, {"x": (10,)}),
    Posteriors("lotka_volterra", lotka_volterra.lotka_volterra, {"x": (20,)}),
    Posteriors(
        "lotka_volterra_chunks",
        lotka_volterra.lotka_volterra_chunks,
        {"x": (20,)},
        draws_of="lotka_volterra",
        observed=_observations_of("lotka_volterra"),
    ),
    Posteriors(
        "hmm",
        hmm.hmm,
        {f"x_{step}": () for step in range(hmm.STEPS)},
        _STATES,
        exact=hmm.posterior_draws,
        observed=_chain,
    ),
    Conditionals("tree_conditionals", tree.tree, ("theta1", "theta2", "theta3"), tree.conditional_draws),
    Conditionals("hmm_conditionals", hmm.hmm, _STATES, hmm.conditional_draws),
    Conditionals("two_moons_conditionals", two_moons.two_moons, ("theta",), two_moons_conditionals.conditional_draws),
    Conditionals("slcp_conditionals", slcp.slcp, ("theta",), slcp_conditionals.conditional_draws, {"x": 1}),
)

TASKS: Mapping[str, Task] = {task.name: task for task in _ALL}
"""Tasks by name."""
