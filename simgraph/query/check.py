r"""The network's answer held against the corrected one.

For each element, the largest distance between the distribution functions of n plain and m corrected draws is told, or
between the probabilities of a category. If both follow one law, it stays below

.. math:: \sqrt{\tfrac12 \ln(2 k / \alpha)} \, \sqrt{1 / n + 1 / m}

for all of k elements and categories with a probability of :math:`1 - \alpha`, about; n and m are the numbers of
independent draws that both are worth.

References:
    Smirnov, "Table for estimating the goodness of fit of empirical distributions" (1948): the distance of two sets of
    draws; here the first term of its series.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simgraph.errors import QueryError, listed
from simgraph.query.elements import rows
from simgraph.query.samples import Samples
from simgraph.query.summary import Summary

__all__ = ["Check"]

_CHANCE = 0.01
"""Probability that some element differs by chance."""

_LEGEND = "shift: plain less corrected mean, in corrected sd; width: plain over corrected sd; distance: 0 to 1"

_TELLING = 0.3
"""Limit of the distance above which the draws are too few to tell anything."""


class Check:
    """Draws of the network beside draws that are corrected by the graph's own density.

    It is true where no element differs by more than chance, and the draws are worth enough to tell. Elements are looked
    at one by one: how they depend on one another is not compared.

    Args:
        plain: The network's draws.
        exact: Corrected draws of the same variables given the same evidence.
        categories: Names of variables whose numbers stand for categories.

    Attributes:
        plain, exact: As given.
        limit: Distance that chance seldom exceeds in any element.
        differing: Elements whose distance exceeds it, such as ``theta[0]``.

    Raises:
        QueryError: If the two have different variables or shapes, or no elements.

    Example:
        >>> import torch
        >>> even = torch.arange(500.0)
        >>> Check(Samples({"a": even, "b": even}), Samples({"a": even, "b": even + 200})).differing
        ('b',)
    """

    def __init__(self, plain: Samples, exact: Samples, categories: Collection[str] = ()) -> None:
        self.plain, self.exact = plain, exact
        pairs = list(_pairs(plain, exact, categories))
        columns = ("shift", "width", "distance")
        self._summary = Summary({name: {pair.label: getattr(pair, name) for pair in pairs} for name in columns})
        count = sum(pair.comparisons for pair in pairs)
        spread = (1 / plain.ess + 1 / exact.ess) ** 0.5
        self.limit = math.sqrt(math.log(2 * max(1, count) / _CHANCE) / 2) * spread
        # A distance that is no number, of draws that are none, differs as well.
        distances = self._summary["distance"].items()
        self.differing = tuple(label for label, distance in distances if not distance <= self.limit)

    def summary(self) -> Summary:
        """Returns the table that is printed, by column and element.

        ``shift`` is the mean of the plain draws less that of the corrected ones, in standard deviations of these;
        ``width`` the ratio of standard deviations; ``distance`` that of the distribution functions, or the largest one
        of the probabilities of a category. The first two are NaN of categories, and of what never varies. Each piece of
        evidence has rows of its own.

        Example:
            >>> import torch
            >>> even = torch.arange(500.0)
            >>> Check(Samples({"a": even}), Samples({"a": even + 250})).summary()["distance"]["a"]
            0.5
        """
        return self._summary

    def __bool__(self) -> bool:
        return self.limit <= _TELLING and not self.differing

    def __repr__(self) -> str:
        worth = f"worth {self.exact.ess:.0f}" + (" or more, for each piece of evidence" if self.exact.batched else "")
        notes = [f"plain draws: {note}" for note in self.plain.notes] + list(self.exact.notes)
        head = f"{self.plain.num_samples} plain draws held against corrected ones {worth}"
        return "\n".join([head, _LEGEND, repr(self.summary()), self._verdict(), *notes])

    def _verdict(self) -> str:
        if self.differing:
            return (
                f"More than chance ({self.limit:.2g}): the distance of {listed(self.differing)}.\n"
                "  The corrected draws are in check.exact; more traces or a longer training bring the network closer."
            )
        if self.limit > _TELLING:
            return f"The draws are worth too few to tell: by chance, distances go up to {self.limit:.2g}."
        return f"No element differs by more than chance ({self.limit:.2g})."


@dataclass(frozen=True)
class _Pair:
    """Draws of one element, float64 (n,) and (m,)."""

    label: str
    plain: np.ndarray
    exact: np.ndarray
    category: bool

    @property
    def comparisons(self) -> int:
        """How many distances are looked at; none of what is the same number throughout."""
        return len(self._values) if self.category else int(len(self._values) > 1)

    @property
    def shift(self) -> float:
        return float(self.plain.mean() - self.exact.mean()) / self._sd

    @property
    def width(self) -> float:
        return float(self.plain.std()) / self._sd

    @property
    def distance(self) -> float:
        """The largest distance between the distribution functions, or between the probabilities of a category."""
        if np.isnan(self.plain).any() or np.isnan(self.exact).any():
            return math.nan
        both = (self.plain, self.exact)
        if self.category:
            shares = [(draws == self._values[:, None]).mean(1) for draws in both]
        else:
            shares = [np.searchsorted(np.sort(draws), self._values, "right") / len(draws) for draws in both]
        return float(np.abs(shares[0] - shares[1]).max())

    @property
    def _sd(self) -> float:
        """Standard deviation of the corrected draws; NaN where it means nothing."""
        return math.nan if self.category or not np.ptp(self.exact) else float(self.exact.std())

    @cached_property
    def _values(self) -> np.ndarray:
        return np.unique(np.concatenate([self.plain, self.exact]))


def _pairs(plain: Samples, exact: Samples, categories: Collection[str]) -> Iterator[_Pair]:
    found, right = (rows(samples, batched=samples.batched) for samples in (plain, exact))
    if not found or found.keys() != right.keys():
        raise QueryError(
            f"the two sets of draws have the elements {listed(found)} and {listed(right)}.\n"
            "  A check compares draws of the same variables given the same evidence."
        )
    classes = {label for name in categories for label in rows({name: exact[name]}, batched=exact.batched)}
    for label in found:
        own, other = (np.asarray(part[label], np.float64) for part in (found, right))
        yield _Pair(label, own, other, label in classes)
