"""Pictures of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simgraph import files
from simgraph.plots.canvas import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_draws", "plot_scores", "save"]

_DPI = 80

_POINTS = 1_000
_EDGE = 0.002
"""Share of the draws that lies beyond each edge of a panel at most."""


def plot_draws(draws: np.ndarray, reference: np.ndarray, title: str) -> Figure:
    """Draws neighbouring pairs of what was asked for: the model's draws above, the reference below.

    Args:
        draws: (count, dimensions), of two dimensions or more.
        reference: (count, dimensions).
        title: Title of the figure.
    """
    dimensions = draws.shape[1]
    # The last of an odd number is shown with the one before it.
    pairs = [(min(first, dimensions - 2), min(first + 1, dimensions - 1)) for first in range(0, dimensions, 2)]
    figure = new_figure(max(2.4 * len(pairs), 4.8), 5.0)
    axes = figure.subplots(2, len(pairs), sharex="col", sharey="col", squeeze=False)
    for column, pair in enumerate(pairs):
        for row, (points, colour) in enumerate(((draws, "tab:blue"), (reference, "tab:gray"))):
            panel = axes[row, column]
            panel.scatter(*points[:_POINTS, pair].T, s=3, alpha=0.4, color=colour, linewidths=0)
            panel.set_ylabel(f"number {pair[1] + 1}")
        low, high = _limits(np.concatenate([draws[:, pair], reference[:, pair]]))
        axes[0, column].set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        axes[1, column].set_xlabel(f"number {pair[0] + 1}")
    figure.suptitle(f"{title}\nabove: simgraph, below: reference", fontsize=10)
    return figure


def plot_scores(panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], label: str) -> Figure:
    """Draws C2ST against something else on a logarithmic axis, a panel for each task.

    Args:
        panels: Points (horizontal, C2ST) by the name of their line, by task; lines join the means of points with the
            same horizontal value.
        label: What the horizontal axis shows.
    """
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(max(2.3 * columns, 4.0), 2.0 * rows + 0.6)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    names = sorted({name for lines in panels.values() for name in lines})
    shown = {}
    for panel, (task, lines) in zip(axes.flat, sorted(panels.items()), strict=False):
        for name, points in lines.items():
            number = names.index(name)
            places, scores = np.array(points).T
            levels = np.unique(places)
            means = [scores[places == level].mean() for level in levels]
            style = {"color": f"C{number % 10}", "marker": "os^Dv"[number // 10 % 5], "markersize": 3}
            (shown[name],) = panel.plot(levels, means, linewidth=1, **style)
            panel.plot(places, scores, linestyle="none", **style)
        panel.axhline(0.5, color="black", linewidth=0.5)
        panel.set_title(task, fontsize=8)
        panel.tick_params(labelsize=7)
    axes[0, 0].set(xscale="log", ylim=(0.45, 1.01))
    for unused in axes.flat[len(panels) :]:
        unused.set_visible(False)
    for last in axes.flat[max(0, len(panels) - columns) : len(panels)]:
        last.tick_params(labelbottom=True)
    figure.supxlabel(label, fontsize=8)
    figure.supylabel("C2ST, mean of the questions", fontsize=8)
    order = sorted(shown)
    figure.legend([shown[name] for name in order], order, loc="outside upper center", ncols=2, fontsize=7)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a figure, atomically."""
    files.write_with(path, lambda temporary: figure.savefig(temporary, dpi=_DPI))


def _limits(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns bounds (2,) that hold nearly all points, and are apart."""
    low, high = np.quantile(points, [_EDGE, 1 - _EDGE], axis=0)
    margin = np.maximum(0.05 * (high - low), 1e-6)
    return low - margin, high + margin
