"""Draws of the latent tokens of one query: the solver as a map from noise to draws, in chunks.

A draw that leaks through the edge of a finite interval is drawn again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simgraph.compile import Compiled
from simgraph.compile.masks import LATENT
from simgraph.processor import workers
from simgraph.query.problem import Problem
from simgraph.query.solvers import Sampler
from simgraph.simformer import Denoiser
from simgraph.traces.seeds import torch_stream

__all__ = ["Pushforward", "draw"]

_PARTS = 2
"""Chunks of few draws; a fixed number, so that a seed gives the same draws on any number of cores."""

_ATTEMPTS = 6
"""How often a draw that leaked through the edge of a finite interval is drawn again, before it is moved inside."""


def draw(
    compiled: Compiled,
    denoiser: Denoiser,
    values: Tensor,
    states: Tensor,
    num_samples: int,
    sampler: Sampler,
    seed: int,
) -> Tensor:
    """Draws the latent tokens given the observed ones.

    Args:
        compiled: The compiled graph.
        denoiser: The trained denoiser.
        values: Tokens (evidence, tokens, width); only observed ones are read.
        states: Condition states (evidence, tokens).
        num_samples: Draws for each piece of evidence.
        sampler: The solver.
        seed: Seed of the draws.

    Returns:
        Tokens (evidence, num_samples, tokens, width): latent ones drawn, observed ones as given.
    """
    push = Pushforward(compiled, denoiser, values, states, sampler)
    out = torch.empty(len(values) * num_samples, *values.shape[1:])
    pending = torch.arange(len(out))
    for attempt in range(_ATTEMPTS):
        noise = torch.randn(len(pending), *push.shape, generator=torch_stream(seed, "draw", attempt))
        evidence = pending // num_samples
        drawn = push(evidence, noise)
        out[pending] = drawn
        pending = pending[push.leaked(evidence, drawn)]
        if not len(pending):
            break
    return out.reshape(len(values), num_samples, *values.shape[1:])


class Pushforward:
    """The map from standard normal noise to draws of one query.

    Args:
        compiled: The compiled graph.
        denoiser: The trained denoiser.
        values: Tokens (evidence, tokens, width); only observed ones are read.
        states: Condition states (evidence, tokens).
        sampler: The solver.

    Attributes:
        shape: Shape of the noise of one draw, (tokens that are not absent, width).
    """

    def __init__(
        self, compiled: Compiled, denoiser: Denoiser, values: Tensor, states: Tensor, sampler: Sampler
    ) -> None:
        self.layout, self.values, self.states, self.sampler = compiled.layout, values, states, sampler
        self.problem = Problem(compiled, denoiser, values, states, sampler.chunk_tokens)
        self.shape = (len(self.problem.slots), values.shape[-1])

    def __call__(self, evidence: Tensor, noise: Tensor) -> Tensor:
        """Returns the draw of each row of noise.

        Args:
            evidence: Which piece of evidence each draw is for, (rows,).
            noise: Noise (rows, *shape).

        Returns:
            Tokens (rows, tokens, width): latent ones drawn, observed ones as given, absent ones zero.
        """
        problem = self.problem
        out = torch.zeros(len(noise), *self.values.shape[1:])

        def fill(rows: Tensor) -> None:
            with torch.inference_mode():
                own, start = evidence[rows], noise[rows][:, problem.position]
                centre = problem.centre(own, self.sampler.sigma_max)
                drawn = self.sampler.solve(problem.denoise(own), start, centre)
                drawn = problem.denoiser.settled(drawn, problem.active)
                out[rows[:, None], problem.slots] = problem.filled(own, drawn)

        # Chunks are independent, so cores work on one each; splitting single operations would not pay.
        with workers() as pool:
            size = max(1, min(problem.chunk, -(-len(noise) // _PARTS)))
            list(pool.map(fill, torch.arange(len(noise)).split(size)))
        return out

    def leaked(self, evidence: Tensor, tokens: Tensor) -> Tensor:
        """Tells which draws (rows, tokens, width) leaked through the edge of a finite interval: (rows,)."""
        return (self.layout.leaked(tokens) & (self.states[evidence] == LATENT)).any(1)
