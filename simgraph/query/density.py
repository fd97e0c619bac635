r"""Log densities by name: values are checked, become tokens, and their density returns in natural units.

A density of values is the density of their tokens times :math:`|\det d token / d value|`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simgraph.compile import Compiled
from simgraph.compile.elements import Elements
from simgraph.compile.masks import LATENT
from simgraph.compile.names import name_of, why_not_askable
from simgraph.compile.probe import Variable
from simgraph.dsl import Node
from simgraph.errors import (
    MissingValueError,
    QueryError,
    ShapeError,
    SimgraphWarning,
    UnknownNameError,
    did_you_mean,
    listed,
    warn,
)
from simgraph.query.evidence import Evidence, Missing
from simgraph.query.flow import DEFAULT_FLOW, Flow
from simgraph.query.likelihood import log_likelihood
from simgraph.query.numbers import numbers
from simgraph.train import Trained

__all__ = ["check_density", "check_flow", "log_prob", "merged", "token_density", "why_no_density"]


@dataclass(frozen=True)
class _Lead:
    """Leading axes of values: () for one, (N,) for many, and with batched evidence (B,) or (B, N)."""

    shape: tuple[int, ...]
    evidence: Tensor
    """The piece of evidence of each row, (rows,)."""

    @staticmethod
    def of(shapes: Mapping[str, tuple[int, ...]], size: int, *, batched: bool) -> _Lead:
        several = sorted({shape for shape in shapes.values() if shape}, key=len)
        longest = several[-1] if several else ((size,) if batched else ())
        for shape in several:
            if shape not in (longest, longest[:1] if batched else longest):
                raise ShapeError(
                    f"log_prob(...) has values of different numbers: {dict(shapes)}.\n"
                    "  Rows belong together: give every name the same number of values, or one value for all rows."
                )
        count = int(np.prod(longest, dtype=int))
        rows = torch.arange(count)
        return _Lead(longest, rows // (count // size) if batched else torch.zeros_like(rows))

    def rows(self, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Returns one value for each row, (rows, *shape)."""
        own = values.ndim - len(shape)
        spread = values.reshape(values.shape[:own] + (1,) * ((len(self.shape) - own) if own else 0) + shape)
        return np.broadcast_to(spread, self.shape + shape).reshape(-1, *shape)


def log_prob(
    trained: Trained,
    evidence: Mapping[str, Evidence],
    tokens: tuple[Tensor, Tensor],
    *,
    batched: bool,
    values: Mapping[str, Any],
    sampler: Flow | None,
) -> Tensor:
    """Returns log densities of named values; see :meth:`simgraph.Query.log_prob`.

    Args:
        trained: The model.
        evidence: Checked evidence by name.
        tokens: Tokens (evidence, tokens, width) and condition states (evidence, tokens) of the evidence alone.
        batched: Whether the evidence has a batch axis.
        values: Values by name, see :func:`merged`.
        sampler: How densities are computed.
    """
    compiled, flow = trained.compiled, check_flow(sampler)
    arrays = _checked(trained, evidence, values)
    own = {name: compiled.layout.tokenizers[name].variable for name in arrays}
    shapes = {name: _lead_of(own[name], array, len(tokens[0]), batched=batched) for name, array in arrays.items()}
    lead = _Lead.of(shapes, len(tokens[0]), batched=batched)
    rows = {name: lead.rows(array, own[name].shape) for name, array in arrays.items()}
    inside = np.ones(len(lead.evidence), dtype=bool)
    for name, array in rows.items():
        inside &= own[name].support.contains(array).reshape(len(array), -1).all(1)
    kept = torch.from_numpy(inside)
    found = torch.full((len(inside),), -torch.inf, dtype=torch.float64)
    if inside.any():
        full, states = tokens[0][lead.evidence[kept]], tokens[1][lead.evidence[kept]].clone()
        for name, array in rows.items():
            slots = compiled.layout.slots(name)
            full[:, slots], states[:, slots] = compiled.layout.tokenize(name, array[inside]), LATENT
        own_rows = {name: array[inside] for name, array in rows.items()}
        found[kept], estimated = token_density(trained, full, states, own_rows, flow)
        if estimated and flow.trace == "auto":
            _warn_of_estimate(flow)
    return found.reshape(lead.shape)


def token_density(
    trained: Trained, tokens: Tensor, states: Tensor, values: Mapping[str, np.ndarray], flow: Flow
) -> tuple[Tensor, bool]:
    """Returns the log density of latent values in natural units, (rows,), and whether it is an estimate.

    Args:
        trained: The model.
        tokens: Tokens (rows, tokens, width), of the evidence and of the values.
        states: Condition states (rows, tokens).
        values: The latent values by name, (rows, *shape), in their supports.
        flow: How densities are computed.
    """
    layout = trained.compiled.layout
    cells = torch.zeros(*tokens.shape[:2], 2, dtype=torch.float64)
    scale = torch.zeros(tokens.shape[:2], dtype=torch.float64)
    for name, array in values.items():
        slots, tokenizer = layout.slots(name), layout.tokenizers[name]
        scale[:, slots] = layout.log_scale(name, array)
        if isinstance(tokenizer, Elements):
            cells[:, slots] = tokenizer.cells(torch.as_tensor(array, dtype=torch.float64)).reshape(len(array), -1, 2)
    has_density = (states == LATENT) & (cells[..., 0] == cells[..., 1])  # the others have probabilities
    found, estimated = log_likelihood(trained.compiled, trained.denoiser, tokens, states, cells, flow)
    return found + torch.where(has_density, scale, 0.0).sum(1), estimated


