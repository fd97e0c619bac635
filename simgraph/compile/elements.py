r"""One token for each number.

With the bijection :math:`b` of the support, centre :math:`m` and scale :math:`s`, the token of a real element is
:math:`(b(v) - m) / s`; where the training values are heavy-tailed the standardised value passes through
:math:`\operatorname{asinh}` first. Statistics are fitted per event element and pooled over plates, whose elements are
exchangeable. Values that come up again and again, such as exact zeros, have zones of their own beside the rest
(:mod:`simgraph.compile.atoms`). Those of a function are standardised once more by what is common where they lie on its
index (:mod:`simgraph.compile.course`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from simgraph.compile.atoms import WIDTH, frequent, room_for, zones
from simgraph.compile.counts import Cells
from simgraph.compile.course import COURSE, course, interpolated
from simgraph.compile.standardise import standardise
from simgraph.compile.tokenizer import Tokenizer
from simgraph.errors import DeclarationError

__all__ = ["Elements"]


@dataclass(frozen=True)
class Elements(Tokenizer):
    """One token per element: reals, half-lines, intervals, and counts (dequantised).

    Attributes:
        points: Where a function is looked at, (..., points) from -1 to 1, the axes those in front of its events.
    """

    points: np.ndarray | None = None
    kind = "elements"

    @property
    def token_shape(self) -> tuple[int, ...]:
        return self.variable.event_shape

    @property
    def width(self) -> int:
        return 1

    @property
    def counts(self) -> bool:
        """Whether the elements are counts."""
        return self.variable.support.kind == "integers"

    def fit(self, values: np.ndarray, present: np.ndarray) -> Elements:
        free = self._unconstrain(torch.as_tensor(values, dtype=torch.float64)).numpy()
        flat, plain = (array.reshape(-1, self.num_tokens) for array in (free, np.asarray(values)))
        exists = present.reshape(-1, self.num_tokens)
        # Where training values lie at the very edge there is mass, and draws there are no leaks.
        edge = self._beyond(torch.from_numpy(free)).numpy().reshape(-1, self.num_tokens)
        columns = [
            self._column(plain[here, i], flat[here, i], edge[here, i])
            for i, here in ((i, exists[:, i]) for i in range(self.num_tokens))
        ]
        if self.counts:
            # As training sees them: spread over their cells, which matters where nearly all of them are equal.
            generator = torch.Generator().manual_seed(0)
            spread = self._unconstrain(torch.as_tensor(values, dtype=torch.float64), generator).numpy()
            for i, column in enumerate(columns):
                if not column["constant"]:
                    column |= standardise(spread.reshape(flat.shape)[exists[:, i], i])
        return Elements(self.variable, {name: np.array([c[name] for c in columns]) for name in columns[0]})

    def along(self, values: np.ndarray, present: np.ndarray, points: np.ndarray) -> Elements:
        if self.statistics["constant"].any():
            return self
        generator = torch.Generator().manual_seed(0)  # counts and atoms fill their cells, as training sees them
        tokens = self._tokens(torch.as_tensor(values, dtype=torch.float64), generator).numpy()
        places = np.broadcast_to(points[..., None], tokens.shape)
        exists = present.reshape(tokens.shape)
        found = [course(tokens[..., i][exists[..., i]], places[..., i][exists[..., i]]) for i in range(self.num_tokens)]
        moments = {name: np.stack([own[name] for own in found], 1) for name in COURSE}
        return replace(self, statistics={**self.statistics, **moments})

    @property
    def has_course(self) -> bool:
        """Whether tokens depend on where a function is looked at."""
        return COURSE[0] in self.statistics

    def at(self, points: np.ndarray | None) -> Elements:
        return replace(self, points=points) if self.has_course else self

    def usual(self) -> tuple[Tensor, Tensor]:
        """Returns the ends of what training saw about each point, with a margin, (points, *event_shape) each."""
        points = torch.as_tensor(self.points, dtype=torch.float64)
        low, high = (interpolated(torch.as_tensor(self.statistics[name]), points) for name in COURSE[2:])
        return self.detokenize(low.unsqueeze(-1)), self.detokenize(high.unsqueeze(-1))

    def _column(self, values: np.ndarray, free: np.ndarray, edge: np.ndarray) -> dict[str, float]:
        """Returns the statistics of one element from its values, these unconstrained, and which lie at an edge."""
        atoms = frequent(values) if self.variable.atomic else []
        rest = ~np.isin(values, atoms)
        found = standardise(free[rest]) | {"edge": float(edge[rest].any())}
        places = _bend(torch.from_numpy(free), *(torch.as_tensor(found[n]) for n in ("centre", "scale", "heavy")))
        found |= room_for(atoms, values[rest], places.numpy()[rest])
        if atoms:
            for zone in zones({name: np.array(value) for name, value in found.items()}):
                places = zone.moved(places, torch.from_numpy(values), None)
            variance = places.var(correction=0) + WIDTH**2 / 12 * (~rest).mean()  # atoms fill their zones
            found |= {"mean": float(places.mean()), "sd": float(variance.sqrt())}
        return found

    def tokenize(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self._tokens(values, generator).float().unsqueeze(-1)

    def log_scale(self, values: Tensor) -> Tensor:
        s, lead = self._tensors(), self.lead(values)
        free = self._unconstrain(values).reshape(*lead, self.num_tokens)
        slope = self._cells().log_abs_det(values + 0.5) if self.counts else self.variable.support.log_abs_det(values)
        z = (free - s["centre"]) / s["scale"]
        bent = torch.where(s["heavy"] > 0, -0.5 * z.square().log1p(), 0.0)
        return slope.reshape(*lead, self.num_tokens) + bent - (s["scale"] * s["sd"]).log()

    def cells(self, values: Tensor) -> Tensor:
        """Returns where the cells of values (..., *event_shape) begin and end, as tokens (..., num_tokens, 2).

        The probability of a count, or of an atom, is that of its cell. Other values have densities, and empty cells.
        The outermost cells of counts, and the zones of atoms, reach to infinity: all of them together are everything.
        """
        return self._cells_of_counts(values) if self.counts else self._cells_of_atoms(values)

    def _cells_of_counts(self, counts: Tensor) -> Tensor:
        lead, support = self.lead(counts), self.variable.support
        below, above = counts <= torch.as_tensor(support.low), counts >= torch.as_tensor(support.high)
        ends = []
        for end, open_end, infinity in ((counts, below, -torch.inf), (counts + 1, above, torch.inf)):
            free = self._cells().unconstrain(end).reshape(*lead, self.num_tokens)
            ends.append(torch.where(open_end.reshape(free.shape), infinity, self._standard(self._bent(free))))
        return torch.stack(ends, -1)

    def _cells_of_atoms(self, values: Tensor) -> Tensor:
        flat = values.reshape(*self.lead(values), self.num_tokens)
        found = torch.zeros(*flat.shape, 2, dtype=torch.float64)
        for zone in zones(self.statistics):
            end = self._standard(zone.end)
            ends = torch.stack([end, torch.full_like(end, zone.sign * torch.inf)], -1)
            found = torch.where(zone.holds(flat).unsqueeze(-1), ends.sort(-1).values, found)
        return found

    def detokenize(self, tokens: Tensor) -> Tensor:
        values = self._constrain(self._free(tokens))
        for zone in zones(self.statistics):
            values = torch.where(self._shaped(zone.covers(self._places(tokens))), self._shaped(zone.atom), values)
        return values

    def rounded(self, values: Tensor) -> Tensor:
        out = super().rounded(values)
        for zone in zones(self.statistics):  # an atom may lie at a bound, from which other values keep away
            atoms = zone.holds(values.reshape(*self.lead(values), self.num_tokens))
            out = torch.where(self._shaped(atoms), values.to(out.dtype), out)
        return out

    def places(self, tokens: Tensor) -> Tensor:
        """Maps tokens (..., num_tokens, 1) of counts to float64 places in their cells: those of k lie in [k, k + 1]."""
        return self._cells().constrain(self._free(tokens))

    def leaked(self, tokens: Tensor) -> Tensor:
        beyond = self._beyond(self._free(tokens)).reshape(tokens.shape[:-1])
        for zone in zones(self.statistics):
            beyond = beyond & ~zone.covers(self._places(tokens))
        return beyond & (self._tensors()["edge"] == 0)

    def _beyond(self, free: Tensor) -> Tensor:
        """Tells which unconstrained values lie beyond the skin of a finite interval; those of counts never do."""
        return torch.zeros_like(free, dtype=torch.bool) if self.counts else self.variable.support.beyond(free)

    def _tokens(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Returns tokens in double precision, (..., num_tokens)."""
        flat = (*self.lead(values), self.num_tokens)
        places = self._bent(self._unconstrain(values, generator).reshape(flat))
        for zone in zones(self.statistics):
            places = zone.moved(places, values.reshape(flat), generator)
        return self._standard(places)

    def _bent(self, free: Tensor) -> Tensor:
        """Returns centred and scaled unconstrained values (..., num_tokens), bent where their tails are heavy."""
        s = self._tensors()
        return _bend(free, s["centre"], s["scale"], s["heavy"])

    def _standard(self, places: Tensor) -> Tensor:
        """Returns float64 tokens of places, both (..., num_tokens)."""
        s = self._tensors()
        return (places - s["mean"]) / s["sd"]

    def _places(self, tokens: Tensor) -> Tensor:
        """Inverts :meth:`_standard`: tokens (..., num_tokens, 1) -> places (..., num_tokens)."""
        s = self._tensors()
        return tokens.squeeze(-1).double() * s["sd"] + s["mean"]

    def _free(self, tokens: Tensor) -> Tensor:
        """Returns unconstrained values (..., *event_shape) of tokens."""
        s, z = self._tensors(), self._places(tokens)
        z = torch.where(s["heavy"] > 0, torch.sinh(z), z)
        free = torch.where(s["constant"] > 0, s["centre"], z * s["scale"] + s["centre"])
        return free.reshape(*tokens.shape[:-2], *self.variable.event_shape)

    def _shaped(self, flat: Tensor) -> Tensor:
        """Returns (..., num_tokens) as (..., *event_shape)."""
        return flat.reshape((*flat.shape[:-1], *self.variable.event_shape))

    def _unconstrain(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if not self.counts:
            return self.variable.support.unconstrain(values)
        jitter = 0.5 if generator is None else torch.rand(values.shape, generator=generator, dtype=torch.float64)
        return self._cells().unconstrain(values + jitter)

    def _constrain(self, free: Tensor) -> Tensor:
        if not self.counts:
            return self.variable.support.constrain(free)
        support = self.variable.support
        counts = self._cells().constrain(free).floor()
        return torch.maximum(torch.minimum(counts, torch.as_tensor(support.high)), torch.as_tensor(support.low))

    def _cells(self) -> Cells:
        return Cells(self.variable.support.low, self.variable.support.high)

    def _tensors(self) -> dict[str, Tensor]:
        found = {name: torch.as_tensor(array, dtype=torch.float64) for name, array in self.statistics.items()}
        if self.has_course:
            if self.points is None:
                raise DeclarationError(
                    f"tokens of the function {self.variable.name!r} depend on where it is looked at.\n"
                    "  Say where: compiled.at({index: points})."
                )
            points = torch.as_tensor(self.points, dtype=torch.float64)
            mean, sd = (interpolated(found[name], points) for name in COURSE[:2])
            found |= {"mean": found["mean"] + found["sd"] * mean, "sd": found["sd"] * sd}
        return found


def _bend(free: Tensor, centre: Tensor, scale: Tensor, heavy: Tensor) -> Tensor:
    z = (free - centre) / scale
    return torch.where(heavy > 0, torch.asinh(z), z)
