"""Settles what a question leaves open before it is answered: sizes of plates, and points of functions."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np

from simgraph.errors import OutOfRangeWarning, QueryError
from simgraph.query.answering import Answering
from simgraph.query.evidence import check
from simgraph.query.functions import asked_points, padded, positions, together
from simgraph.query.intervals import Interval
from simgraph.query.restrictions import Bounds
from simgraph.query.sizes import cut
from simgraph.query.sizes import settled as settled_sizes

__all__ = ["Settling"]


class Settling(Answering):
    """A question to a model whose plates may vary in size, and whose functions may be looked at anywhere."""

    def sized(self, sizes: Mapping[str, int]) -> Self:
        """Returns the query in which some plates whose size varies have one size; sizes by name of the plate."""
        if not sizes:
            return self
        layout = self.trained.compiled.layout
        restrictions = [
            Bounds(demand.name, Interval(*(cut(layout, demand.name, end, sizes) for end in demand.interval.ends)))
            if isinstance(demand, Bounds)
            else demand
            for demand in self.restrictions
        ]
        return self.changed(trained=self.trained.sized(sizes), restrictions=restrictions)

    def settled(self, at: Mapping[Any, Any] | None, names: Iterable[str]) -> Self:
        """Returns the query with all plates of one size, and functions looked at where they are asked for.

        Args:
            at: Sizes by name of plates, and points by name of indices, as the user hands them over.
            names: What is asked for.

        Raises:
            QueryError: If a size or points are missing, not possible, or a function is given at all of them.
        """
        names, restricted = list(names), (name for demand in self.restrictions for name in demand.names)
        compiled = self.trained.compiled
        if not compiled.layout.indices:
            return self.sized(settled_sizes(compiled, at, [*names, *self.evidence, *restricted]))
        points, rest = asked_points(compiled.layout, at, names)
        query = self.sized(settled_sizes(compiled, rest, [*names, *self.evidence, *restricted]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutOfRangeWarning)  # it was given with the evidence
            return query.looked_at(points, names)

    def looked_at(self, asked: Mapping[str, np.ndarray], names: Iterable[str], *, strict: bool = False) -> Self:
        """Returns the query in which functions are looked at where they are given and asked for.

        Args:
            asked: Points (points, coordinates) by name of their index.
            names: What is asked for.
            strict: Whether evidence far outside of the training range is an error.

        Raises:
            QueryError: If a function is given at all the points where it is asked for.
            EvidenceError: If evidence is not valid, or with ``strict`` far outside of the training range.
        """
        layout = self.trained.compiled.layout
        points = together(layout, self.curves, asked)
        trained = self.trained.sized({name: len(own) for name, own in points.items()}, points)
        given: dict[str, Any] = {}
        looked: dict[str, np.ndarray] = {}
        for name in layout.names:
            index = layout.index_of(name)
            if index is not None and name in self.curves:
                given[name] = padded(layout, name, self.curves[name], points[index.name])
            if index is not None and name in names:
                looked[name] = positions(points[index.name], asked[index.name])
                if name in given and given[name].observed[looked[name]].all():
                    raise QueryError(f"{name!r} is given at all the points where it is asked for.\n  Ask elsewhere.")
        evidence = self.evidence | check(trained.compiled, trained.ranges, given, strict=strict)
        return self.changed(trained=trained, evidence=evidence, looked=looked, points=asked)
