r"""The denoised mean of the latent tokens given the observed ones, and the loss that teaches it.

For continuous tokens the denoiser is the preconditioned network (see :mod:`simgraph.simformer.schedule`).
For a categorical token with codes :math:`c_k` the noised value says
:math:`\log p(x_\sigma \mid k) = x_\sigma \cdot c_k / \sigma^2 + const`, exactly; the network adds what
the other tokens say, and the denoised mean is

.. math:: D(x, \sigma) = \sum_k c_k \operatorname{softmax}_k(F_k + x \cdot c_k / \sigma^2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from simgraph.compile.masks import ABSENT, LATENT
from simgraph.simformer.network import Memory, Simformer
from simgraph.simformer.schedule import preconditioning

__all__ = ["Denoiser"]


class Denoiser(nn.Module):
    """Estimates E[x_0 | x_sigma, observed] for the latent tokens.

    Args:
        network: The transformer.
        ids: Identifiers of all tokens, (tokens,).
        coordinates: Plate coordinates of all tokens, (plates, tokens), -1 outside of a plate.
        widths: Number of features by identifier.
        classes: Number of categories by identifier, 0 for continuous ones.
        places: The place of each token in the sequence, (tokens,), rising; by default each token has its own.
        kinds: Identifiers of the places, (places,); those of the tokens by default.
    """

    ids: Tensor
    places: Tensor
    kinds: Tensor
    same: Tensor | None
    own: Tensor
    classes: Tensor

    def __init__(
        self,
        network: Simformer,
        ids: Tensor,
        coordinates: Tensor,
        widths: Tensor,
        classes: Tensor,
        places: Tensor | None = None,
        kinds: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        features = network.embedding.value.shape[1]
        places = torch.arange(len(ids)) if places is None else places
        # The tokens of a place belong to the same elements of plates.
        coordinates = coordinates[:, places.diff(prepend=places.new_tensor([-1])) > 0]
        same = (coordinates[:, :, None] == coordinates[:, None, :]) & (coordinates >= 0)[:, :, None]
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("kinds", ids if kinds is None else kinds, persistent=False)
        self.register_buffer("same", same.float() if len(coordinates) else None, persistent=False)
        self.register_buffer("own", torch.arange(features) < widths[ids, None], persistent=False)
        self.register_buffer("classes", classes[ids], persistent=False)

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        states: Tensor,
        mask: Tensor | None,
        slots: Tensor | None = None,
        memory: tuple[Tensor, Memory] | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Denoises.

        Args:
            x: Tokens (batch, tokens, features): latent ones noised, observed ones clean.
            sigma: Noise levels (batch,), or (1,) for one level in the whole batch.
            states: Condition states (batch, tokens).
            mask: M_E, boolean (batch or 1, places, keys), or None if everything may attend to everything.
            slots: Which slots ``x`` holds, (tokens,), all tokens of each place; all by default.
            memory: Places of observed tokens that are not in ``x``, with their keys and values.
            wanted: Which of the places that ``x`` holds have a latent token in some row, (wanted,), if these are not
                all: saves work.

        Returns:
            Denoised tokens (batch, tokens, features); observed tokens come back unchanged.
        """
        slots = torch.arange(len(self.ids)) if slots is None else slots
        raw = self._raw(x, sigma, states, mask, slots, memory, wanted)
        c_skip, c_out, _, _ = (c[:, None, None] for c in preconditioning(sigma))
        latent = (states == LATENT).unsqueeze(-1)
        denoised = torch.where(latent, c_skip * x + c_out * raw, x) * self.own[slots]
        classes = self.classes[slots]
        for count in self._counts(classes):
            here = classes == count
            centred = x[:, here, :count] - x[:, here, :count].mean(-1, keepdim=True)
            logits = raw[:, here, :count] + count**0.5 * centred / sigma[:, None, None].square()
            mean = count**0.5 * (logits.softmax(-1) - 1 / count)
            kept = torch.where(latent[:, here], mean, x[:, here, :count])
            denoised[:, here, :count] = kept
        return denoised

    def loss(self, x_0: Tensor, noise: Tensor, sigma: Tensor, states: Tensor, mask: Tensor | None) -> Tensor:
        """Returns the denoising loss of each token, (batch, tokens): zero where it is not latent.

        For continuous tokens this is (1 + sigma^2) / sigma^2 times the squared error of the denoised mean,
        averaged over features (Karras et al. 2022, section 5); for categorical ones the cross entropy.
        """
        latent = states == LATENT
        x = torch.where(latent.unsqueeze(-1), x_0 + sigma[:, None, None] * noise * self.own, x_0)
        slots = torch.arange(len(self.ids))
        raw = self._raw(x, sigma, states, mask, slots, None)
        c_skip, c_out, _, _ = (c[:, None, None] for c in preconditioning(sigma))
        error = (raw - (x_0 - c_skip * x) / c_out).square() * self.own
        loss = error.sum(-1) / self.own.sum(-1)
        for count in self._counts(self.classes):
            here = self.classes == count
            centred = x[:, here, :count] - x[:, here, :count].mean(-1, keepdim=True)
            logits = raw[:, here, :count] + count**0.5 * centred / sigma[:, None, None].square()
            target = x_0[:, here, :count].argmax(-1)
            loss = loss.clone()
            loss[:, here] = cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view(target.shape)
        return loss * latent

    def remember(self, x: Tensor, states: Tensor, mask: Tensor | None, slots: Tensor) -> tuple[Tensor, Memory]:
        """Returns keys and values of observed tokens, to be handed to :meth:`forward` as ``memory``."""
        kept, at = self._seats(slots)
        same = None if self.same is None else self.same[:, kept][:, :, kept]
        return kept, self.network.remember(x, states, self.ids[slots], mask, same, self.kinds[kept], at)

    def _raw(
        self,
        x: Tensor,
        sigma: Tensor,
        states: Tensor,
        mask: Tensor | None,
        slots: Tensor,
        memory: tuple[Tensor, Memory] | None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        _, _, c_in, c_noise = preconditioning(sigma)
        # Features that a token does not have were never trained; solvers put noise into all of them.
        own = x * self.own[slots]
        scaled = torch.where((states == LATENT).unsqueeze(-1), c_in[:, None, None] * own, own)
        kept, at = self._seats(slots)
        if at is not None:  # an absent token beside others is seen to be absent, and not its value
            scaled = scaled * (states != ABSENT).unsqueeze(-1)
        keys = kept if memory is None else torch.cat([memory[0], kept])
        same = None if self.same is None else self.same[:, kept][:, :, keys]
        known = None if memory is None else memory[1]
        pairs = self.kinds[kept], self.kinds[keys]
        return self.network(scaled, c_noise, states, self.ids[slots], mask, same, known, pairs, wanted, at)

    def _seats(self, slots: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns the places of slots (places,), and the position of each slot's place among them if any share one."""
        kept, at = torch.unique_consecutive(self.places[slots], return_inverse=True)
        return kept, at if len(kept) < len(slots) else None

    @staticmethod
    def _counts(classes: Tensor) -> list[int]:
        return sorted({count for count in classes.tolist() if count})
