"""How a question is answered by draws: under restrictions, corrected by the graph's density, or plainly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from simgraph.errors import SimgraphWarning, warn
from simgraph.query.bounds import shares_outside
from simgraph.query.deterministic import computed, split
from simgraph.query.draw import draw
from simgraph.query.exact import corrected
from simgraph.query.methods import Method, find_method
from simgraph.query.question import Question, as_evidence
from simgraph.query.restricted import Restricted, restricted
from simgraph.query.samples import Samples
from simgraph.query.solvers import Sampler
from simgraph.traces.seeds import integer_seed

__all__ = ["Answering"]

_SATISFIED = 0.99
"""Share of draws that satisfy the restrictions, below which a warning is given."""


class Answering(Question):
    """A question that draws its answers, once all that is asked is checked."""

    def answer(
        self,
        asked: Sequence[str],
        num_samples: int,
        seed: int,
        sampler: Sampler,
        method: str | Method,
        *,
        exact: bool,
        single: bool,
    ) -> Any:
        """Draws what ``sample`` has checked: one tensor for a single name, or Samples."""
        report: dict[str, Any] = {}
        if exact:
            right = corrected(self, asked, num_samples, sampler, seed, method)
            found = right.values
            report = {"ess": right.ess, "log_evidence": right.log_evidence, "notes": right.notes}
        elif self.restrictions:
            answer = restricted(self, num_samples, sampler, integer_seed(seed, "restricted"), find_method(method))
            report = {"ess": answer.ess, "notes": self._told(answer)}
            found = self._beside(answer, asked, num_samples, sampler, integer_seed(seed, "beside"))
        else:
            found = self.drawn(asked, num_samples, sampler, seed)
        if single:
            return found[asked[0]]
        layout = self.trained.compiled.layout
        dims = {name: layout.plates[name] for name in asked}
        coords = {index: layout.indices[index].arranged(own) for index, own in self.points.items()}
        outside = {} if exact else self._outside(found)
        return Samples(found, batched=self.batched, outside=outside, dims=dims, coords=coords, **report)

    def drawn(self, asked: Sequence[str], num_samples: int, sampler: Sampler, seed: int) -> dict[str, Tensor]:
        """Draws variables, whatever the restrictions say: ([batch,] num_samples, *shape) by name."""
        drawn, functions = split(self, asked)
        found: dict[str, Tensor] = {}
        if drawn:
            values, states = self.joint_tokens(drawn)
            tokens = draw(self.trained.compiled, self.trained.denoiser, values, states, num_samples, sampler, seed)
            found = {name: self.values(name, tokens) for name in drawn}
        if functions:
            found |= computed(self, functions, found, num_samples)
        return {name: found[name] for name in asked}

    def _beside(
        self, answer: Restricted, asked: Sequence[str], num_samples: int, sampler: Sampler, seed: int
    ) -> dict[str, Tensor]:
        """Draws what is asked for given the variables that satisfy the restrictions, row by row."""
        rows = {name: value.flatten(0, 1) for name, value in answer.values.items()}
        rest = [name for name in asked if name not in rows]
        if rest:
            others = {name: piece for name, piece in self.evidence.items() if name not in rows}
            pieces = {name: piece.repeated(self.size, num_samples) for name, piece in others.items()}
            known = pieces | as_evidence(rows)
            below = type(self)(self.trained, known, self.size * num_samples, batched=True, looked=self.looked)
            found = below.drawn(rest, 1, sampler, seed)
            rows |= {name: value[:, 0] for name, value in found.items()}
        return {name: self.arranged(rows[name]) for name in asked}

    def _told(self, answer: Restricted) -> list[str]:
        demands = "; ".join(map(str, self.restrictions))
        told = f"{answer.satisfied:.1%} of the draws satisfy {demands} ({answer.how})"
        if answer.satisfied < _SATISFIED:
            warn(
                f"only {told}.\n  method='auto' returns only draws that do; or raise the recurrence of sg.Guided.",
                SimgraphWarning,
            )
        return [told]

    def _outside(self, draws: Mapping[str, Tensor]) -> dict[str, float]:
        """Returns the share of draws outside of their parents' bounds, if the graph is at hand to tell."""
        graph, layout = self.trained.compiled.graph, self.trained.compiled.layout
        if graph is None:
            return {}
        shape = {name: layout.tokenizers[name].variable.shape for name in layout.names if not layout.index_of(name)}
        values = {name: draw.reshape(-1, *shape[name]) for name, draw in draws.items() if name in shape}
        if not values:
            return {}
        rows = len(next(iter(values.values())))
        for name in self.evidence:
            if self.wholly_given(name) and name in shape:
                values[name] = self.given_rows(name, rows // self.size)
        return {name: share for name, share in shares_outside(graph, values).items() if name in draws}