def merged(compiled: Compiled, values: Mapping[str | Node, Any] | None, named: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values that a density is asked of, by name.

    Raises:
        QueryError: If there are none, or a name has two.
        UnknownNameError: If a name is not in the model.
    """
    if values is not None and not isinstance(values, Mapping):
        raise QueryError(
            f"log_prob(...) takes values by name, not {type(values).__name__}.\n  For example: log_prob(theta=values)"
        )
    found: dict[str, Any] = {}
    for key, value in [*(values or {}).items(), *named.items()]:
        name = name_of(key)
        if name not in compiled.layout.names:
            raise UnknownNameError(
                f"{name!r} is not a variable of this model.\n  {did_you_mean(name, compiled.layout.names)}"
            )
        if name in found:
            raise QueryError(f"log_prob(...) has {name!r} twice.\n  Give it in the mapping or by keyword, not both.")
        found[name] = value
    if not found:
        raise QueryError("log_prob(...) has no values.\n  For example: model.given(x=x_o).log_prob(theta=values)")
    return found


def check_flow(sampler: Flow | None) -> Flow:
    """Returns the options of densities.

    Raises:
        QueryError: If they are something else.
    """
    if sampler is not None and not isinstance(sampler, Flow):
        raise QueryError(f"sampler={sampler!r} computes no densities.\n  For example: sampler=sg.Flow(steps=30)")
    return sampler or DEFAULT_FLOW


def check_density(trained: Trained, name: str) -> None:
    """Refuses variables that have no density.

    Raises:
        QueryError: If the variable is deterministic, or constant in all traces of the training.
    """
    reason = why_no_density(trained, name)
    if reason is not None:
        raise QueryError(reason)


def why_no_density(trained: Trained, name: str) -> str | None:
    """Tells why a variable has no density: it has an embedding, is deterministic, or constant in all traces."""
    compiled = trained.compiled
    if (why := why_not_askable(compiled.layout, name)) is not None:
        return why
    if compiled.graph is not None and compiled.graph[name].kind == "deterministic":
        return (
            f"{name!r} is deterministic: given its parents it has one value, and no density.\n"
            f"  Leave it out, or ask for its parents: {listed(compiled.graph[name].parents)}."
        )
    variable = compiled.layout.tokenizers[name].variable
    constant = trained.ranges.low[name] == trained.ranges.high[name]
    if compiled.layout.tokenizers[name].kind == "categories" or not constant.any():
        return None
    first = tuple(np.argwhere(constant)[0].tolist())
    where = f"{name}{list(first)}" if variable.event_shape else name
    return (
        f"{where!r} had one and the same value, {trained.ranges.low[name][first]:.6g}, in all"
        f" {trained.ranges.count} training traces: it has no density.\n  Leave {name!r} out, or give it."
    )


def _warn_of_estimate(flow: Flow) -> None:
    warn(
        f"more than {flow.most_exact} features depend on one another, so that the log density is an estimate"
        " (Hutchinson's, with fixed random signs).\n"
        "  For the exact one, at a cost that grows with their number: log_prob(..., sampler=sg.Flow(trace='exact'))",
        SimgraphWarning,
    )


def _checked(trained: Trained, evidence: Mapping[str, Evidence], values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    arrays = {}
    for name, value in values.items():
        if name in evidence:
            part = "" if bool(evidence[name].observed.all()) else " in part"
            raise QueryError(
                f"{name!r} is given{part}, and log_prob(...) has values of it.\n"
                "  A density is one of whole variables that are not given; leave it out of one of the two."
            )
        check_density(trained, name)
        if isinstance(value, Missing):
            raise QueryError(
                f"log_prob({name}=...) has missing entries; a density is one of whole variables.\n"
                "  To marginalise, leave the name out."
            )
        arrays[name] = numbers(f"log_prob({name}=...)", value)
        if np.isnan(arrays[name]).any():
            raise MissingValueError(f"log_prob({name}=...) holds {int(np.isnan(arrays[name]).sum())} NaN.")
    return arrays


def _lead_of(variable: Variable, array: np.ndarray, size: int, *, batched: bool) -> tuple[int, ...]:
    """Returns the leading axes of values, which are known by their number."""
    shape = variable.shape
    own = array.ndim - len(shape)
    lead = array.shape[: max(own, 0)]
    fits = array.shape[max(own, 0) :] == shape and 0 <= own <= 1 + batched and 0 not in lead
    if fits and (not batched or not lead or lead[0] == size):
        return lead
    accepted = [(), ("N",)] if not batched else [(), (size,), (size, "N")]
    forms = [
        f"({', '.join(map(str, (*front, *shape)))}{',' if len(front) + len(shape) == 1 else ''})" for front in accepted
    ]
    why = f" with {size} pieces of evidence" if batched else ""
    raise ShapeError(
        f"log_prob({variable.name}=...) has shape {array.shape}; {variable.name!r} has shape {shape}{why}.\n"
        f"  Accepted: {', '.join(forms[:-1])} or {forms[-1]}."
    )
