"""The loss of a batch and its gradient, computed in parts that run side by side.

The operations of a small network last microseconds, too short to be split over threads each (see
:mod:`simgraph.processor`). A batch can be split as a whole: two halves on two cores take 1.8 times less than the batch
on one, and nothing waits for the other half but the step of the optimiser. The number of parts is fixed, so that a
seed gives the same numbers whatever the number of cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor

from simgraph.compile.edges import EdgeList
from simgraph.compile.masks import ABSENT, LATENT
from simgraph.processor import workers
from simgraph.train.compaction import sparse
from simgraph.train.embedding import Learner

__all__ = ["Batch", "Workers"]

_PARTS = 2

_MORE_PARTS = 6
"""Parts of a batch whose rows differ much in how many tokens they have: each part holds rows of like size."""

Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor | EdgeList, Tensor | None, Tensor | None, *tuple[Tensor, ...]]
"""x_0, noise (rows, tokens, features), sigma (rows,), condition states (rows, tokens), masks (rows, tokens, tokens)
or their lists of pairs; of a graph with functions, their points (rows, tokens, coordinates); scores (rows, tokens, 3)
where some are known; and what embedding networks see."""


class Workers:
    """Threads that compute losses and take steps, one for each core up to the number of parts."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool = pool

    @staticmethod
    @contextmanager
    def start() -> Iterator[Workers]:
        """Runs the threads for the time of a context."""
        with workers(_PARTS) as pool:
            yield Workers(pool)

    def losses(self, learner: Learner, batch: Batch, rows: int) -> Tensor:
        """Returns the loss of each row, summed over its latent tokens, going through so many rows at a time."""

        @torch.no_grad()
        def part(pieces: Batch) -> Tensor:
            return learner.losses(*pieces)[0].sum(1)

        batch, order = _by_size(batch)
        found = torch.cat(list(self.pool.map(part, _split(batch, rows))))
        return torch.empty_like(found).index_copy_(0, order, found)

    def backward(self, learner: Learner, batch: Batch) -> float:
        """Sets the gradients to those of the mean loss of a batch's latent tokens, about the least noisy targets.

        Returns:
            The plain loss, which can be compared with that on held-out traces.
        """
        parameters = list(learner.parameters())
        count = _latents(batch)

        def part(pieces: Batch) -> tuple[float, tuple[Tensor | None, ...]]:
            plain, aimed = (loss.sum() / count for loss in learner.losses(*pieces))
            return plain.item(), torch.autograd.grad(aimed, parameters, allow_unused=True)

        parts = _MORE_PARTS if _packs(batch) else _PARTS
        pieces = _split(_by_size(batch)[0], -(-len(batch[0]) // parts))
        losses, gradients = zip(*self.pool.map(part, pieces), strict=True)
        for parameter, *found in zip(parameters, *gradients, strict=True):
            known = [gradient for gradient in found if gradient is not None]
            parameter.grad = sum(known[1:], known[0]) if known else None
        return sum(losses)

    def step(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Takes the steps of optimisers that share no parameter."""
        list(self.pool.map(lambda optimizer: optimizer.step(), optimizers))


def _packs(batch: Batch) -> bool:
    return isinstance(batch[4], Tensor) and sparse(batch[3])


def _by_size(batch: Batch) -> tuple[Batch, Tensor]:
    """Returns the rows in the order of how many tokens they have, the longest first, where they are packed.

    Beside them it returns where each row stood before, (rows,).
    """
    if not _packs(batch):
        return batch, torch.arange(len(batch[0]))
    order = (batch[3] != ABSENT).sum(1).argsort(descending=True, stable=True)
    return cast(Batch, tuple(None if part is None else part[order] for part in batch)), order


def _split(batch: Batch, rows: int) -> Iterator[Batch]:
    count = -(-len(batch[0]) // rows)
    parts = ([None] * count if part is None else part.split(rows) for part in batch)
    return cast(Iterator[Batch], zip(*parts, strict=True))


def _latents(batch: Batch) -> float:
    return float((batch[3] == LATENT).sum().clamp_min(1))
