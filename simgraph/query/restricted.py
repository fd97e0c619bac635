r"""Draws that satisfy intervals, constraints and predicates.

With A the variables that the restrictions read and B all else that is asked, p(a, b | e, U(a) <= 0) is
p(a | e, U(a) <= 0) p(b | a, e): the variables of A are drawn first, until they satisfy the restrictions, and B follows
given A by one more question to the same model. What is rare is then sought among A and the nuisance variables alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from simgraph.errors import QueryError, RestrictionError, listed
from simgraph.query.budget import Budget, OutOfTimeError
from simgraph.query.deterministic import computed, split
from simgraph.query.draw import Pushforward
from simgraph.query.guidance import guided
from simgraph.query.methods import Guided, Method, Rejection, Splitting
from simgraph.query.solvers import Sampler
from simgraph.query.splitting import StuckError, worth
from simgraph.query.splitting import split as climb
from simgraph.traces.seeds import integer_seed, torch_stream

if TYPE_CHECKING:
    from simgraph.query.answering import Answering
    from simgraph.query.restrictions import Restriction

__all__ = ["Restricted", "restricted"]

_PILOT = 2000
"""Draws from which the share that satisfies the restrictions is estimated."""

_RARE = 0.03
"""Share below which rejection is given up for the ladder."""

_MOST_ROWS = 200_000
"""Draws of one round of rejection, over all pieces of evidence."""


@dataclass(frozen=True)
class Restricted:
    """Draws, and how they came about.

    Attributes:
        values: Draws (evidence, num_samples, *plate sizes, *event_shape) of the variables that restrictions read.
        satisfied: Share of the draws that satisfy all restrictions.
        how: The method, in words.
        ess: Effective number of draws, of the worst piece of evidence: see :func:`simgraph.query.splitting.worth`.
    """

    values: dict[str, Tensor]
    satisfied: float
    how: str
    ess: float


def restricted(query: Answering, num_samples: int, sampler: Sampler, seed: int, method: Method | None) -> Restricted:
    """Draws the variables that the restrictions of a query read, so that they satisfy them.

    Args:
        query: The query.
        num_samples: Draws for each piece of evidence.
        sampler: The solver.
        seed: Seed of the draws.
        method: The method; None for rejection, and the ladder for pieces of evidence where too few draws pass.

    Raises:
        RestrictionError: If the budget is spent, or no draw satisfies the restrictions.
    """
    budget = Budget((method or Rejection()).time_limit)
    source = _Source(query, sampler)
    if isinstance(method, Guided):
        return _guided(source, num_samples, seed, method, budget)
    graded = all(restriction.graded for restriction in query.restrictions)
    if isinstance(method, Splitting) and not graded:
        raise QueryError(
            "a predicate (sg.where) does not say how far a draw is from satisfying it, which method='smc' needs.\n"
            "  State it as sg.constraint(residual), at most 0 where it holds; or use method='rejection'."
        )
    found: dict[int, dict[str, Tensor]] = {}
    share, ess = 0.0, float(num_samples)
    try:
        if not isinstance(method, Splitting):
            rejection = method if isinstance(method, Rejection) else Rejection()
            found, share = _rejected(source, num_samples, seed, rejection, budget, give_up=method is None and graded)
        missing = [piece for piece in range(query.size) if piece not in found]
        ladder = method if isinstance(method, Splitting) else Splitting()
        for piece in missing:
            found[piece], effective = _climbed(source, piece, num_samples, seed, ladder, budget)
            ess = min(ess, effective)
    except OutOfTimeError:
        raise RestrictionError(
            f"no {num_samples} draws that satisfy {listed(query.restrictions)} were found in {budget.seconds:g} s.\n"
            f"  {_advice(graded)}"
        ) from None
    kept = query.size - len(missing)
    parts = [f"rejection kept {share:.2g} of its draws"] if kept else []
    parts += [f"sequential Monte Carlo{f' for {len(missing)} of {query.size} pieces' if kept else ''}"] * bool(missing)
    names = found[0]
    values = {name: torch.stack([found[piece][name] for piece in range(query.size)]) for name in names}
    return Restricted(values, 1.0, ", ".join(parts), ess)


class _Source:
    """What a restricted query draws from: the learned law of the variables that its restrictions read."""

    def __init__(self, query: Answering, sampler: Sampler) -> None:
        self.query, self.sampler = query, sampler
        self.restrictions: Sequence[Restriction] = query.restrictions
        names = dict.fromkeys(name for restriction in self.restrictions for name in restriction.names)
        self.read = list(names)
        self.asked = [name for name in self.read if not query.wholly_given(name)]
        self.drawn, self.functions = split(query, self.asked)

    def draws(self, pieces: Sequence[int], count: int, seed: int) -> dict[str, Tensor]:
        """Draws for some pieces of evidence, whatever the restrictions say: (pieces, count, *shape) by name."""
        part = self.query.pieces(pieces)
        return part.drawn(self.drawn + self.functions, count, self.sampler, seed)

    def residuals(self, pieces: Sequence[int], draws: Mapping[str, Tensor]) -> Tensor:
        """Returns residuals (pieces, count, restrictions) of draws (pieces, count, *shape)."""
        first = next(iter(draws.values()))
        flat = {name: draw.flatten(0, 1) for name, draw in draws.items()}
        for name in self.read:
            if name not in flat:
                flat[name] = self.query.pieces(pieces).given_rows(name, first.shape[1])
        columns = [restriction.residual(flat) for restriction in self.restrictions]
        return torch.stack(columns, -1).reshape(*first.shape[:2], -1)

    def kept(self, draws: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns what is handed on: the variables that were drawn, from which functions follow again."""
        return {name: draws[name] for name in self.drawn}


