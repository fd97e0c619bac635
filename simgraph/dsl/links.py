"""Which elements of a parent reach which elements of a child: what ``depends=`` of a node can say.

Every link is an incidence: entry (i, j) tells whether element i of the child is drawn from element j of
the parent. Without a declaration all elements reach all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simgraph.errors import DeclarationError, did_you_mean

__all__ = ["Link", "as_link", "causal", "lagged", "read_depends", "window"]

Shape = tuple[int, ...]


class Link(ABC):
    """An incidence between the elements of two values."""

    @abstractmethod
    def incidence(self, child: Shape, parent: Shape) -> np.ndarray:
        """Returns the incidence of two shapes.

        Args:
            child: Event shape of the child.
            parent: Shape of the value that the child's function receives.

        Returns:
            Boolean array (*child, *parent).

        Raises:
            DeclarationError: If the link makes no sense for these shapes.
        """


@dataclass(frozen=True)
class Full(Link):
    """All elements reach all."""

    def incidence(self, child: Shape, parent: Shape) -> np.ndarray:
        return np.ones(child + parent, dtype=bool)


@dataclass(frozen=True)
class Independent(Link):
    """No element reaches any: what a node says of itself whose elements are independent given its parents."""

    def incidence(self, child: Shape, parent: Shape) -> np.ndarray:
        return np.zeros(child + parent, dtype=bool)


@dataclass(frozen=True)
class Elementwise(Link):
    """Each element reaches its own; a parent of fewer or shorter axes is broadcast, as NumPy does."""

    def incidence(self, child: Shape, parent: Shape) -> np.ndarray:
        try:
            numbers = np.broadcast_to(np.arange(np.prod(parent, dtype=int)).reshape(parent), child)
        except ValueError:
            raise DeclarationError(
                f"an element-wise link of shape {parent} to shape {child}: the parent cannot be broadcast to the child."
            ) from None
        return (numbers[..., None] == np.arange(np.prod(parent, dtype=int))).reshape(child + parent)


@dataclass(frozen=True)
class Along(Link):
    """Links by the distance between two positions along an axis.

    Attributes:
        reaches: Maps distances, position of the child less position of the parent, to booleans.
        text: How the user would write it.
        axis: Axis of the child and of the parent; all elements along the others reach one another.
    """

    reaches: Callable[[np.ndarray], np.ndarray]
    text: str
    axis: int = 0

    def incidence(self, child: Shape, parent: Shape) -> np.ndarray:
        if not (-len(child) <= self.axis < len(child) and -len(parent) <= self.axis < len(parent)):
            raise DeclarationError(f"{self.text} of shape {parent} to shape {child}: there is no axis {self.axis}.")
        here, there = self.axis % len(child), self.axis % len(parent)
        distance = np.subtract.outer(np.arange(child[here]), np.arange(parent[there]))
        expanded = np.ones(len(child) + len(parent), dtype=int)
        expanded[here], expanded[len(child) + there] = child[here], parent[there]
        return np.broadcast_to(self.reaches(distance).reshape(expanded), child + parent)

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True, eq=False)
class Sparse(Link):
    """An incidence written out.

    Attributes:
        entries: Boolean array (*child, *parent), or (child elements, parent elements).
    """

    entries: np.ndarray

    def incidence(self, child: Shape, parent: Shape) -> np.ndarray:
        flat = (int(np.prod(child, dtype=int)), int(np.prod(parent, dtype=int)))
        if self.entries.shape not in (child + parent, flat):
            raise DeclarationError(
                f"a link of shape {self.entries.shape} between a child of shape {child} and a parent of shape {parent}."
                f"\n  Accepted: {' or '.join(map(str, dict.fromkeys((child + parent, flat))))}."
            )
        return self.entries.reshape(child + parent)


@dataclass(frozen=True)
class ByIndex(Link):
    """An incidence given by a function of the child's index and the parent's index."""

    function: Callable[[tuple[int, ...], tuple[int, ...]], Any]

    def incidence(self, child: Shape, parent: Shape) -> np.ndarray:
        entries = np.empty(child + parent, dtype=bool)
        for i in np.ndindex(*child):
            for j in np.ndindex(*parent):
                try:
                    entries[i + j] = bool(self.function(i, j))
                except Exception as error:
                    raise DeclarationError(
                        f"a link by a function fails at the indices {i} and {j}: {error}.\n"
                        "  Its arguments are tuples; for vectors: lambda i, j: i[0] == j[0]"
                    ) from error
        return entries


def lagged(*lags: int, axis: int = 0) -> Link:
    """Links each position along an axis to those that lie ``lags`` before it.

    Args:
        *lags: Distances, for example ``lagged(1)`` for a chain, ``lagged(0, 1)`` for the own and the previous one.
        axis: The axis that counts; elements along others all reach one another.

    Example:
        >>> lagged(1).incidence((3,), (3,)).astype(int)
        array([[0, 0, 0],
               [1, 0, 0],
               [0, 1, 0]])
    """
    if not lags or not all(isinstance(lag, int) and not isinstance(lag, bool) for lag in lags):
        given = ", ".join(map(repr, lags))
        raise DeclarationError(f"lagged({given}): it takes one lag or more, whole numbers.\n  For example: lagged(1)")
    return Along(lambda distance: np.isin(distance, lags), f"lagged({', '.join(map(str, lags))}{_named(axis)})", axis)


def window(low: int, high: int, axis: int = 0) -> Link:
    """Links each position along an axis to those from ``low`` to ``high`` after it, both included.

    Args:
        low: First offset, negative for positions before the child's own.
        high: Last offset.
        axis: The axis that counts; elements along others all reach one another.
    """
    if not (isinstance(low, int) and isinstance(high, int) and low <= high):
        raise DeclarationError(f"window({low!r}, {high!r}): two whole numbers, the lower first.")
    return Along(
        lambda distance: (-distance >= low) & (-distance <= high), f"window({low}, {high}{_named(axis)})", axis
    )


def causal(axis: int = 0) -> Link:
    """Links each position along an axis to its own and all before it."""
    return Along(lambda distance: distance >= 0, f"causal({_named(axis).lstrip(', ')})", axis)


def _named(axis: int) -> str:
    return f", axis={axis}" if axis else ""


_WORDS: dict[str, Link] = {
    "full": Full(),
    "elementwise": Elementwise(),
    "independent": Independent(),
    "causal": causal(),
}


def as_link(value: Any) -> Link:
    """Returns what a user wrote in ``depends=`` as a link: a word, a link, an array or a function of two indices."""
    if isinstance(value, Link):
        return value
    if isinstance(value, str):
        if value not in _WORDS:
            raise DeclarationError(f"the link {value!r} is not known.\n  {did_you_mean(value, _WORDS, 'Links')}")
        return _WORDS[value]
    if callable(value):
        return ByIndex(value)
    entries = np.asarray(value)
    if entries.dtype.kind not in "biuf" or not np.isin(entries, (0, 1)).all():
        raise DeclarationError(
            f"{value!r} is no link.\n  Links are 'full', 'elementwise', 'independent', 'causal', lagged(1),"
            " window(-1, 1), a boolean array of shape (*child, *parent), or a function of two indices."
        )
    return Sparse(entries.astype(bool))


def read_depends(
    label: str, parameters: Sequence[str], depends: Any, declared_at: str
) -> tuple[dict[str, Link], Link | None]:
    """Reads the ``depends=`` of a node.

    Args:
        label: The node's name.
        parameters: Its parameters that are parents.
        depends: What the user wrote.
        declared_at: Where, as ``file:line``.

    Returns:
        Links by parameter, and the link of the node's elements to one another.

    Raises:
        DeclarationError: If it is no mapping, names something else, or holds something that is no link.
    """
    links: dict[str, Link] = {}
    within: Link | None = None
    if not isinstance(depends, Mapping):
        raise DeclarationError(
            f"depends= of node {label!r} is {depends!r}; it maps parameters to links.\n"
            f"  declared at {declared_at}\n  For example: depends={{{[*parameters, label][0]!r}: 'elementwise'}}"
        )
    for key, value in depends.items():
        if key not in parameters and key != label:
            raise DeclarationError(
                f"depends= of node {label!r} names {key!r}, which is none of its parameters.\n"
                f"  declared at {declared_at}\n  {did_you_mean(str(key), [*parameters, label])}"
            )
        try:
            link = as_link(value)
        except DeclarationError as error:
            raise DeclarationError(f"depends= of node {label!r}: {error}\n  declared at {declared_at}") from None
        if key == label:
            within = link
        else:
            links[key] = link
    return links, within
