"""Draws beside reference draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from simgraph.plots.canvas import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_against_reference"]


def plot_against_reference(
    draws: Sequence[np.ndarray], references: Sequence[np.ndarray], titles: Sequence[str]
) -> Figure:
    """Draws two-dimensional posteriors: the model's above, the reference below.

    Args:
        draws: Arrays (count, 2), one per observation.
        references: Arrays (count, 2), one per observation.
        titles: One per observation.
    """
    columns = len(draws)
    figure = new_figure(2.6 * columns, 5.4)
    axes = figure.subplots(2, columns, sharex=True, sharey=True, squeeze=False)
    for column, pair in enumerate(zip(draws, references, strict=True)):
        for row, (points, colour) in enumerate(zip(pair, ("tab:blue", "tab:gray"), strict=True)):
            panel = axes[row, column]
            panel.scatter(*points[:4000].T, s=2, alpha=0.25, color=colour, linewidths=0)
            panel.set_aspect("equal")
            panel.set_xlim(-1.1, 1.1)
            panel.set_ylim(-1.1, 1.1)
        axes[0, column].set_title(titles[column], fontsize=10)
        axes[1, column].set_xlabel("theta[0]")
    axes[0, 0].set_ylabel("simgraph\ntheta[1]")
    axes[1, 0].set_ylabel("reference\ntheta[1]")
    return figure
