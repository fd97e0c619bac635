"""Tasks with observations whose posteriors are known, in one form for programs that judge posteriors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simgraph.benchmark import gaussian_linear, hmm, slcp
from simgraph.benchmark.references import load_reference
from simgraph.graph import Graph

__all__ = ["PROBLEMS", "Problem"]

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


def _gaussian_linear(draws: int) -> Problem:
    observations = load_reference("gaussian_linear").observations[:_OBSERVATIONS]
    exact = [gaussian_linear.posterior_draws(x, draws, seed=number) for number, x in enumerate(observations)]
    return Problem(gaussian_linear.gaussian_linear, ("theta",), [{"x": x} for x in observations], exact)


def _hmm(draws: int) -> Problem:
    simulated = hmm.hmm.simulate(_OBSERVATIONS, seed=2**20, progress=False)  # no training has this seed
    observations = np.stack([simulated[f"x_{step}"] for step in range(hmm.STEPS)], 1)
    exact = [hmm.posterior_draws(x, draws, seed=number) for number, x in enumerate(observations)]
    evidence = [{f"x_{step}": x[step] for step in range(hmm.STEPS)} for x in observations]
    return Problem(hmm.hmm, tuple(f"theta_{step}" for step in range(hmm.STEPS)), evidence, exact)


def _slcp(draws: int) -> Problem:
    reference = load_reference("slcp")
    evidence = [{"x": x.reshape(4, 2)} for x in reference.observations[:_OBSERVATIONS]]
    return Problem(slcp.slcp, ("theta",), evidence, [draw[:draws] for draw in reference.samples[:_OBSERVATIONS]])


PROBLEMS: Mapping[str, Callable[[int], Problem]] = {
    "gaussian_linear": _gaussian_linear,
    "hmm": _hmm,
    "slcp": _slcp,
}
"""Problems by the name of their task; each takes the number of reference draws."""
