r"""Log densities of the latent tokens given the observed ones, by the chain rule.

With the discrete tokens :math:`k_1, ..., k_m` in canonical order, the continuous ones x and the evidence e,

.. math:: p(k, x \mid e) = \prod_i p(k_i \mid k_{<i}, e) \; p(x \mid k, e),

where tokens that a factor does not name are absent from its query.

* *Categories.* Where a categorical token is the only latent one, its noised value 0 says nothing about it, at any
  noise level: the denoised mean there is :math:`\sum_k c_k p_k`, which tells all probabilities in one evaluation.
* *Counts* are cells of a continuous law of one feature; its flow keeps order and tells their masses.
* *Continuous tokens* have the density of the flow (:mod:`simgraph.query.flow`), all together.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from simgraph.compile import Compiled
from simgraph.compile.elements import Elements
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.processor import workers
from simgraph.query.flow import Flow, Top, log_density, log_mass, top
from simgraph.query.jacobian import Probes
from simgraph.query.problem import Problem
from simgraph.query.solvers import Denoise
from simgraph.simformer import Denoiser

__all__ = ["discrete_slots", "features", "flat", "linked_features", "log_likelihood"]


def log_likelihood(
    compiled: Compiled, denoiser: Denoiser, values: Tensor, states: Tensor, cells: Tensor, flow: Flow
) -> tuple[Tensor, bool]:
    """Returns the log density of latent tokens given the observed ones, in units of tokens.

    Args:
        compiled: The compiled graph.
        denoiser: The trained denoiser.
        values: Tokens (rows, tokens, width): the evidence, and the values whose density is asked for.
        states: Condition states (rows, tokens); ``values`` of latent tokens are what is asked about.
        cells: Where the cells of latent values begin and end that have probabilities, float64 (rows, tokens, 2);
            empty ones for values that have densities.
        flow: How densities are computed.

    Returns:
        Float64 (rows,): log probabilities of discrete tokens plus log densities of the continuous ones; and whether
        a trace was estimated.
    """
    found = torch.zeros(len(values), dtype=torch.float64)
    discrete = (compiled.layout.classes[compiled.layout.ids] > 0) | (cells[..., 0] < cells[..., 1])
    kinds, which = torch.unique(torch.stack([states, discrete.long()], 1), dim=0, return_inverse=True)
    estimated = False
    with workers() as pool:
        for number, (kind, apart) in enumerate(kinds):
            rows = (which == number).nonzero().flatten()
            chain = _Chain(compiled, denoiser, kind, apart > 0, flow, pool)
            found[rows] = chain.log_density(values[rows], cells[rows])
            estimated |= chain.estimated
    return found, estimated


class _Chain:
    """The chain rule for rows of one condition state, in which the same tokens (tokens,) have probabilities."""

    def __init__(
        self,
        compiled: Compiled,
        denoiser: Denoiser,
        states: Tensor,
        discrete: Tensor,
        flow: Flow,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.compiled, self.denoiser, self.flow, self.pool = compiled, denoiser, flow, pool
        self.evidence = torch.where(states == LATENT, ABSENT, states)
        self.latent = [slot for slot in compiled.layout.canonical if states[slot] == LATENT]
        self.classes = compiled.layout.classes[compiled.layout.ids]
        self.discrete = discrete
        self.estimated = False

    def log_density(self, values: Tensor, cells: Tensor) -> Tensor:
        total = torch.zeros(len(values), dtype=torch.float64)
        known = self.evidence.clone()
        for slot in self.latent:
            if not self.discrete[slot]:
                continue
            states = known.clone()
            states[slot] = LATENT
            if self.classes[slot]:
                total += self._category(values, states, slot)
            else:
                total += self._count(values, states, cells[:, slot])
            known[slot] = OBSERVED
        rest = [slot for slot in self.latent if not self.discrete[slot]]
        if rest:
            known[rest] = LATENT
            total += self._continuous(values, known)
        return total

    def _category(self, values: Tensor, states: Tensor, slot: int) -> Tensor:
        problem, which = self._problem(values, states)
        classes = int(self.classes[slot])
        place = int((problem.active == slot).nonzero())

        def probabilities(evidence: Tensor) -> Tensor:
            nothing = torch.zeros(len(evidence), len(problem.active), values.shape[-1])
            with torch.no_grad():
                mean = problem.denoise(evidence)(nothing, self.flow.sigma_max)
            return mean[:, place, :classes].double() / classes**0.5 + 1 / classes

        found = self._chunked(problem, probabilities, torch.arange(len(problem.values)))
        chosen = values[:, slot, :classes].argmax(-1)
        # Single precision does not tell smaller probabilities apart.
        return found[which, chosen].clamp_min(torch.finfo(torch.float32).eps).log()

    def _count(self, values: Tensor, states: Tensor, cells: Tensor) -> Tensor:
        problem, which = self._problem(values, states)
        probes = self._probes(problem)

        def mass(rows: Tensor) -> Tensor:
            return log_mass(flat(problem, which[rows]), cells[rows], self.flow, self._top(problem, which[rows], probes))

        return self._chunked(problem, mass, torch.arange(len(values)))

    def _continuous(self, values: Tensor, states: Tensor) -> Tensor:
        problem, which = self._problem(values, states)
        probes = self._probes(problem)
        self.estimated |= probes.signs is not None

        def density(rows: Tensor) -> Tensor:
            x = values[rows][:, problem.active][:, features(problem)].double()
            law = self._top(problem, which[rows], probes)
            return log_density(flat(problem, which[rows]), x, self.flow, probes, law)

        return self._chunked(problem, density, torch.arange(len(values)))

    def _problem(self, values: Tensor, states: Tensor) -> tuple[Problem, Tensor]:
        """Returns the problem of the different pieces of evidence among the rows, and which row has which."""
        evidence, which = _pieces(values, states)
        return Problem(self.compiled, self.denoiser, evidence, states.expand(len(evidence), -1)), which

    def _top(self, problem: Problem, evidence: Tensor, probes: Probes) -> Top:
        """Returns the law at the top, which depends on the evidence alone, for each of the numbered pieces."""
        unique, back = torch.unique(evidence, return_inverse=True)
        return top(flat(problem, unique), probes, len(unique), self.flow.sigma_max)[back]

    def _probes(self, problem: Problem) -> Probes:
        return Probes.of(linked_features(self.compiled, problem), self.flow.trace, self.flow.most_exact)

    def _chunked(self, problem: Problem, function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        # Chunks are independent, so cores work on one each.
        return torch.cat(list(self.pool.map(function, rows.split(problem.chunk))))


def discrete_slots(compiled: Compiled) -> Tensor:
    """Tells which tokens have probabilities instead of densities: categories and counts, boolean (tokens,)."""
    discrete = compiled.layout.classes[compiled.layout.ids] > 0
    for name, tokenizer in compiled.layout.tokenizers.items():
        if isinstance(tokenizer, Elements) and tokenizer.counts:
            discrete[compiled.layout.slots(name)] = True
    return discrete


def _pieces(values: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Finds the different pieces of evidence among rows of tokens of one condition state.

    Args:
        values: Tokens (rows, tokens, width).
        states: Condition states (tokens,).

    Returns:
        Tokens (pieces, tokens, width), zero where nothing is observed, and the number of each row's piece.
    """
    seen = values * (states == OBSERVED)[:, None]
    if bool((seen == seen[:1]).all()):
        return seen[:1], torch.zeros(len(seen), dtype=torch.long)
    return torch.unique(seen, dim=0, return_inverse=True)


def flat(problem: Problem, evidence: Tensor) -> Denoise:
    """Returns the denoiser of the latent tokens' own features alone: float64 (rows, features) to the same."""
    denoise, own = problem.denoise(evidence), features(problem)

    def flattened(x: Tensor, sigma: float) -> Tensor:
        full = torch.zeros(len(x), *own.shape).masked_scatter(own, x.float())
        return denoise(full, sigma)[:, own].double()

    return flattened


def features(problem: Problem) -> Tensor:
    """Tells which features of active tokens are latent and the token's own, boolean (active, width).

    Its pieces of evidence have one condition state.
    """
    return problem.latent(torch.zeros(1, dtype=torch.long))[0] & problem.denoiser.own[problem.active]


def linked_features(compiled: Compiled, problem: Problem) -> Tensor:
    """Tells which of these features depend on one another, boolean (features, features)."""
    latent = problem.active[features(problem).nonzero()[:, 0]]
    return compiled.rule.dependencies(problem.states[:1])[0][latent[:, None], latent]
