"""Draws of the latent tokens of one query, in chunks.

A draw that leaks through the edge of a finite interval is drawn again.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from simgraph.compile import Compiled
from simgraph.compile.masks import LATENT
from simgraph.query.problem import Problem
from simgraph.query.solvers import Sampler
from simgraph.simformer import Denoiser
from simgraph.threads import one_thread
from simgraph.traces.seeds import torch_stream

__all__ = ["draw"]

_ATTEMPTS = 6
"""How often a draw that leaked through the edge of a finite interval is drawn again, before it is moved inside."""


@torch.no_grad()
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
    problem = Problem(compiled, denoiser, values, states)
    slots = problem.slots
    out = torch.zeros(len(values) * num_samples, *values.shape[1:])
    out[:, slots] = values[:, slots].repeat_interleave(num_samples, 0)

    def fill(rows: Tensor, attempt: int, number: int) -> Tensor:
        """Draws some rows; returns those of them that leaked."""
        generator = torch_stream(seed, "draw", attempt, number)
        noise = torch.randn(len(rows), len(slots), values.shape[-1], generator=generator)
        evidence = rows // num_samples
        with torch.no_grad():
            drawn = sampler.solve(problem.denoise(evidence), noise[:, problem.position])
            out[rows[:, None], slots] = problem.filled(evidence, drawn)
        leaked = compiled.layout.leaked(out[rows]) & (states[evidence] == LATENT)
        return rows[leaked.any(1)]

    # Chunks are independent, so cores work on one each; splitting single operations would not pay.
    pending = torch.arange(len(out))
    with one_thread(), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for attempt in range(_ATTEMPTS):
            chunks = pending.split(problem.chunk)
            pending = torch.cat(list(pool.map(fill, chunks, [attempt] * len(chunks), range(len(chunks)))))
            if not len(pending):
                break
    return out.reshape(len(values), num_samples, *values.shape[1:])
