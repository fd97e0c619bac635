r"""Whether traces follow the density whose slopes are told.

For any function :math:`\varphi` of the tokens, and any :math:`\psi` of the tokens other than i, Stein's identity says

.. math:: E[(\partial_i \varphi + \varphi g_i) \psi] = 0

under the density p with :math:`g_i = \partial_i \log p`, where :math:`\varphi p` is continuous along token i and
vanishes at both ends. It is what training relies on (:mod:`simgraph.simformer.control`). Here, :math:`\varphi = 1 / (1
+ \lambda)`.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["breaks_stein", "breaks_stein_inside"]

_DOUBT, _SURE = 5.0, 6.0
"""Standard errors by which a mean may miss 0, and from which on a user hears of it."""

_NOTHING = 1e-9
"""Means that are 0 but for rounding."""

_LEAST = 100
"""Traces below which a mean tells nothing."""

_FAR = 3.0
"""Values of other tokens beyond which a product with them tells more of single traces than of the law."""

_TAIL = 0.02
"""Share of the traces at each end of a token that are left aside where ends are."""


def breaks_stein(scores: Tensor, tokens: Tensor) -> Tensor:
    """Tells of which tokens the traces do not obey Stein's identity, boolean (tokens,).

    Args:
        scores: g, lambda and its slope, (traces, tokens, 3); an infinite lambda where they are not known.
        tokens: Values of the tokens, (traces, tokens).
    """
    known, weight, change, pull = _terms(scores)
    z = torch.where(tokens.isfinite(), tokens, 0.0).double()
    residual = change + pull
    others = z.clamp(-_FAR, _FAR)
    count = known.sum(0).unsqueeze(1)
    mean = residual.T @ others / count.clamp_min(1)
    square = residual.square().T @ others.square() / count.clamp_min(1)
    mean.fill_diagonal_(0.0)  # of a token itself, psi is a part of phi
    off = _far(mean, square, count).any(1)
    for own in (residual, weight + z * residual):
        off |= _far(own.sum(0) / count[:, 0].clamp_min(1), own.square().sum(0) / count[:, 0].clamp_min(1), count[:, 0])
    return off


def breaks_stein_inside(scores: Tensor, tokens: Tensor) -> Tensor:
    """Tells of which tokens the traces do not obey it away from the ends either.

    Arguments and result are those of :func:`breaks_stein`. Densities that go on beyond the values of traces, and such
    as rise without bound at an end, break the identity at ends alone; another law, and jumps in between, here as well.
    """
    known, weight, change, pull = _terms(scores)
    found = torch.zeros(tokens.shape[1], dtype=torch.bool)
    for number in range(tokens.shape[1]):
        rows = known[:, number]
        if rows.sum() < _LEAST:
            continue
        z = tokens[rows, number].double()
        low, high = z.quantile(torch.tensor([_TAIL, 1 - _TAIL], dtype=torch.float64))
        window = ((z - low) * (high - z)).clamp_min(0.0)
        slope = torch.where(window > 0, low + high - 2 * z, 0.0)
        plain = window * (change + pull)[rows, number] + slope * weight[rows, number]
        first = z * plain + window * weight[rows, number]
        moments = torch.stack([plain, first])
        found[number] = _far(moments.mean(1), moments.square().mean(1), rows.sum(), _SURE).any()
    return found


def _terms(scores: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns where scores are known, phi, its slope and phi g, (traces, tokens) each: 0 where they are not."""
    score, precision, slope = scores.double().unbind(-1)
    weight = 1 / (1 + precision)
    return precision.isfinite(), weight, -slope * weight.square(), weight * score


def _far(mean: Tensor, square: Tensor, count: Tensor, doubt: float = _DOUBT) -> Tensor:
    """Tells which means of so many values, given the means of their squares, lie farther from 0 than chance allows."""
    error = ((square - mean.square()).clamp_min(0.0) / count.clamp_min(1)).sqrt()
    return (mean.abs() > doubt * error + _NOTHING) & (count >= _LEAST)
