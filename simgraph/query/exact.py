r"""Answers corrected by the graph's own log density, where the graph is white.

Let e be the evidence and u all unknown variables above it. The graph's density of what lies above evidence is known,
:math:`\log p(u, e)`, and everything else that is asked for follows from the graph's own nodes:

.. math:: p(u, w \mid e) = \frac{p(u, e)}{p(e)} \, p(w \mid u, e).

Draws of u from the network are where the search starts. A mixture is fitted to them; its draws are weighted by
p(u, e) / q(u). Where the weights are even enough, draws are resampled by them, and moved a little so that no two are
the same. Elsewhere the proposals are brought to the target in tempered steps, the mixture is fitted to the result, and
the weights are computed again; after a few rounds the tempered draws themselves are the answer. The network decides
where to look, and nothing else: what it never proposes, and no mixture around its draws reaches, is missed.

Restrictions R cut the target: p(u, e) is 0 where u does not satisfy them, the variables that they read count as above
evidence, and the log evidence is log p(e, R).

References:
    Cappe, Guillin, Marin and Robert, "Population Monte Carlo" (2004), section 2: proposals fitted to weighted draws.
    Cappe, Douc, Guillin, Marin and Robert, "Adaptive importance sampling in general mixture classes" (2008).
    Rubin, "Using the SIR algorithm to simulate posterior distributions" (1988): resampling by weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm.auto import tqdm

from simgraph.compile.masks import ABSENT
from simgraph.errors import CoverageWarning, QueryError, listed, warn
from simgraph.graph import Graph
from simgraph.query.budget import BAR_DELAY
from simgraph.query.draw import draw
from simgraph.query.methods import Method
from simgraph.query.mixture import fit_mixture
from simgraph.query.solvers import Sampler
from simgraph.query.target import Allowed, Target
from simgraph.query.tempering import Outcome, effective, pool, temper
from simgraph.traces.density import Density
from simgraph.traces.seeds import integer_seed, torch_stream

if TYPE_CHECKING:
    from simgraph.query.answering import Answering

__all__ = ["Corrected", "corrected"]

_PARTICLES = 4_096
"""Draws that are corrected together, at least: as many as a mixture wants to be fitted well."""

_START = 2_048
"""Draws of the network, at most."""

_START_TOKENS = 60_000
"""Tokens of these draws, at most, unless that would be fewer than 256 draws."""

_POOL, _MOST = 4, 16
"""Proposals for each particle: in the search, and at most."""

_START_RESTRICTED = 512
"""Draws of the network that satisfy restrictions."""

_ROUNDS = 4
_DOUBTFUL = 0.01
"""Share of effective proposals, or of accepted moves, below which parts of the law may have been missed."""


@dataclass(frozen=True)
class Corrected:
    """Corrected draws, and what is known of them.

    Attributes:
        values: Tensors ([batch,] num_samples, *plate sizes, *event_shape) by name.
        ess: Effective number of draws, of the worst piece of evidence.
        log_evidence: log p(e), float64 ([batch]), with all restrictions; None if nothing is given.
        notes: Lines for the report.
    """

    values: dict[str, Tensor]
    ess: float
    log_evidence: Tensor | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Piece:
    """The answer for one piece of evidence: values (num_samples, *shape) by name, and how they came about."""

    values: dict[str, Tensor]
    ess: float
    log_evidence: float
    error: float
    how: str
    doubt: str = ""


def corrected(
    query: Answering,
    asked: Sequence[str],
    num_samples: int,
    sampler: Sampler,
    seed: int,
    method: str | Method = "auto",
) -> Corrected:
    """Draws from the exact law of variables given the evidence.

    Args:
        query: The question.
        asked: Names of variables, none of them wholly given.
        num_samples: Number of draws for each piece of evidence.
        sampler: The solver of the network's draws.
        seed: Seed of the draws.
        method: How the network's draws are made to satisfy restrictions, if there are any.

    Raises:
        QueryError: If the model has no graph, a black box has evidence below it, a function is evidence or is read by
            a restriction, or no draw is possible.
        RestrictionError: If no draws of the network satisfy the restrictions.
        SimulationError: If a node that follows from the rest fails.
    """
    seen = _seen(query)
    graph = _checked(query, seen)
    values: dict[str, Tensor] = {}
    pieces: list[_Piece] = []
    if seen:
        layout = query.trained.compiled.layout
        # A bar of its own for functions that run trace by trace, which may take minutes.
        with tqdm(desc="running functions", unit="trace", delay=BAR_DELAY, leave=False) as bar:
            density = Density(graph, seen, bar.update)
            unknown = [name for name in density.names if not query.wholly_given(name)]
            start = _start(query, unknown, sampler, integer_seed(seed, "start"), method)
            rows = tqdm(range(query.size), desc="correcting", unit="row", disable=query.size == 1, leave=False)
            for row in rows:
                target = Target(density, layout, query.evidence, row, _allowed(query))
                tokens = None if start is None else start[row]
                pieces.append(_piece(target, tokens, num_samples, torch_stream(seed, "exact", row), row))
        for name in unknown:
            together = torch.cat([piece.values[name] for piece in pieces])
            values[name] = layout.tokenizers[name].rounded(together)
    values |= _below(query, graph, asked, values, num_samples, integer_seed(seed, "below"))
    doubts = [f"{f'row {row}: ' if query.batched else ''}{p.doubt}" for row, p in enumerate(pieces) if p.doubt]
    if doubts:
        warn(_doubtful(doubts), CoverageWarning)
    evidence = torch.tensor([piece.log_evidence for piece in pieces], dtype=torch.float64) if pieces else None
    return Corrected(
        {name: query.arranged(values[name]) for name in asked},
        min((piece.ess for piece in pieces), default=float(num_samples)),
        evidence if evidence is None or query.batched else evidence[0],
        _notes(pieces, query.batched),
    )


def _seen(query: Answering) -> list[str]:
    """Returns what has evidence or is read by a restriction; an unknown of the answer lies above it, or follows."""
    return list(
        dict.fromkeys([*query.seen(), *(name for restriction in query.restrictions for name in restriction.names)])
    )


def _checked(query: Answering, seen: Sequence[str]) -> Graph:
    """Returns the graph, after all checks that need no work."""
    graph, call = query.trained.compiled.graph, "sample(..., exact=True)"
    if graph is None:
        raise QueryError(
            f"{call} needs the graph's own densities, and the model was loaded without its graph.\n"
            "  Link it: sg.load(path, graph=graph)"
        )
    functions = [name for name in seen if graph[name].kind == "deterministic"]
    if functions:
        raise QueryError(
            f"{call} cannot be given {listed(functions)}: a function of other variables has no density of its own.\n"
            f"  declared at {listed(graph[name].where for name in functions)}\n"
            "  Give what the function is computed from, or a noisy reading of it, or leave out exact=True."
        )
    above = graph.prune(*seen).order if seen else ()
    boxes = [name for name in above if graph[name].kind == "simulator"]
    if boxes:
        kind = "a black box" if len(boxes) == 1 else "black boxes"
        raise QueryError(
            f"{call} needs the density of {listed(boxes)}, {kind}: a node with rng returns draws, not their law.\n"
            f"  declared at {listed(graph[name].where for name in boxes)}\n"
            "  Write it without rng, returning its torch distribution; or leave out exact=True."
        )
    return graph


def _allowed(query: Answering) -> Allowed | None:
    """Returns what tells which values satisfy the restrictions, if there are any."""
    if not query.restrictions:
        return None

    def allowed(values: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([restriction.residual(values) <= 0 for restriction in query.restrictions]).all(0)

    return allowed


def _start(
    query: Answering, unknown: Sequence[str], sampler: Sampler, seed: int, method: str | Method
) -> Tensor | None:
    """Returns the network's draws, tokens (evidence, draws, tokens, width), if anything is unknown."""
    if not unknown:
        return None
    layout = query.trained.compiled.layout
    values, states = query.tokens(unknown)
    length = int((states != ABSENT).any(0).sum())
    most = _START_RESTRICTED if query.restrictions else _START
    count = max(256, min(most, _START_TOKENS // length))
    if not query.restrictions:
        return draw(query.trained.compiled, query.trained.denoiser, values, states, count, sampler, seed)
    drawn = query.answer(unknown, count, seed, sampler, method, exact=False, single=False)
    tokens = values.repeat_interleave(count, 0)
    for name in unknown:
        rows = drawn[name].reshape(-1, *layout.tokenizers[name].variable.shape)
        tokens[:, layout.slots(name)] = layout.tokenize(name, rows.double())
    return tokens.unflatten(0, (query.size, count))


def _piece(target: Target, tokens: Tensor | None, num_samples: int, generator: torch.Generator, row: int) -> _Piece:
    """Answers one piece of evidence."""
    if tokens is None or not target.reals + len(target.classes):
        nothing = torch.zeros(1, 0, dtype=torch.float64), torch.zeros(1, 0, dtype=torch.long)
        log_evidence = float(target.log_density(*nothing))
        known = {name: v.expand(num_samples, *v.shape[1:]) for name, v in target.values(*nothing).items()}
        return _Piece(known, num_samples, log_evidence, 0.0, "nothing above the evidence is unknown")
    z, k = target.coordinates(tokens)
    possible = float(target.log_density(z, k).isfinite().double().mean())
    mixture = fit_mixture(z, k, target.classes, generator)
    count = max(_PARTICLES, num_samples)
    first = 0.0
    for number in range(_ROUNDS):
        proposals = pool(target, mixture, _POOL * count, generator)
        worth = effective(proposals.log_weights())
        if not worth:
            raise QueryError(_impossible(row, len(tokens), len(proposals)))
        first = first or worth / len(proposals)
        if worth >= count:  # good enough: many more of them make resampled draws distinct
            size = min(_MOST, -(-_POOL * len(proposals) // int(worth)))
            proposals = pool(target, mixture, size * count, generator)
            worth = effective(proposals.log_weights())
        outcome = temper(target, proposals, mixture, count, generator)
        if outcome.steps == 1 or number == _ROUNDS - 1:
            break
        mixture = fit_mixture(outcome.particles.z, outcome.particles.k, target.classes, generator)
    values = target.values(outcome.particles.z[:num_samples], outcome.particles.k[:num_samples])
    straight = outcome.steps == 1
    ess = min(worth if straight else outcome.ess, float(num_samples))
    how = (
        f"importance resampling of {len(proposals)} proposals worth {worth:.0f}"
        if straight
        else f"{outcome.steps} tempered steps from {len(proposals)} proposals worth {worth:.0f}"
    )
    how += f"; moves accepted {outcome.acceptance:.0%}; first proposals worth {first:.2%}"
    doubt = _doubt(possible, worth / len(proposals), outcome)
    return _Piece(values, ess, outcome.log_evidence, outcome.error, how, doubt)


def _below(
    query: Answering, graph: Graph, asked: Sequence[str], drawn: Mapping[str, Tensor], num_samples: int, seed: int
) -> dict[str, Tensor]:
    """Draws what is asked for and has no evidence below it by the graph's own nodes, one for each draw above."""
    rest = [name for name in asked if name not in drawn]
    if not rest:
        return {}
    layout, part = query.trained.compiled.layout, graph.prune(*rest)
    rows = {name: value for name, value in drawn.items() if name in part}
    rows |= {name: query.given_rows(name, num_samples) for name in part if query.wholly_given(name)}
    size = query.size * num_samples
    if rows:
        traces = part.simulate(size, given=rows, seed=seed, progress=False)
    else:
        traces = part.simulate(size, seed=seed, progress=False)
    return {name: layout.tokenizers[name].rounded(torch.from_numpy(traces[name]).double()) for name in rest}


def _doubt(possible: float, share: float, outcome: Outcome) -> str:
    """Tells why parts of the law may have been missed, if there is a reason."""
    if share < _DOUBTFUL:
        return f"proposals around its draws are worth {share:.2%} of their number"
    if outcome.acceptance < _DOUBTFUL:
        return f"{outcome.acceptance:.2%} of the moves were accepted"
    if possible < 0.5:
        return f"{1 - possible:.0%} of the network's draws are impossible under the graph"
    return ""


def _doubtful(doubts: Sequence[str]) -> str:
    more = f" (and {len(doubts) - 1} more rows)" if len(doubts) > 1 else ""
    return (
        f"exact=True may miss parts of the law: {doubts[0]}{more}.\n"
        "  The network finds where to look. Compare the log evidence of several seeds; if they differ, train longer, or"
        " with queries=[dict(given=..., of=...)] of this kind."
    )


def _impossible(row: int, draws: int, proposals: int) -> str:
    return (
        f"exact=True found nothing that the graph allows for row {row} of the evidence: {draws} draws of the network"
        f" and {proposals} proposals around them have density 0.\n"
        "  Either the evidence is impossible under the graph, or the network is far off: train longer."
    )


def _notes(pieces: Sequence[_Piece], batched: bool) -> tuple[str, ...]:
    """Returns the lines of the report."""
    if not pieces:
        return ("exact=True: drawn by the graph itself, for nothing is given",)
    if not batched:
        piece = pieces[0]
        return (f"exact=True: {piece.how}; log evidence {piece.log_evidence:.3f} ± {piece.error:.3f}",)
    least, most = min(p.ess for p in pieces), max(p.ess for p in pieces)
    errors = max(p.error for p in pieces)
    return (
        f"exact=True: {len(pieces)} pieces of evidence, effective draws {least:.0f} to {most:.0f},"
        f" log evidence to within ± {errors:.3f}",
    )
