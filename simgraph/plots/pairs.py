"""Histograms of elements, and scatters of their pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from simgraph.compile.names import name_of
from simgraph.dsl import Node
from simgraph.errors import QueryError, ShapeError, UnknownNameError, did_you_mean
from simgraph.plots.canvas import new_figure
from simgraph.query import Samples
from simgraph.query.elements import elements
from simgraph.query.numbers import numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_pairs"]

_MOST = 8
"""Columns of a figure."""

_POINTS = 2_000
"""Points of a scatter."""

_BINS = 40
"""Bins of a histogram."""


def plot_pairs(
    samples: Samples,
    names: Sequence[str | Node] = (),
    truth: Mapping[str | Node, Any] | None = None,
    batch: int | None = None,
) -> Figure:
    """Draws histograms of elements on the diagonal and scatters of their pairs below it.

    Args:
        samples: The draws.
        names: Variables or single elements (``"theta[0]"``) to draw, in this order; all by default. Of more than
            eight elements the first eight are drawn, and the title says so.
        truth: Values by variable, of its shape, to draw as lines; no line where they are NaN.
        batch: Number of the piece of evidence to draw, where there are several.

    Returns:
        A figure that belongs to the caller alone: ``figure.savefig(...)``.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        UnknownNameError: If a name was not sampled.
        QueryError: If there are several pieces of evidence and none is chosen, or one that does not exist.
        ShapeError: If a true value has another shape than its variable.

    Example:
        >>> import torch
        >>> figure = plot_pairs(Samples({"theta": torch.randn(100, 2)}), truth={"theta": [0.0, 0.0]})
        >>> len(figure.axes)
        3
    """
    found = _columns(samples, batch)
    labels = _labels(samples, found, names)
    lines = _lines(samples, truth or {})
    shown = labels[:_MOST]
    side = max(3.2, 1.9 * len(shown))
    figure = new_figure(side, side)
    grid = figure.add_gridspec(len(shown), len(shown))
    limits = {label: _limits(found[label], lines.get(label)) for label in shown}
    points = np.linspace(0, len(found[shown[0]]) - 1, min(_POINTS, len(found[shown[0]]))).astype(int)
    for row, vertical in enumerate(shown):
        for column, horizontal in enumerate(shown[: row + 1]):
            axes = figure.add_subplot(grid[row, column])
            axes.set_xlim(*limits[horizontal])
            if row == column:
                axes.hist(found[horizontal], _bins(found[horizontal]), color="tab:blue", histtype="stepfilled")
                axes.set_yticks([])
            else:
                axes.scatter(
                    found[horizontal][points], found[vertical][points], s=3, alpha=0.3, color="tab:blue", linewidths=0
                )
                axes.set_ylim(*limits[vertical])
                if vertical in lines:
                    axes.axhline(lines[vertical], color="black", linewidth=1)
            if horizontal in lines:
                axes.axvline(lines[horizontal], color="black", linewidth=1)
            axes.tick_params(labelsize=7, labelbottom=row == len(shown) - 1, labelleft=column == 0 and row > 0)
            if row == len(shown) - 1:
                axes.set_xlabel(horizontal)
            if column == 0 and row > 0:
                axes.set_ylabel(vertical)
    if len(labels) > len(shown):
        figure.suptitle(f"the first {len(shown)} of {len(labels)} elements", fontsize=10)
    return figure


def _columns(samples: Samples, batch: int | None) -> dict[str, np.ndarray]:
    """Returns the draws (num_samples,) of each element for one piece of evidence."""
    found = elements(samples, batched=samples.batched, axes=samples.axes)
    pieces = len(next(iter(samples.values()))) if samples.batched else 1
    if batch is None and pieces > 1:
        raise QueryError(
            f"the samples answer {pieces} pieces of evidence; a figure shows one.\n  Choose it: samples.plot(batch=0)"
        )
    if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or not 0 <= batch < pieces):
        raise QueryError(f"batch={batch!r} is no piece of evidence; they are numbered from 0 to {pieces - 1}.")
    return {label: column[batch or 0] for label, column in found.items()} if samples.batched else found


def _labels(samples: Samples, found: Mapping[str, np.ndarray], names: Sequence[str | Node]) -> list[str]:
    """Returns the labels of the elements to draw."""
    labels: list[str] = []
    for name in map(name_of, names):
        if name not in samples and name not in found:
            raise UnknownNameError(f"{name!r} was not sampled.\n  {did_you_mean(name, [*samples, *found], 'Sampled')}")
        labels += [name] if name in found else [label for label in found if label.startswith(f"{name}[")]
    return list(dict.fromkeys(labels)) or list(found)


def _lines(samples: Samples, truth: Mapping[str | Node, Any]) -> dict[str, float]:
    """Returns the true value of each element, where there is one."""
    lead = 2 if samples.batched else 1
    lines: dict[str, float] = {}
    for key, value in truth.items():
        name, array = name_of(key), numbers(f"plot(truth={key!r})", value)
        shape = tuple(samples[name].shape[lead:])
        if array.shape != shape:
            raise ShapeError(f"plot(truth=...) has the shape {array.shape} for {name!r}, which has the shape {shape}.")
        single = elements({name: torch.from_numpy(array).unsqueeze(0)}, batched=False, axes=samples.axes)
        lines |= {label: float(column[0]) for label, column in single.items() if not np.isnan(column[0])}
    return lines


def _limits(column: np.ndarray, line: float | None) -> tuple[float, float]:
    ends = [float(column.min()), float(column.max()), *([] if line is None else [line])]
    # A column that is constant still needs an axis of some width.
    margin = 0.05 * (max(ends) - min(ends)) or 0.5
    return min(ends) - margin, max(ends) + margin


def _bins(column: np.ndarray) -> Any:
    """Returns one bin per whole number for a few of them, and a number of bins otherwise."""
    low, high = column.min(), column.max()
    if column.dtype.kind in "iu" and high - low < _BINS:
        return np.arange(low, high + 2) - 0.5
    return _BINS
