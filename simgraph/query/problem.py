"""A query as the network sees it: which tokens are in the sequence, and which of them are encoded only once.

Tokens that are absent from the query are absent from the sequence. In the cached form the keys and
values of observed tokens are computed once per piece of evidence; otherwise observed tokens are
encoded anew at each noise level.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simgraph.compile import Compiled
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.query.solvers import DEFAULT_SAMPLER, Denoise
from simgraph.simformer import Denoiser

__all__ = ["Problem"]


class Problem:
    """A query, ready to be solved for any of its pieces of evidence.

    Args:
        compiled: The compiled graph.
        denoiser: The trained denoiser.
        values: Tokens (evidence, tokens, width); only observed ones are read.
        states: Condition states (evidence, tokens).
        chunk_tokens: Tokens that go through the network together.

    Attributes:
        slots: The tokens in the query, with those that share a place with them, (slots,).
        active: Those of them that go through the network at each noise level.
        position: Where the active ones stand among the slots.
        chunk: Number of rows that go through the network together.
    """

    def __init__(
        self,
        compiled: Compiled,
        denoiser: Denoiser,
        values: Tensor,
        states: Tensor,
        chunk_tokens: int = DEFAULT_SAMPLER.chunk_tokens,
    ) -> None:
        self.denoiser, self.values, self.states = denoiser, values, states
        self.places = compiled.groups.of
        kinds, self.which = torch.unique(states, dim=0, return_inverse=True)
        self.masks = compiled.place_masks(kinds, denoiser.network.architecture.depth)
        merged = compiled.groups.merged(kinds)
        present, observed = (merged != ABSENT).any(0), (merged == OBSERVED).any(0)
        if not denoiser.network.timeless or (observed & (merged == LATENT).any(0)).any():
            observed = torch.zeros_like(observed)
        self.slots = present[self.places].nonzero().flatten()
        self.remembered = observed[self.places].nonzero().flatten()
        self.active = (present & ~observed)[self.places].nonzero().flatten()
        self.position = torch.searchsorted(self.slots, self.active)
        self.chunk = max(1, chunk_tokens // len(self.slots))

    def latent(self, evidence: Tensor) -> Tensor:
        """Tells which active tokens are latent, (rows, active, 1), for each of the numbered pieces of evidence."""
        return (self.states[evidence][:, self.active] == LATENT).unsqueeze(-1)

    def denoise(self, evidence: Tensor) -> Denoise:
        """Returns the denoiser of active tokens (rows, active, width), one row for each numbered piece of evidence."""
        active, known = self.active, self.remembered
        here, there = self.places[active].unique(), self.places[known].unique()
        mask = self.masks[self.which[evidence]]
        memory = None
        if len(known):
            unique, back = torch.unique(evidence, return_inverse=True)
            pieces = self.masks[self.which[unique]][:, there[:, None], there]
            with torch.no_grad():
                _, remembered = self.denoiser.remember(
                    self.values[unique][:, known], self.states[unique][:, known], pieces, known
                )
            memory = (there, [(key[:, back], value[:, back]) for key, value in remembered])
        keys = torch.cat([there, here]) if len(known) else here
        own, own_states = self.values[evidence][:, active], self.states[evidence][:, active]
        own_mask: Tensor | None = mask[:, here[:, None], keys]
        if own_mask is not None and bool(own_mask.all()):
            own_mask = None
        latent = self.latent(evidence)
        asked = self.places[active[latent.any(0).flatten()]].unique()
        wanted = torch.searchsorted(here, asked) if len(asked) < len(here) else None

        def denoise(x: Tensor, sigma: float) -> Tensor:
            full = torch.where(latent, x, own)
            return self.denoiser(full, torch.tensor([sigma]), own_states, own_mask, active, memory, wanted)

        return denoise

    def filled(self, evidence: Tensor, x: Tensor) -> Tensor:
        """Puts active tokens (rows, active, width) beside the observed ones: (rows, slots, width)."""
        out = self.values[evidence][:, self.slots]
        out[:, self.position] = torch.where(self.latent(evidence), x, out[:, self.position])
        return out
