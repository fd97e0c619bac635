"""A query as the network sees it: which tokens are in the sequence, and which of them are encoded only once.

Tokens that are absent from the query are absent from the sequence. In the cached form the keys and
values of observed tokens are computed once per piece of evidence; otherwise observed tokens are
encoded anew at each noise level.
"""

from __future__ import annotations

import threading
from typing import cast

import torch
from torch import Tensor

from simgraph.compile import Compiled
from simgraph.compile.edges import EdgeList
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED, SPARSE
from simgraph.query.solvers import DEFAULT_SAMPLER, Denoise
from simgraph.simformer import Denoiser
from simgraph.simformer.network import Memory

__all__ = ["Problem"]

_LIGHT = 16
"""A token that is only read takes so many times less memory than one that goes through the network."""


class Problem:
    """A query, ready to be solved for any of its pieces of evidence.

    Args:
        compiled: The compiled graph.
        denoiser: The trained denoiser.
        values: Tokens (evidence, tokens, width); only observed ones are read.
        states: Condition states (evidence, tokens).
        chunk_tokens: Tokens that go through the network together.

    Attributes:
        slots: The tokens that are in the query, (slots,).
        active: Those of them that go through the network at each noise level.
        position: Where the active ones stand among the slots.
        chunk: Number of rows that go through the network together; those of one piece of evidence share what is
            remembered of it.
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
        kinds, self.which = torch.unique(states, dim=0, return_inverse=True)
        self.masks = compiled.rule.masks(kinds, denoiser.network.architecture.depth)
        self.slots = (states != ABSENT).any(0).nonzero().flatten()
        observed = (states == OBSERVED).any(0)
        mixed = observed & (states == LATENT).any(0)
        self.remembered = torch.zeros(0, dtype=torch.long)
        if denoiser.network.timeless and not mixed.any():
            self.remembered = observed.nonzero().flatten()
        self.active = self.slots[~torch.isin(self.slots, self.remembered)]
        self.position = torch.searchsorted(self.slots, self.active)
        self._lock, self._only = threading.Lock(), cast(Memory | None, None)
        self.chunk = max(1, min(chunk_tokens // len(self.active), _LIGHT * chunk_tokens // len(self.slots)))

    def latent(self, evidence: Tensor) -> Tensor:
        """Tells which active tokens are latent, (rows, active, 1), for each of the numbered pieces of evidence."""
        return (self.states[evidence][:, self.active] == LATENT).unsqueeze(-1)

    def denoise(self, evidence: Tensor) -> Denoise:
        """Returns the denoiser of active tokens (rows, active, width), one row for each numbered piece of evidence."""
        active, known = self.active, self.remembered
        memory = (known, self._memory(evidence)) if len(known) else None
        keys = torch.cat([known, active]) if len(known) else active
        own, own_states = self.values[evidence][:, active], self.states[evidence][:, active]
        if bool((own_states == own_states[:1]).all()):
            own_states = own_states[:1]
        mask = self._masks(evidence, active, keys)
        everything = isinstance(mask, Tensor) and bool(mask.all())
        own_mask = None if everything else self.denoiser.ready(mask, len(evidence))
        latent = self.latent(evidence)
        wanted: Tensor | None = latent.any(0).flatten().nonzero().flatten()
        if wanted is not None and len(wanted) == len(active):
            wanted = None

        def denoise(x: Tensor, sigma: float) -> Tensor:
            full = torch.where(latent, x, own)
            return self.denoiser(full, torch.tensor([sigma]), own_states, own_mask, active, memory, wanted)

        return denoise

    def centre(self, evidence: Tensor, sigma: float) -> Tensor | None:
        """Returns what zeros are denoised to, (rows, active, width), computed once for each piece among the rows.

        None where that saves nothing: pieces have one row each, or are remembered, which makes rows cheap.
        """
        unique, back = torch.unique(evidence, return_inverse=True)
        if len(unique) == len(evidence) or len(self.remembered):
            return None
        zeros = torch.zeros(len(unique), len(self.active), self.values.shape[-1])
        return self.denoise(unique)(zeros, sigma)[back]

    def _memory(self, evidence: Tensor) -> Memory:
        """Returns what is remembered of pieces of evidence; of a single one it is made once for all chunks."""
        if len(self.values) == 1:
            with self._lock:
                if self._only is None:
                    self._only = self._remember(torch.zeros(1, dtype=torch.long))
            return self._only
        unique, back = torch.unique(evidence, return_inverse=True)
        remembered = self._remember(unique)
        return remembered if len(unique) == 1 else [(key[:, back], value[:, back]) for key, value in remembered]

    def _remember(self, pieces: Tensor) -> Memory:
        known = self.remembered
        # Chunks that need gradients may read what others that do not have made.
        with torch.inference_mode(False), torch.no_grad():
            masks, values, states = self._masks(pieces, known, known), self.values[pieces], self.states[pieces]
            return self.denoiser.remember(values[:, known], states[:, known], masks, known)[1]

    def _masks(self, evidence: Tensor, queries: Tensor, keys: Tensor) -> Tensor | EdgeList:
        """Returns the masks of pieces of evidence; a single table where they all ask the same."""
        kinds = self.which[evidence]
        if isinstance(self.masks, Tensor) and bool((kinds == kinds[0]).all()):
            kinds = kinds[:1]
        return _among(self.masks[kinds], queries, keys)

    def filled(self, evidence: Tensor, x: Tensor) -> Tensor:
        """Puts active tokens (rows, active, width) beside the observed ones: (rows, slots, width)."""
        out = self.values[evidence][:, self.slots]
        out[:, self.position] = torch.where(self.latent(evidence), x, out[:, self.position])
        return out


def _among(masks: Tensor | EdgeList, queries: Tensor, keys: Tensor) -> Tensor | EdgeList:
    """Returns masks of fewer tokens; a list of most of their pairs becomes a table."""
    if not isinstance(masks, EdgeList):
        return masks[:, queries[:, None], keys]
    fewer = masks.among(queries, keys)
    return fewer.dense() if len(fewer.query) > SPARSE * len(fewer) * len(queries) * len(keys) else fewer
