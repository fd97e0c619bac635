r"""The most likely values, in natural units.

The mode of :math:`p(k, x \mid e)` over discrete variables k and continuous ones x is looked for among draws, since a
flow that is followed from noise finds all modes in proportion to their mass. The best draws are refined: with the
discrete tokens held, Newton's method climbs the noised density while the noise falls. For the density of values,
:math:`\ln p_\sigma(x) + \ln |\det dx / dv|`, the gradient and the matrix of second derivatives are

.. math:: \frac{D - x}{\sigma^2} + \nabla \ln |\det dx / dv|, \qquad \frac{J - 1}{\sigma^2}

(Tweedie's formula and its derivative; the second derivative of the determinant is left out). Directions in which the
density is not concave are climbed all the same, with the absolute value of the curvature. Whatever is best by its
exact log density in the end, a draw or a refined one, is the answer.

References:
    Efron, "Tweedie's formula and selection bias" (2011), equation 1.4. Dauphin et al., "Identifying and attacking the
    saddle point problem" (2014), section 4 (absolute curvature).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from simgraph.compile import Compiled
from simgraph.compile.masks import LATENT, OBSERVED
from simgraph.processor import tuned
from simgraph.query.density import token_density
from simgraph.query.draw import draw
from simgraph.query.flow import Flow
from simgraph.query.jacobian import Probes
from simgraph.query.likelihood import discrete_slots, features, flat, linked_features
from simgraph.query.problem import Problem
from simgraph.query.solvers import DEFAULT_SAMPLER
from simgraph.train import Trained

__all__ = ["mode"]

_DRAWS = 256
"""Draws among which the search begins, for each piece of evidence."""

_REFINED = 8
"""How many of the best of them are refined."""

_NOISE = torch.logspace(-0.5, -1.5, 12, dtype=torch.float64).tolist()
"""Noise levels of the steps: at 0.3 a density is smooth, at 0.03 it is that of the tokens but for fine detail."""

_FLATTEST = 0.02
"""Least curvature, in units of 1 / sigma^2: no step is more than 50 times the slope."""

_LONGEST = 0.5
"""Longest step of a feature, in standard deviations of its token."""

_DIFFERENCE = 1e-4
"""Half the distance at which slopes of the determinant are taken."""


def mode(trained: Trained, values: Tensor, states: Tensor, seed: int, flow: Flow) -> Tensor:
    """Finds the most likely values of the latent tokens.

    Args:
        trained: The model.
        values: Tokens (evidence, tokens, width); only observed ones are read.
        states: Condition states (evidence, tokens).
        seed: Seed of the draws among which the search begins.
        flow: How densities are computed.

    Returns:
        Tokens (evidence, tokens, width): latent ones at the mode, observed ones as given.
    """
    count = len(values)
    drawn = draw(trained.compiled, trained.denoiser, values, states, _DRAWS, DEFAULT_SAMPLER, seed)
    # Ranks need no more than half of the steps.
    rough = replace(flow, steps=max(Flow.LEAST_STEPS, flow.steps // 2))
    ranked = _log_density(trained, drawn.flatten(0, 1), states.repeat_interleave(_DRAWS, 0), rough).reshape(count, -1)
    starts = drawn[torch.arange(count)[:, None], ranked.topk(_REFINED).indices]
    refined = _refined(trained, starts.flatten(0, 1), states.repeat_interleave(_REFINED, 0)).view_as(starts)
    candidates = torch.cat([starts, refined], 1)
    densities = _log_density(trained, candidates.flatten(0, 1), states.repeat_interleave(2 * _REFINED, 0), flow)
    return candidates[torch.arange(count), densities.reshape(count, -1).argmax(1)]


def _log_density(trained: Trained, tokens: Tensor, states: Tensor, flow: Flow) -> Tensor:
    """Returns log densities (rows,) of latent tokens in natural units."""
    layout = trained.compiled.layout
    names = [name for name in layout.names if bool((states[:, layout.slots(name)] == LATENT).any())]
    values = {name: layout.detokenize(name, tokens[:, layout.slots(name)]).numpy() for name in names}
    return token_density(trained, tokens, states, values, flow)[0].nan_to_num(nan=-torch.inf)


def _refined(trained: Trained, tokens: Tensor, states: Tensor) -> Tensor:
    """Climbs from each row to a mode of the continuous latent tokens given all others."""
    held = torch.where(discrete_slots(trained.compiled) & (states == LATENT), OBSERVED, states)
    out = tokens.clone()
    kinds, which = torch.unique(held, dim=0, return_inverse=True)
    with tuned():
        for number, kind in enumerate(kinds):
            if not bool((kind == LATENT).any()):
                continue
            members = (which == number).nonzero().flatten()
            problem = Problem(trained.compiled, trained.denoiser, tokens[members], kind.expand(len(members), -1))
            for rows in torch.arange(len(members)).split(problem.chunk):
                out[members[rows]] = _climbed(trained.compiled, problem, rows)
    return out


def _climbed(compiled: Compiled, problem: Problem, rows: Tensor) -> Tensor:
    own = torch.zeros(problem.values.shape[1:], dtype=torch.bool)
    own[problem.active] = features(problem)
    tokens = problem.values[rows].double()
    denoise, probes = flat(problem, rows), Probes.of(linked_features(compiled, problem), "exact", 1)
    for sigma in _NOISE:
        x = tokens[:, own]
        denoised, jacobian = probes.jacobian(denoise, x, sigma)
        slope = denoised - x + sigma**2 * _determinant_slope(compiled, tokens)[:, own]
        identity = torch.eye(x.shape[1], dtype=torch.float64)
        curvature, directions = torch.linalg.eigh(identity - (jacobian + jacobian.mT) / 2)
        along = (directions.mT @ slope.unsqueeze(-1)).squeeze(-1) / curvature.abs().clamp_min(_FLATTEST)
        step = (directions @ along.unsqueeze(-1)).squeeze(-1).clamp(-_LONGEST, _LONGEST)
        tokens[:, own] = x + step
    return tokens.float()


def _determinant_slope(compiled: Compiled, tokens: Tensor) -> Tensor:
    """Returns the slope of log |det d token / d value| in each feature of tokens, (rows, tokens, width)."""
    layout = compiled.layout
    out = torch.zeros_like(tokens)
    for name in layout.names:
        slots = layout.slots(name)
        for feature in range(layout.tokenizers[name].width):
            shift = torch.zeros(layout.width, dtype=torch.float64)
            shift[feature] = _DIFFERENCE
            above, below = (
                layout.log_scale(name, layout.detokenize(name, tokens[:, slots] + sign * shift)) for sign in (1, -1)
            )
            out[:, slots, feature] = (above - below) / (2 * _DIFFERENCE)
    return out.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
