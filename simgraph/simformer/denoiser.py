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
from torch.nn.functional import cross_entropy, one_hot

from simgraph.compile.edges import EdgeList
from simgraph.compile.masks import LATENT
from simgraph.simformer.network import Memory, Simformer
from simgraph.simformer.schedule import preconditioning
from simgraph.simformer.sparse import Bags

__all__ = ["Denoiser", "Mask"]

Mask = Tensor | EdgeList | Bags | None
"""Which token may attend to which, as a table or as a list of pairs; None: all to all."""


class Denoiser(nn.Module):
    """Estimates E[x_0 | x_sigma, observed] for the latent tokens.

    Args:
        network: The transformer.
        ids: Identifiers of all tokens, (tokens,).
        coordinates: Plate coordinates of all tokens, (plates, tokens), -1 outside of a plate.
        widths: Number of features by identifier.
        classes: Number of categories by identifier, 0 for continuous ones.
        places: Points of functions, (tokens, coordinates), where they are always the same.
    """

    ids: Tensor
    coordinates: Tensor | None
    places: Tensor | None
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
    ) -> None:
        super().__init__()
        self.network = network
        features = network.embedding.value.shape[1]
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("coordinates", coordinates if len(coordinates) else None, persistent=False)
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("own", torch.arange(features) < widths[ids, None], persistent=False)
        self.register_buffer("classes", classes[ids], persistent=False)

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        states: Tensor,
        mask: Mask,
        slots: Tensor | None = None,
        memory: tuple[Tensor, Memory] | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Denoises.

        Args:
            x: Tokens (batch, tokens, features): latent ones noised, observed ones clean.
            sigma: Noise levels (batch,), or (1,) for one level in the whole batch.
            states: Condition states (batch or 1, tokens).
            mask: M_E, boolean (batch or 1, tokens, keys) or a list of pairs, or None if everything may attend to
                everything.
            slots: Which slots ``x`` holds, (tokens,); all by default.
            memory: Slots of observed tokens that are not in ``x``, with their keys and values.
            wanted: Positions of the tokens that are latent in some row, (wanted,), if these are not all: saves work.

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
            mean = _coded(logits.softmax(-1))
            kept = torch.where(latent[:, here], mean, x[:, here, :count])
            denoised[:, here, :count] = kept
        return denoised

    def settled(self, x: Tensor, slots: Tensor) -> Tensor:
        """Returns tokens (rows, tokens, features) with categories on their codes, and 0 for features that they lack."""
        settled, classes = x * self.own[slots], self.classes[slots]
        for count in self._counts(classes):
            here = classes == count
            settled[:, here, :count] = _coded(one_hot(x[:, here, :count].argmax(-1), count).to(x.dtype))
        return settled

    def loss(
        self,
        x_0: Tensor,
        noise: Tensor,
        sigma: Tensor,
        states: Tensor,
        mask: Mask,
        places: Tensor | None = None,
        slots: Tensor | None = None,
    ) -> Tensor:
        """Returns the denoising loss of each token, (batch, tokens): zero where it is not latent.

        The arguments are those of :meth:`losses`.
        """
        return self.losses(x_0, noise, sigma, states, mask, places, slots)[0]

    def losses(
        self,
        x_0: Tensor,
        noise: Tensor,
        sigma: Tensor,
        states: Tensor,
        mask: Mask,
        places: Tensor | None = None,
        slots: Tensor | None = None,
        control: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Returns the denoising loss of each token, and the same about less noisy targets: (batch, tokens) each.

        They are zero where a token is not latent. For continuous tokens the loss is (1 + sigma^2) / sigma^2 times the
        squared error of the denoised mean, averaged over features (Karras et al. 2022, section 5); for categorical ones
        the cross entropy. Points of functions, (batch, tokens, coordinates), may differ from row to row, and so may the
        slots of the tokens, (batch, tokens). What is added to the targets of the second loss, ``control`` (batch,
        tokens), belongs to tokens of one feature; see :mod:`simgraph.simformer.control`.
        """
        latent = states == LATENT
        slots = torch.arange(len(self.ids)) if slots is None else slots
        own, classes = self.own[slots], self.classes[slots].expand(states.shape)
        x = torch.where(latent.unsqueeze(-1), x_0 + sigma[:, None, None] * noise * own, x_0)
        raw = self._raw(x, sigma, states, mask, slots, None, places=places)
        c_skip, c_out, _, _ = (c[:, None, None] for c in preconditioning(sigma))
        error = raw - (x_0 - c_skip * x) / c_out
        loss = (error.square() * own).sum(-1) / own.sum(-1)
        # Of tokens that nothing is added to, the two losses are the same.
        aimed = loss if control is None else loss + control * (control - 2 * error[..., 0])
        for count in self._counts(self.classes):
            here = classes == count
            codes = x[here][:, :count]
            level = sigma.unsqueeze(1).expand(here.shape)[here].unsqueeze(1)
            centred = codes - codes.mean(-1, keepdim=True)
            logits = raw[here][:, :count] + count**0.5 * centred / level.square()
            entropy = cross_entropy(logits, x_0[here][:, :count].argmax(-1), reduction="none")
            loss, aimed = (part.masked_scatter(here, entropy) for part in (loss, aimed))
        return loss * latent, aimed * latent

    def remember(self, x: Tensor, states: Tensor, mask: Mask, slots: Tensor) -> tuple[Tensor, Memory]:
        """Returns keys and values of observed tokens, to be handed to :meth:`forward` as ``memory``."""
        mask = self.ready(mask, len(x))
        same = self._same(slots, slots, mask)
        return slots, self.network.remember(x, states, self.ids[slots], mask, same, self._places(slots))

    def _raw(
        self,
        x: Tensor,
        sigma: Tensor,
        states: Tensor,
        mask: Mask,
        slots: Tensor,
        memory: tuple[Tensor, Memory] | None,
        wanted: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        _, _, c_in, c_noise = preconditioning(sigma)
        # Features that a token does not have were never trained; solvers put noise into all of them.
        own = x * self.own[slots]
        scaled = torch.where((states == LATENT).unsqueeze(-1), c_in[:, None, None] * own, own)
        keys = slots if memory is None else torch.cat([memory[0], slots])
        mask = self.ready(mask, len(x))
        same = self._same(slots, keys, mask)
        known = None if memory is None else memory[1]
        places = self._places(slots) if places is None else places
        raw = self.network(scaled, c_noise, states, self.ids[slots], mask, same, known, self.ids[keys], wanted, places)
        return raw if wanted is None else torch.zeros_like(x).index_copy(1, wanted, raw)

    def ready(self, mask: Mask, rows: int) -> Tensor | Bags | None:
        """Brings a mask for so many rows into the form that attention reads; pays where it is used again and again."""
        return Bags(mask, rows, self.network.architecture.heads) if isinstance(mask, EdgeList) else mask

    def _places(self, slots: Tensor) -> Tensor | None:
        return None if self.places is None else self.places[slots.reshape(-1, slots.shape[-1])]

    def _same(self, slots: Tensor, keys: Tensor, mask: Tensor | Bags | None) -> Tensor | None:
        """Tells which tokens belong to one element of a plate: (plates, tokens, keys), or (plates, pairs) of a list."""
        if self.coordinates is None:
            return None
        own, others = self.coordinates[:, slots], self.coordinates[:, keys]
        if isinstance(mask, Bags):
            own, others = own[:, mask.query], others[:, mask.key]
        else:
            own, others = own.unsqueeze(-1), others.unsqueeze(-2)
        return ((own == others) & (own >= 0)).float()

    @staticmethod
    def _counts(classes: Tensor) -> list[int]:
        return sorted({count for count in classes.tolist() if count})


def _coded(probabilities: Tensor) -> Tensor:
    """Returns the mean code of categories (..., classes)."""
    count = probabilities.shape[-1]
    return count**0.5 * (probabilities - 1 / count)
