r"""The Jacobian of a denoiser, and its trace.

The trace of J is exact with one product :math:`v^T J` per feature that depends on one another, or estimated without
bias by Hutchinson's :math:`E[v^T J v]` over random signs v.

References:
    Hutchinson, "A stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines" (1990).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from simgraph.query.solvers import Denoise
from simgraph.traces.seeds import torch_stream

__all__ = ["Probes", "Trace"]

Trace = Literal["auto", "exact", "hutchinson"]


@dataclass(frozen=True)
class Probes:
    """Vectors v of which the products v^T J tell the trace of J.

    Features that do not depend on one another share a vector of zeros and ones: then v^T J v is the sum of their
    diagonal entries, exactly. Estimates take random signs, the same for all rows and noise levels, so that
    differences between rows are more exact than each alone.

    Attributes:
        units: Zeros and ones, (vectors, features).
        linked: Which features depend on one another, boolean (features, features).
        signs: Random signs (vectors, features), or None for the exact trace.
    """

    units: Tensor
    linked: Tensor
    signs: Tensor | None

    @staticmethod
    def of(linked: Tensor, trace: Trace, most_exact: int) -> Probes:
        """Chooses the vectors.

        Args:
            linked: Which features depend on one another, boolean (features, features); an equivalence.
            trace: Whether to estimate the trace; ``"auto"`` does so where more than ``most_exact`` vectors are needed.
            most_exact: Number of vectors of an estimate.
        """
        rank = linked.tril(-1).sum(1)  # how many earlier features are in the group of each one
        units = torch.stack([(rank == number) for number in range(int(rank.max()) + 1)]).double()
        estimated = trace == "hutchinson" or (trace == "auto" and len(units) > most_exact)
        if not estimated:
            return Probes(units, linked, None)
        generator = torch_stream(0, "hutchinson", len(linked))
        signs = torch.randint(0, 2, (most_exact, len(linked)), generator=generator)
        return Probes(units, linked, 2.0 * signs.double() - 1)

    def trace(self, denoise: Denoise, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Returns D (rows, features) and tr J (rows,)."""
        vectors = self.units if self.signs is None else self.signs
        denoised, products = _products(denoise, x, sigma, vectors)
        total = sum((product * vector).sum(-1) for product, vector in zip(products, vectors, strict=True))
        return denoised, torch.as_tensor(total) * (1.0 if self.signs is None else 1 / len(vectors))

    def jacobian(self, denoise: Denoise, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Returns D (rows, features) and J (rows, features, features), exactly."""
        denoised, products = _products(denoise, x, sigma, self.units)
        number = self.units.argmax(0)
        return denoised, torch.stack(products)[number].transpose(0, 1) * self.linked


def _products(denoise: Denoise, x: Tensor, sigma: float, vectors: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Returns D (rows, features) and v^T J (rows, features) for each of the vectors (vectors, features)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        denoised = denoise(x, sigma)
        last = len(vectors) - 1
        products = [
            torch.autograd.grad(denoised, x, vector.expand_as(denoised), retain_graph=number < last)[0]
            for number, vector in enumerate(vectors)
        ]
    return denoised.detach(), products
