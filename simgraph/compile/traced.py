r"""The law of a node, read from its own code.

A distribution node's function is run on traced tensors, and so is the log density of what it returns, at a draw whose
elements are traced as well: entry b of the log density tells which parent elements batch element b is drawn from.
Elements along the event axes of a distribution are drawn together; a multivariate Gaussian
:math:`x = \mu + L z` is taken apart by the chain rule, since :math:`x_{\le i}` is a function of
:math:`\mu_{\le i}` and :math:`L_{\le i, \le i}` alone.

The reading is checked: at other values of some parent elements, the log densities of elements that are not drawn
from them must stay the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal

from simgraph.compile.carried import Tracing
from simgraph.compile.law import Law
from simgraph.compile.tracer import Sets, Traced, Untraceable, fresh, ids_of
from simgraph.dsl import Node
from simgraph.text import a_kind
from simgraph.traces.blocks import isolated
from simgraph.traces.distributions import call, unvalidated

__all__ = ["dependence", "traced_law"]


def traced_law(node: Node, examples: Sequence[Mapping[str, Any]]) -> Law:
    """Reads the law of one event of a node.

    Args:
        node: A distribution node, or a deterministic one that returns a tensor.
        examples: What its function receives in a few traces, by parameter: it is read at the first of them.

    Raises:
        Untraceable: If its code cannot be followed; the message tells why.
    """
    first = examples[0]
    for parameter, value in first.items():
        if not isinstance(value, Tensor):
            raise Untraceable(f"it receives an object as {parameter!r}")
    reading = _Distribution(node, first) if node.kind == "distribution" else _Tensor(node, first)
    return reading.checked(examples[1:]).law()


def dependence(function: Any, *inputs: Tensor) -> list[np.ndarray]:
    """Returns which elements of a function's result depend on which elements of its inputs.

    Args:
        function: A function of tensors that returns a tensor.
        *inputs: What it is run at.

    Returns:
        For each input a boolean array (*shape of the result, *shape of the input).

    Raises:
        Untraceable: If the function cannot be followed.
    """
    sets = Sets()
    traced, starts = [], [0]
    for value in inputs:
        traced.append(fresh(value.clone(), sets.singletons(starts[-1], value.shape)))
        starts.append(starts[-1] + value.numel())
    result = _run(sets, lambda: function(*traced))
    return [
        _bits(sets, result.ids, start, value.numel()).reshape((*result.shape, *value.shape))
        for start, value in zip(starts, inputs, strict=False)
    ]


class _Reading(ABC):
    """A node's function, run once on traced tensors."""

    def __init__(self, node: Node, values: Mapping[str, Tensor]) -> None:
        self.node, self.values = node, values
        self.sets = Sets()
        self.starts: dict[str, int] = {}
        self.traced: dict[str, Tensor] = {}
        self.count = 0
        for parameter, value in values.items():
            self.starts[parameter] = self.count
            self.traced[parameter] = fresh(value.clone(), self.sets.singletons(self.count, value.shape))
            self.count += value.numel()

    def sources(self, ids: Tensor) -> dict[str, np.ndarray]:
        """Returns the parent elements in sets (families,), by parameter: (families, *shape)."""
        return {
            parameter: _bits(self.sets, ids, self.starts[parameter], value.numel()).reshape(-1, *value.shape)
            for parameter, value in self.values.items()
        }

    ids: Tensor

    @abstractmethod
    def law(self) -> Law:
        """Returns the law that was read."""

    @abstractmethod
    def outcome(self, values: Mapping[str, Tensor]) -> Tensor:
        """Returns what the function says at other values, entry by entry of ``ids``."""

    def checked(self, others: Sequence[Mapping[str, Any]]) -> _Reading:
        """Returns the reading itself.

        Raises:
            Untraceable: If a call at other values contradicts it.
        """
        before = self.outcome(self.values)
        reached = _bits(self.sets, self.ids.reshape(-1), 0, self.count)
        compared = not others or not self.count
        for other in others:
            for moved in _mixtures(self.count):
                try:
                    after = self.outcome(self._mixed(other, moved))
                except Exception:  # the function may refuse a mixture of two traces
                    continue
                compared = True
                if after.shape != before.shape:
                    raise Untraceable("a call at other values returns another shape")
                touched = (reached & moved).any(1)
                same = torch.isclose(before, after, rtol=1e-4, atol=1e-5, equal_nan=True).reshape(-1).numpy()
                if not (same | touched).all():
                    raise Untraceable("a call at other values contradicts what its operations say")
        if not compared:
            raise Untraceable("it fails at all mixtures of two traces, so that its reading cannot be checked")
        return self

    def _mixed(self, other: Mapping[str, Any], moved: np.ndarray) -> dict[str, Tensor]:
        """Returns the parents' values with those of another trace in the place of some elements."""
        mixed = {}
        for parameter, value in self.values.items():
            start = self.starts[parameter]
            which = torch.from_numpy(moved[start : start + value.numel()]).reshape(value.shape)
            mixed[parameter] = torch.where(which, other[parameter], value)
        return mixed


