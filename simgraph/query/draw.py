"""Draws of the latent tokens of one query, in chunks.

Tokens that are absent from the query are absent from the sequence. In the cached form the keys and
values of observed tokens are computed once per piece of evidence; otherwise observed tokens are
encoded anew at each noise level. A draw that leaks through the edge of a finite interval is drawn again.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from simgraph.compile import Compiled
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.query.solvers import Sampler
from simgraph.simformer import Denoiser
from simgraph.threads import one_thread
from simgraph.traces.seeds import torch_stream

__all__ = ["draw"]

_ATTEMPTS = 6
"""How often a draw that leaked through the edge of a finite interval is drawn again, before it is moved inside."""

_CHUNK_TOKENS = 4096
"""Tokens that go through the network together: few enough for a processor's cache."""


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
    slots = (states != ABSENT).any(0).nonzero().flatten()
    depth = denoiser.network.architecture.depth
    kinds, which = torch.unique(states, dim=0, return_inverse=True)
    masks = compiled.rule.edge_mask(kinds, depth)
    problem = _Problem(denoiser, values, states, masks, which, slots)
    out = torch.zeros(len(values) * num_samples, *values.shape[1:])
    out[:, slots] = values[:, slots].repeat_interleave(num_samples, 0)

    def fill(rows: Tensor, attempt: int, number: int) -> Tensor:
        """Draws some rows; returns those of them that leaked."""
        generator = torch_stream(seed, "draw", attempt, number)
        noise = torch.randn(len(rows), len(slots), values.shape[-1], generator=generator)
        evidence = rows // num_samples
        with torch.no_grad():
            out[rows[:, None], slots] = problem.solve(evidence, noise, sampler)
        leaked = compiled.layout.leaked(out[rows]) & (states[evidence] == LATENT)
        return rows[leaked.any(1)]

    # Chunks are independent, so cores work on one each; splitting single operations would not pay.
    size = max(1, _CHUNK_TOKENS // len(slots))
    pending = torch.arange(len(out))
    with one_thread(), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for attempt in range(_ATTEMPTS):
            chunks = pending.split(size)
            pending = torch.cat(list(pool.map(fill, chunks, [attempt] * len(chunks), range(len(chunks)))))
            if not len(pending):
                break
    return out.reshape(len(values), num_samples, *values.shape[1:])


class _Problem:
    """A query, ready to be solved for any of its pieces of evidence."""

    def __init__(
        self, denoiser: Denoiser, values: Tensor, states: Tensor, masks: Tensor, which: Tensor, slots: Tensor
    ) -> None:
        self.denoiser, self.values, self.states = denoiser, values, states
        self.masks, self.which, self.slots = masks, which, slots
        observed = (states == OBSERVED).any(0)
        mixed = observed & (states == LATENT).any(0)
        self.remembered = torch.zeros(0, dtype=torch.long)
        if denoiser.network.timeless and not mixed.any():
            self.remembered = observed.nonzero().flatten()
        self.active = torch.tensor([slot for slot in slots.tolist() if slot not in set(self.remembered.tolist())])

    def solve(self, evidence: Tensor, noise: Tensor, sampler: Sampler) -> Tensor:
        """Draws once for each of the numbered pieces of evidence; ``noise`` is (rows, slots, width)."""
        active, known = self.active, self.remembered
        values = self.values[evidence]
        states = self.states[evidence]
        mask = self.masks[self.which[evidence]]
        memory = None
        if len(known):
            unique, back = torch.unique(evidence, return_inverse=True)
            pieces = self.masks[self.which[unique]][:, known[:, None], known]
            _, remembered = self.denoiser.remember(
                self.values[unique][:, known], self.states[unique][:, known], pieces, known
            )
            memory = (known, [(key[:, back], value[:, back]) for key, value in remembered])
        keys = torch.cat([known, active]) if len(known) else active
        own, own_states = values[:, active], states[:, active]
        own_mask: Tensor | None = mask[:, active[:, None], keys]
        if own_mask is not None and bool(own_mask.all()):
            own_mask = None
        latent = (own_states == LATENT).unsqueeze(-1)

        def denoise(x: Tensor, sigma: float) -> Tensor:
            full = torch.where(latent, x, own)
            return self.denoiser(full, torch.tensor([sigma]), own_states, own_mask, active, memory)

        position = torch.searchsorted(self.slots, active)
        drawn = sampler.solve(denoise, noise[:, position])
        out = values[:, self.slots].clone()
        out[:, position] = torch.where(latent, drawn, own)
        return out
