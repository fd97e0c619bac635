r"""Interventions: what follows when variables are set, not seen.

With S the variables that are set and D their descendants, the truncated factorisation is

.. math:: p(v \mid do(s)) = p(u) \prod_{i \in D} p(v_i \mid parents(v_i))

where u is all that is neither set nor below: its law is the one without the intervention, so it is drawn jointly, given
the evidence. Each variable of D that is needed follows by its learned mechanism, in topological order.

References:
    Pearl, Causality (2009), equation 3.10.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simgraph.compile.names import name_of
from simgraph.dsl import Node
from simgraph.errors import EvidenceError, OutOfRangeWarning, QueryError, ShapeError, SupportError, listed, warn
from simgraph.graph.validate import OPTIONS
from simgraph.query.ancestral import descend
from simgraph.query.functions import refuse
from simgraph.query.query import Query, numerics
from simgraph.query.ragged import RaggedQuery
from simgraph.query.restrictions import Condition
from simgraph.query.samples import Samples
from simgraph.query.sizes import became, cut, settled, told
from simgraph.query.solvers import Sampler
from simgraph.train import Trained

__all__ = ["Intervention"]


class Intervention:
    """A model in which variables are set to constants: knows what is given above them, and is asked by name.

    Made by :meth:`Model.do`. It needs no simulator code: who follows from whom is a part of the model.

    Args:
        query: The evidence; none of it is set or lies below what is set.
        settings: Checked values (*plate sizes, *event_shape) of the variables that are set.
    """

    def __init__(self, query: Query, settings: Mapping[str, np.ndarray]) -> None:
        self.query, self.settings = query, dict(settings)
        self._parents = query.trained.compiled.parents
        self._below = _descendants(self._parents, self.settings)
        for name in dict.fromkeys([*query.evidence, *(n for demand in query.restrictions for n in demand.names)]):
            if name in self.settings:
                raise QueryError(f"{name!r} is both given and set by do(...).\n  Leave it out of one of the two.")
            if name in self._below:
                causes = [
                    cause for cause in self.settings if name in _descendants(self._parents, [cause], self.settings)
                ]
                do = ", ".join(f"{cause}=..." for cause in causes)
                raise QueryError(
                    f"{name!r} is given and lies below {listed(causes)}, set by do(...).\n"
                    "  What is seen below an intervention changes what is known above it, which mechanisms in order"
                    " cannot use.\n"
                    f"  Fit a model of graph.do({do}) and ask it; or, if {listed(causes)} was seen and not set:"
                    f" model.given({do}, {name}=...)"
                )

    @staticmethod
    def of(query: Query, settings: Sequence[Any], values: Mapping[str, Any]) -> Intervention:
        """Checks what is to be set; see :meth:`Model.do`."""
        named: dict[str, Any] = {}
        for setting in (*settings, values):
            if not isinstance(setting, Mapping):
                raise QueryError(f"do(...) takes mappings from names to values, not {setting!r}.")
            for key, value in setting.items():
                if name_of(key) in OPTIONS:
                    raise QueryError(
                        f"{key!r} is no variable but an option of sample(...): do(...).sample(..., {key}={value!r})"
                    )
                ((name,), _) = query.named((key,), "do")
                if name in named:
                    raise QueryError(f"do(...) sets {name!r} twice.\n  Set it once, in the mapping or by keyword.")
                named[name] = value
        if not named:
            raise QueryError("do(...) sets nothing.\n  For example: model.do(theta=0.0).sample('x')")
        layout = query.trained.compiled.layout
        refuse(layout, layout.names, "do(...)", "Fit a model of graph.do(...), and ask it.")
        # One number is set for all elements, however many there are; an array with one for each tells their number.
        several = {name: value for name, value in named.items() if _has_several(value)}
        query = query.sized(told(layout, several, "do"))
        found: dict[str, np.ndarray] = {}
        for name, value in named.items():
            found[name] = _setting(query.trained, name, value)
        return Intervention(query, found)

    def given(
        self, /, *conditions: Mapping[str | Node, Any] | Condition, strict: bool = False, **values: Any
    ) -> Intervention:
        """Attaches evidence on variables that are neither set nor below; see :meth:`Model.given`.

        Raises:
            QueryError: If a name is set or lies below what is set, or as in :meth:`Model.given`.
        """
        query = self.query.given(*conditions, strict=strict, **values)
        if isinstance(query, RaggedQuery):
            raise QueryError(
                "do(...) takes no list of pieces of evidence.\n"
                "  Ask about one piece after another: do(...).given(x=piece)"
            )
        return self._asking(query)

    def sample(
        self,
        *names: str | Node | Iterable[str | Node],
        num_samples: int = 1000,
        seed: int | None = None,
        at: Mapping[Any, Any] | None = None,
        sampler: Sampler | None = None,
    ) -> Any:
        """Draws the named variables under the intervention; only what they need is drawn.

        Args:
            *names: One name: the result is a tensor. Several, a list, or none (everything that is neither given nor
                set): the result is :class:`Samples`. A variable that is set comes back as it was set.
            num_samples: Number of draws, for each piece of evidence.
            seed: Seed of the draws; fresh ones every time if there is none.
            at: Sizes by name of plates whose size varies, where neither evidence nor what is set tells them.
            sampler: The solver and its number of network evaluations.

        Returns:
            A tensor ([batch,] num_samples, *plate sizes, *event_shape), or Samples of such tensors.

        Raises:
            UnknownNameError: If a name is not in the model.
            QueryError: If a name is given, or an option is not valid.
        """
        asked, single = self.query.named(names)
        about = [*(asked or self.query.trained.compiled.layout.names), *self.query.evidence]
        about += [name for demand in self.query.restrictions for name in demand.names]
        sizes = settled(self.query.trained.compiled, at, about, constants=self.settings)
        if sizes:
            there = self._asking(self.query.sized(sizes))
            return there.sample(*names, num_samples=num_samples, seed=seed, sampler=sampler)
        query, layout = self.query, self.query.trained.compiled.layout
        for name in asked:
            if query.wholly_given(name):
                raise QueryError(f"{name!r} is both given and asked for.\n  Leave it out of one of the two.")
        known = {name for name in layout.names if name in self.settings or query.wholly_given(name)}
        asked = asked or [name for name in layout.names if name not in known and name not in layout.embedded]
        if not asked:
            raise QueryError("every variable is given or set; nothing is left to sample.")
        num_samples, seed, sampler = numerics(num_samples, seed, sampler)

        mechanisms: list[str] = []
        needed = set(asked)
        for name in reversed(layout.names):
            if name in needed and name in self._below:
                mechanisms.insert(0, name)
                needed.update(self._parents[name])
        upper = [name for name in layout.names if name in needed - known - self._below]
        drawn = query.sample(upper, num_samples=num_samples, seed=seed, sampler=sampler) if upper else None
        rows = {name: draw.reshape(-1, *layout.tokenizers[name].variable.shape) for name, draw in (drawn or {}).items()}
        for name in needed & known:
            rows[name] = (
                self._set_rows(name, num_samples) if name in self.settings else query.given_rows(name, num_samples)
            )
        rows |= descend(query, mechanisms, rows, sampler, seed)
        found = {name: query.arranged(rows[name]) for name in asked}
        if single:
            return found[asked[0]]
        plates = {name: layout.plates[name] for name in asked}
        return Samples(found, batched=query.batched, dims=plates) if drawn is None else drawn.following(found, plates)

    def _asking(self, query: Query) -> Intervention:
        """Returns the same intervention in another question, in which more plates may have a size."""
        before, after = self.query.trained.compiled.layout, query.trained.compiled.layout
        sizes = became(before, after)
        return Intervention(query, {name: cut(before, name, value, sizes) for name, value in self.settings.items()})

    def _set_rows(self, name: str, num_samples: int) -> Tensor:
        """Returns the value that a variable is set to, once for each draw."""
        whole = self.query.trained.compiled.layout.tokenizers[name].variable.support.kind == "integers"
        value = torch.from_numpy(self.settings[name]).to(torch.int64 if whole else torch.get_default_dtype())
        return value.repeat(self.query.size * num_samples, *(1,) * value.dim())

    def __repr__(self) -> str:
        given = f" given {', '.join(self.query.evidence)}" if self.query.evidence else ""
        return f"<Intervention on {listed(self.settings)}{given}; changes {listed(self._ordered())}>"

    def _ordered(self) -> list[str]:
        return [name for name in self.query.trained.compiled.layout.names if name in self._below]


def _descendants(parents: Mapping[str, Sequence[str]], causes: Iterable[str], cut: Iterable[str] = ()) -> set[str]:
    """Returns all variables below ``causes``; ``causes`` and variables in ``cut`` follow from nothing."""
    causes = set(causes)
    found: set[str] = set()
    for name, above in parents.items():  # in topological order
        if name not in causes and name not in cut and not (causes | found).isdisjoint(above):
            found.add(name)
    return found


def _has_several(value: Any) -> bool:
    try:
        return any(size > 1 for size in np.shape(value))
    except ValueError:  # lists of different lengths, which are refused later
        return False


def _setting(trained: Trained, name: str, value: Any) -> np.ndarray:
    """Returns a checked value for a variable, of its full shape."""
    variable, ranges = trained.compiled.layout.tokenizers[name].variable, trained.ranges
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise EvidenceError(f"do({name}=...) is no array: {error}.") from None
    if array.dtype.kind not in "iubf":
        raise EvidenceError(f"do({name}=...) takes numbers, not {value!r}.\n  What is uncertain is not set.")
    if np.isnan(array).any():
        raise EvidenceError(f"do({name}=...) holds {int(np.isnan(array).sum())} NaN.\n  Every element is set.")
    try:
        array = np.array(np.broadcast_to(array, variable.shape), dtype=np.float64)
    except ValueError:
        raise ShapeError(
            f"do({name}=...) has shape {array.shape}; {name!r} has {variable.shape}.\n"
            "  One intervention sets one value; for several, ask for one after another."
        ) from None
    inside = variable.support.contains(array)
    if not inside.all():
        raise SupportError(
            f"do({name}=...) lies outside of the support of {name!r}, which is {variable.support}:"
            f" {int((~inside).sum())} of {inside.size} values.\n  First: {array[~inside][0]}"
        )
    low, high = ranges.low[name], ranges.high[name]
    margin = 0.1 * (high - low)
    far = (array < low - margin) | (array > high + margin)
    if far.any():
        warn(
            f"{int(far.sum())} of {far.size} values of do({name}=...) lie outside of all {ranges.count} training"
            f" values; first: {array[far][0]:.6g}.\n  The model extrapolates there; simulate with a wider prior.",
            OutOfRangeWarning,
        )
    return array
