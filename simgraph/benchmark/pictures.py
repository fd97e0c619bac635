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


def plot_scores(lines: Mapping[str, Sequence[tuple[float, float]]], label: str, *, joined: bool) -> Figure:
    """Draws C2ST against something else on a logarithmic axis.

    Args:
        lines: Points (horizontal, C2ST) by name.
        label: What the horizontal axis shows.
        joined: Whether to join the means of points with the same horizontal value.
    """
    figure = new_figure(8.0, 4.5)
    axes = figure.subplots()
    for number, (name, points) in enumerate(sorted(lines.items())):
        colour, marker = f"C{number % 10}", "os^Dv"[number // 10 % 5]
        places, scores = np.array(points).T
        axes.plot(places, scores, marker, color=colour, markersize=4, label=name)
        if joined:
            levels = np.unique(places)
            axes.plot(levels, [scores[places == level].mean() for level in levels], color=colour, linewidth=1)
    axes.axhline(0.5, color="black", linewidth=0.5)
    axes.set(xscale="log", xlabel=label, ylabel="C2ST, mean of the questions")
    axes.set_ylim(0.45, 1.01)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a figure, atomically."""
    files.write_with(path, lambda temporary: figure.savefig(temporary, dpi=_DPI))


def _limits(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns bounds (2,) that hold nearly all points, and are apart."""
    low, high = np.quantile(points, [_EDGE, 1 - _EDGE], axis=0)
    margin = np.maximum(0.05 * (high - low), 1e-6)
    return low - margin, high + margin