class _Tensor(_Reading):
    """A deterministic node: its result is read itself."""

    def __init__(self, node: Node, values: Mapping[str, Tensor]) -> None:
        super().__init__(node, values)
        result = _run(self.sets, lambda: node.signature.call(node.function, self.traced))
        if tuple(result.shape) != node.shape:
            raise Untraceable(f"it returns shape {tuple(result.shape)}")
        self.ids = result.ids

    def outcome(self, values: Mapping[str, Tensor]) -> Tensor:
        return torch.as_tensor(self.node.signature.call(self.node.function, values))

    def law(self) -> Law:
        event, size = tuple(self.ids.shape), self.ids.numel()
        return _law(
            self.node,
            np.eye(size, dtype=bool).reshape(size, *event),
            np.zeros((size, *event), dtype=bool),
            self.sources(self.ids.reshape(-1)),
        )


class _Distribution(_Reading):
    """A distribution node: the log density of a draw is read."""

    def __init__(self, node: Node, values: Mapping[str, Tensor]) -> None:
        super().__init__(node, values)
        with isolated(), unvalidated(), torch.no_grad():
            self.draw = call(node, values).sample()
        draw = fresh(self.draw.clone(), self.sets.singletons(self.count, self.draw.shape))

        def density_of_draw() -> tuple[Distribution, Tensor]:
            distribution = _peeled(call(node, self.traced))
            return distribution, distribution.log_prob(draw)

        with unvalidated():
            self.distribution, density = _followed(self.sets, density_of_draw)
        self.batch, self.event = tuple(self.distribution.batch_shape), tuple(self.distribution.event_shape)
        if not isinstance(density, Traced) or tuple(density.shape) != self.batch:
            raise Untraceable("its log density has an unexpected shape")
        self.ids = density.ids

    def outcome(self, values: Mapping[str, Tensor]) -> Tensor:
        with unvalidated(), torch.no_grad():
            return _peeled(call(self.node, values)).log_prob(self.draw)

    def law(self) -> Law:
        slices, size = self.ids.numel(), int(np.prod(self.event, dtype=int))
        members = np.repeat(np.eye(slices, dtype=bool), size, axis=1)
        flat = self.ids.reshape(-1)
        used = _bits(self.sets, flat, self.count, slices * size)
        groups = _meeting(used.astype(np.float32) @ members.T.astype(np.float32) > 0)
        sources = self.sources(flat)
        chain = self._chain() if len(groups) == slices else None
        shape = self.batch + self.event
        if chain is not None:
            members, own, ids = chain
            return _law(self.node, members.reshape(-1, *shape), own.reshape(-1, *shape), self.sources(ids))
        return _law(
            self.node,
            np.stack([members[group].any(0) for group in groups]).reshape(-1, *shape),
            np.zeros((len(groups), *shape), dtype=bool),
            {parameter: np.stack([found[group].any(0) for group in groups]) for parameter, found in sources.items()},
        )

    def _chain(self) -> tuple[np.ndarray, np.ndarray, Tensor] | None:
        """Takes Gaussian events apart element by element, where their elements have different parents.

        Returns:
            Members and earlier elements (families, elements), and the sets of the families; None where all elements
            have the same.
        """
        if type(self.distribution) is not MultivariateNormal:  # of a subclass nothing is known
            return None
        size = self.event[0]
        mean = _expanded(self.distribution.loc, (*self.batch, size))
        factor = _expanded(self.distribution._unbroadcasted_scale_tril, (*self.batch, size, size))
        lower = torch.where(torch.ones(size, size, dtype=torch.bool).tril(), factor, 0)
        row = self.sets.united(torch.cat([mean[..., None], lower], -1))
        reach = [row[..., 0]]
        for place in range(1, size):
            reach.append(self.sets.union(reach[-1], row[..., place]))
        ids = torch.stack(reach, -1).reshape(-1, size)
        parents = torch.from_numpy(_bits(self.sets, ids.reshape(-1), 0, self.count).reshape(len(ids), size, self.count))
        if bool((parents == parents[:, :1]).all()):
            return None
        total = len(ids) * size
        number = np.arange(total)
        same = number[:, None] // size == number // size
        return np.eye(total, dtype=bool), same & (number < number[:, None]), ids.reshape(-1)