def _rejected(
    source: _Source, num_samples: int, seed: int, method: Rejection, budget: Budget, *, give_up: bool
) -> tuple[dict[int, dict[str, Tensor]], float]:
    """Draws until enough draws pass.

    Returns:
        Draws (num_samples, *shape) by piece of evidence and name, for the pieces that came through; and the share
        of draws that passed.
    """
    pending = list(range(source.query.size))
    kept: dict[int, list[dict[str, Tensor]]] = {piece: [] for piece in pending}
    counts = dict.fromkeys(pending, 0)
    done: dict[int, dict[str, Tensor]] = {}
    tried, passed, each = 0, 0, max(_PILOT, num_samples)
    total = 0
    for number in range(method.tries):
        count = max(1, min(each, _MOST_ROWS // len(pending), method.tries - tried))
        draws = source.draws(pending, count, integer_seed(seed, "rejection", number))
        good = (source.residuals(pending, draws) <= 0).all(-1)
        tried, total, passed = tried + count, total + good.numel(), passed + int(good.sum())
        for row, piece in enumerate(pending):
            kept[piece].append({name: draw[row][good[row]] for name, draw in source.kept(draws).items()})
            counts[piece] += int(good[row].sum())
            if counts[piece] >= num_samples:
                joined = {name: torch.cat([part[name] for part in kept[piece]]) for name in source.drawn}
                done[piece] = {name: value[:num_samples] for name, value in joined.items()}
        pending = [piece for piece in pending if piece not in done]
        if give_up:
            pending = [piece for piece in pending if counts[piece] >= _RARE * tried]
        if not pending:
            break
        if tried >= method.tries:
            fewest = min(counts[piece] for piece in pending)
            raise RestrictionError(
                f"{fewest} of {tried} draws satisfy {listed(source.restrictions)}; {num_samples} are asked for.\n"
                f"  {_advice(all(r.graded for r in source.restrictions))}"
            )
        budget.check()
        rates = [max(counts[piece], 1) / tried for piece in pending]
        lacking = [num_samples - counts[piece] for piece in pending]
        each = max(math.ceil(1.2 * need / rate) for need, rate in zip(lacking, rates, strict=True))
    return done, passed / max(total, 1)


def _climbed(
    source: _Source, piece: int, num_samples: int, seed: int, method: Splitting, budget: Budget
) -> tuple[dict[str, Tensor], float]:
    """Draws for one piece of evidence by sequential Monte Carlo.

    Returns:
        Draws (num_samples, *shape) by name, and their effective number.
    """
    part = source.query.pieces([piece])
    push = _push(part, source)
    generator = torch_stream(seed, "splitting", piece)
    scale: list[Tensor] = []

    def draws_of(noise: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        evidence = torch.zeros(len(noise), dtype=torch.long)
        tokens = push(evidence, noise)
        found = {name: part.values(name, tokens.unsqueeze(0)) for name in source.drawn}
        if source.functions:
            found |= computed(part, source.functions, found, len(noise))
        return found, push.leaked(evidence, tokens)

    def cost(noise: Tensor) -> Tensor:
        found, leaked = draws_of(noise)
        excess = source.residuals([piece], found)[0].clamp_min(0)
        if not scale:  # what makes different restrictions comparable
            scale.append(torch.stack([_typical(column) for column in excess.unbind(-1)]))
        return torch.where(leaked, math.inf, (excess / scale[0]).sum(-1))

    try:
        climbed = climb(cost, push.shape, num_samples, method.particles, method.sweeps, generator, budget)
    except StuckError as error:
        where = f" for piece {piece} of the evidence" if source.query.batched else ""
        raise RestrictionError(
            f"no draw that satisfies {listed(source.restrictions)} was found{where}; the closest misses by"
            f" {error.closest:.3g} of what a typical draw misses by.\n"
            "  It may be impossible given the evidence, or lie where the model has seen no traces."
        ) from None
    drawn = {name: value[0] for name, value in source.kept(draws_of(climbed.noise)[0]).items()}
    values = torch.cat([value.reshape(num_samples, -1).double() for value in drawn.values()], 1)
    return drawn, worth(values, climbed.families)


def _guided(source: _Source, num_samples: int, seed: int, method: Guided, budget: Budget) -> Restricted:
    """Draws by guided diffusion; some draws may violate the restrictions."""
    query, layout = source.query, source.query.trained.compiled.layout
    stiff = [r for r in source.restrictions if not r.graded]
    discrete = [name for name in source.asked if layout.tokenizers[name].variable.support.kind == "integers"]
    if stiff or discrete or source.functions:
        what = listed(stiff or discrete or source.functions)
        raise QueryError(
            f"method='guided' follows gradients, and {what} has none.\n"
            "  Use method='auto', or state predicates as sg.constraint(residual), at most 0 where they hold."
        )
    pilot = source.draws(range(query.size), max(100, _PILOT // query.size), integer_seed(seed, "pilot"))
    scale = source.residuals(range(query.size), pilot).flatten(0, 1).std(0).clamp_min(1e-12)
    parts, passed = [], []
    for piece in range(query.size):
        part = query.pieces([piece])
        push = _push(part, source)
        slots = push.problem.slots

        def residuals(tokens: Tensor, piece: int = piece, slots: Tensor = slots) -> Tensor:
            whole = torch.zeros(len(tokens), len(layout), layout.width).index_copy(1, slots, tokens)
            values = {name: layout.detokenize(name, whole[:, layout.slots(name)]).unsqueeze(0) for name in source.drawn}
            return source.residuals([piece], values)[0]

        generator = torch_stream(seed, "guided", piece)
        try:
            drawn = guided(push.problem, residuals, scale, num_samples, method, generator, budget)
        except OutOfTimeError:
            raise RestrictionError(
                f"guided draws took more than {budget.seconds:g} s.\n  Allow more: method=sg.Guided(time_limit=600)"
            ) from None
        whole = torch.zeros(1, len(drawn), len(layout), layout.width).index_copy(2, slots, drawn.unsqueeze(0))
        found = {name: part.values(name, whole) for name in source.drawn}
        parts.append(found)
        passed.append((source.residuals([piece], found) <= 0).all(-1).double().mean())
    values = {name: torch.cat([part[name] for part in parts]) for name in source.drawn}
    return Restricted(values, float(torch.stack(passed).mean()), "guided diffusion, approximate", float(num_samples))


def _push(part: Answering, source: _Source) -> Pushforward:
    values, states = part.joint_tokens(source.drawn)
    trained = part.trained
    return Pushforward(trained.compiled, trained.denoiser, values, states, source.sampler)


def _typical(excess: Tensor) -> Tensor:
    """Returns the median of what is above 0, or 1 if nothing is."""
    above = excess[(excess > 0) & excess.isfinite()]
    return above.median() if len(above) else torch.ones((), dtype=excess.dtype)


def _advice(graded: bool) -> str:
    if graded:
        return "Ask for fewer draws, allow more time (method=sg.Splitting(time_limit=600)), or relax the restriction."
    return (
        "Ask for fewer draws, allow more tries (method=sg.Rejection(tries=10_000_000, time_limit=600)),\n"
        "  or state the predicate as sg.constraint(residual), which is sought step by step."
    )
