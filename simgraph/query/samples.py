"""Named draws."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from simgraph.compile.names import name_of
from simgraph.dsl import Node
from simgraph.errors import QueryError, ShapeError, UnknownNameError, did_you_mean, listed
from simgraph.query import export
from simgraph.query.axes import check_axes, check_sizes, chosen
from simgraph.query.elements import Axes, columns
from simgraph.query.summary import Summary, interval, quantile, summarise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Samples"]


class Samples(Mapping[str, Tensor]):
    """Draws by name: a mapping from names to tensors ([batch,] num_samples, *event_shape).

    Draws that stand in the same place belong together: ``samples[100:]`` keeps these draws of every variable.

    Args:
        values: Tensors by name, all with the same number of draws.
        batched: Whether the first axis runs over pieces of evidence.
        outside: Share of draws outside of the bounds that their own parents set, by name, where there are any.
        ess: Effective number of draws, for each piece of evidence; as many as there are, if they are independent.
        notes: Lines to print below the table, for example which method was used.
        dims: Names of the first axes of a variable's values, by name; its plates, outermost first.
        coords: Points along axes that have a name, by that name: those at which functions are looked at.
        log_evidence: Log density of the evidence, float64 ([batch]), where it is known.

    Attributes:
        batched, outside, notes, log_evidence: As given.
        axes: The names of axes and the points along them.

    Raises:
        QueryError: If there is no variable or no draw, or ``ess`` is no positive number.
        ShapeError: If numbers of draws differ, or names of axes or points do not fit the values.
        UnknownNameError: If there is no variable or axis of a name.

    Example:
        >>> import torch
        >>> samples = Samples({"theta": torch.tensor([[0.0, 4.0], [1.0, 5.0]])})
        >>> samples["theta"].shape, samples.num_samples, samples[1:]["theta"]
        (torch.Size([2, 2]), 2, tensor([[1., 5.]]))
        >>> print(samples)
        Samples with 2 draws
                  mean  sd   5%    50%  95%   ess
        theta[0]  0.5   0.5  0.05  0.5  0.95  2
        theta[1]  4.5   0.5  4.05  4.5  4.95  2
    """

    def __init__(
        self,
        values: Mapping[str, Tensor],
        *,
        batched: bool = False,
        outside: Mapping[str, float] | None = None,
        ess: float | None = None,
        notes: Sequence[str] = (),
        dims: Mapping[str, Sequence[str]] | None = None,
        coords: Mapping[str, np.ndarray] | None = None,
        log_evidence: Tensor | None = None,
    ) -> None:
        self._values = dict(values)
        self.batched = batched
        self.outside = dict(outside or {})
        self.notes = tuple(notes)
        self.axes = Axes(
            {name: tuple(own) for name, own in (dims or {}).items()},
            {axis: np.asarray(points) for axis, points in (coords or {}).items()},
        )
        self._ess = ess
        self.log_evidence = log_evidence
        check_sizes(self._values, 2 if batched else 1)
        check_axes(self._values, self.axes, 2 if batched else 1)
        if ess is not None and not (math.isfinite(ess) and ess > 0):
            raise QueryError(f"ess={ess!r} is no positive number of draws.")

    @property
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the first axes of a variable's values, by name."""
        return self.axes.dims

    @property
    def coords(self) -> Mapping[str, np.ndarray]:
        """Points along axes that have a name, (size,) or (size, coordinates), by that name."""
        return self.axes.coords

    @property
    def num_samples(self) -> int:
        """Number of draws for each piece of evidence."""
        return next(iter(self._values.values())).shape[1 if self.batched else 0]

    @property
    def ess(self) -> float:
        """Effective number of draws for each piece of evidence: so many independent ones would say as much."""
        return float(self.num_samples if self._ess is None else self._ess)

    def __getitem__(self, key: Any) -> Any:
        """Returns a variable's tensor for a name or node, and the selected draws for anything else.

        Draws are selected by a number, a slice, an array of numbers, or a boolean array with one entry per draw; of
        every variable and every piece of evidence the same ones. What is known of the whole set alone is dropped:
        the share outside of bounds. The effective number shrinks with the number of different draws.

        Raises:
            UnknownNameError: If the name was not sampled.
            QueryError: If there are no such draws.
        """
        if isinstance(key, (str, Node)):
            name = name_of(key)
            if name not in self._values:
                raise UnknownNameError(f"{name!r} was not sampled.\n  {did_you_mean(name, self._values, 'Sampled')}")
            return self._values[name]
        rows = chosen(key, self.num_samples)
        different = len(np.unique(rows))
        ess = self._ess_of(different) if different < len(rows) or self._ess is not None else None
        axis, index = (1 if self.batched else 0), torch.from_numpy(rows)
        values = {name: value.index_select(axis, index) for name, value in self._values.items()}
        return Samples(
            values,
            batched=self.batched,
            ess=ess,
            notes=self.notes,
            dims=self.dims,
            coords=self.coords,
            log_evidence=self.log_evidence,
        )

    def following(self, values: Mapping[str, Tensor], dims: Mapping[str, Sequence[str]] | None = None) -> Samples:
        """Returns samples of what follows from these, a draw from each draw: worth as many, with the same notes.

        Args:
            values: Tensors by name, with as many draws.
            dims: Names of the first axes of a variable's values, by name. Axes of these draws keep their points.

        Raises:
            QueryError, ShapeError: As for new samples.

        Example:
            >>> import torch
            >>> draws = Samples({"a": torch.arange(4.0)}, ess=2.0)
            >>> draws.following({"b": draws["a"] ** 2}).ess
            2.0
        """
        named = {axis for own in (dims or {}).values() for axis in own}
        coords = {axis: points for axis, points in self.coords.items() if axis in named}
        return Samples(values, batched=self.batched, ess=self._ess, notes=self.notes, dims=dims, coords=coords)

    def _ess_of(self, different: int) -> float:
        """Returns the effective number of so many draws, taken from all at random, any two of them equally alike."""
        alike = (self.num_samples / self.ess - 1) / max(1, self.num_samples - 1)
        return different / (1 + (different - 1) * alike)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    @staticmethod
    def concatenate(*parts: Samples) -> Samples:
        """Joins draws of one query; effective numbers add up.

        Args:
            *parts: Draws of the same variables given the same evidence.

        Raises:
            QueryError: If variables, names of axes, points or batching differ, or there are no parts.
            ShapeError: If shapes differ.

        Example:
            >>> import torch
            >>> Samples.concatenate(Samples({"a": torch.zeros(2)}), Samples({"a": torch.ones(3)}))["a"]
            tensor([0., 0., 1., 1., 1.])
        """
        _check_parts(parts)
        first, total = parts[0], sum(part.num_samples for part in parts)
        axis = 1 if first.batched else 0
        values = {name: torch.cat([part[name] for part in parts], axis) for name in first}
        shares = {
            name: sum(part.outside.get(name, 0.0) * part.num_samples for part in parts) / total
            for name in first
            if any(name in part.outside for part in parts)
        }
        ess = None if all(part._ess is None for part in parts) else sum(part.ess for part in parts)
        notes = list(dict.fromkeys(note for part in parts for note in part.notes))
        known = [part.log_evidence for part in parts if part.log_evidence is not None]
        # Each is the logarithm of an unbiased estimate of one number, whose mean is a better one.
        evidence = torch.stack(known).logsumexp(0) - math.log(len(known)) if known else None
        return Samples(
            values,
            batched=first.batched,
            outside=shares,
            ess=ess,
            notes=notes,
            dims=first.dims,
            coords=first.coords,
            log_evidence=evidence,
        )

    def summary(self) -> Summary:
        """Returns the table that is printed: a mapping from columns to numbers by element.

        The columns are the mean, the standard deviation, quantiles, and the effective number of draws, which is that
        of the whole set. Each piece of evidence has rows of its own.

        Example:
            >>> import torch
            >>> Samples({"a": torch.arange(5.0)}).summary()["mean"]
            {'a': 2.0}
        """
        return summarise(self._values, self.ess, batched=self.batched, axes=self.axes)

    def quantile(self, q: float | Sequence[float]) -> dict[str, Tensor]:
        """Returns quantiles over the draws, by name.

        Args:
            q: Levels from 0 to 1.

        Returns:
            Float64 tensors ([levels,] [batch,] *event_shape); the axis of levels is there if ``q`` is a sequence.

        Raises:
            QueryError: If a level is no number from 0 to 1.

        Example:
            >>> import torch
            >>> Samples({"a": torch.arange(5.0)}).quantile([0.25, 0.5])["a"]
            tensor([1., 2.], dtype=torch.float64)
        """
        return quantile(self._values, q, batched=self.batched)

    def interval(self, level: float = 0.9, kind: str = "equal") -> dict[str, Tensor]:
        """Returns intervals that hold a share of the draws, element by element.

        Args:
            level: The share, above 0 and up to 1.
            kind: ``"equal"``: as many draws lie below as above. ``"hdi"``: the shortest one (highest density), which
                is one interval even where the density has several peaks.

        Returns:
            Float64 tensors ([batch,] *event_shape, 2): the lower and the upper end.

        Raises:
            QueryError: If the level or the kind is not one of these.

        Example:
            >>> import torch
            >>> Samples({"a": torch.tensor([0.0, 0.1, 0.2, 9.0])}).interval(0.75, kind="hdi")["a"]
            tensor([0.0000, 0.2000], dtype=torch.float64)
        """
        return interval(self._values, level, kind, batched=self.batched)

    def to_numpy(self) -> dict[str, np.ndarray]:
        """Returns NumPy arrays by name."""
        return {name: value.numpy() for name, value in self._values.items()}

    def columns(self) -> dict[str, np.ndarray]:
        """Returns one flat column per element, for example ``theta[0]``; batches are stacked and numbered.

        Values of functions are called by their points: ``infected[day=10]``.
        """
        return columns(self._values, batched=self.batched, axes=self.axes)

    def to_pandas(self) -> Any:
        """Returns a data frame with one column per element; see :func:`simgraph.query.export.to_pandas`."""
        return export.to_pandas(self._values, self.axes, batched=self.batched)

    def to_xarray(self) -> Any:
        """Returns a data set with named axes; see :func:`simgraph.query.export.to_xarray`."""
        return export.to_xarray(self._values, self.axes, self._attributes(), batched=self.batched)

    def to_arviz(self) -> Any:
        """Returns a data tree with the group ``posterior``; see :func:`simgraph.query.export.to_arviz`."""
        return export.to_arviz(self._values, self.axes, self._attributes(), batched=self.batched)

    def plot(
        self, *names: str | Node, truth: Mapping[str | Node, Any] | None = None, batch: int | None = None
    ) -> Figure:
        """Draws histograms of elements and scatters of their pairs; see :func:`simgraph.plots.pairs.plot_pairs`."""
        from simgraph.plots.pairs import plot_pairs

        return plot_pairs(self, names, truth or {}, batch)

    def _attributes(self) -> dict[str, Any]:
        return {"ess": self.ess, "notes": "\n".join(self.notes)}

    def __repr__(self) -> str:
        batch = f" for each of {next(iter(self.values())).shape[0]} pieces of evidence" if self.batched else ""
        bounds = [
            f"{share:.1%} of the draws of {name!r} lie outside of the bounds that their parents set"
            for name, share in self.outside.items()
        ]
        return "\n".join([f"Samples with {self.num_samples} draws{batch}", repr(self.summary()), *bounds, *self.notes])


def _check_parts(parts: Sequence[Samples]) -> None:
    if not parts:
        raise QueryError("concatenate needs at least one part.")
    first = parts[0]
    for part in parts[1:]:
        if set(part) != set(first):
            raise QueryError(f"parts have different variables: {listed(first)} and {listed(part)}.")
        if part.batched != first.batched:
            raise QueryError("of two parts, one has a batch of evidence and the other has one piece.")
        if part.dims != first.dims:
            raise QueryError(f"parts have different names of axes: {first.dims} and {part.dims}.")
        for index in {**first.coords, **part.coords}:
            if not np.array_equal(part.coords.get(index, ()), first.coords.get(index, ())):
                raise QueryError(f"parts look at functions of {index!r} in different points.")
        axis = 1 if first.batched else 0
        for name in first:
            shapes = [(*value.shape[:axis], *value.shape[axis + 1 :]) for value in (first[name], part[name])]
            if shapes[0] != shapes[1]:
                raise ShapeError(f"{name!r} has shapes {shapes[0]} and {shapes[1]} in two parts, without their draws.")