def _mixtures(count: int) -> Iterator[np.ndarray]:
    """Yields sets of elements; of any two elements some set holds the first alone."""
    numbers = np.arange(count)
    for digit in range(max(1, (count - 1).bit_length())):
        yield (numbers >> digit) % 2 == 0
        yield (numbers >> digit) % 2 == 1


def _peeled(distribution: Distribution) -> Distribution:
    # Independent only relabels axes; the elements along them stay independent.
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution


def _expanded(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    return ids_of(value).expand(shape)


def _run(sets: Sets, function: Callable[[], Any]) -> Traced:
    result = _followed(sets, function)
    if not isinstance(result, Tensor):
        raise Untraceable(f"it returns {a_kind(result)}, not a tensor")
    return result if isinstance(result, Traced) else Traced(result, ids_of(result))


def _followed(sets: Sets, function: Callable[[], Any]) -> Any:
    """Calls a function while all tensor operations are followed."""
    Untraceable.latest = None
    try:
        with torch.no_grad(), Tracing(sets):
            result = function()
    except Untraceable:
        raise
    except NotImplementedError:
        raise Untraceable("its distribution states no log density") from None
    except Exception as error:
        raise Untraceable(f"its code fails when it is traced ({type(error).__name__})") from error
    if Untraceable.latest is not None:  # the function caught it
        raise Untraceable.latest
    return result


def _bits(sets: Sets, ids: Tensor, start: int, count: int) -> np.ndarray:
    """Returns sets as boolean rows (entries, count), for the elements from ``start`` on."""
    numbers, where = np.unique(ids.reshape(-1).numpy(), return_inverse=True)
    width = -(-count // 8)
    mask = (1 << count) - 1
    packed = b"".join(((sets.bits[number] >> start) & mask).to_bytes(width, "little") for number in numbers.tolist())
    bits = np.frombuffer(packed, dtype=np.uint8).reshape(len(numbers), width)
    return np.unpackbits(bits, axis=1, count=count, bitorder="little").astype(bool)[where.reshape(-1)]


def _meeting(used: np.ndarray) -> list[list[int]]:
    """Groups batch elements whose log density involves one another's values: (batch, batch) to lists."""
    graph: nx.Graph = nx.from_numpy_array(used | used.T)
    return [sorted(group) for group in nx.connected_components(graph)]


def _law(node: Node, members: np.ndarray, own: np.ndarray, sources: Mapping[str, np.ndarray]) -> Law:
    return Law(members, own, sources, dict.fromkeys([*sources, node.name], "traced"), {})
