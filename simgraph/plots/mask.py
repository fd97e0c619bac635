"""A picture of M_E: which token attends to which, in one query."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from simgraph.compile.layout import Layout
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED, STATE_NAMES
from simgraph.plots.canvas import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["paint", "plot_mask"]

_COLOURS = {LATENT: (0.12, 0.47, 0.71), OBSERVED: (0.85, 0.37, 0.01), ABSENT: (0.75, 0.75, 0.75)}
_SHORTCUT = (0.55, 0.80, 0.95)


def plot_mask(layout: Layout, mask: Tensor, shortcuts: Tensor, states: Tensor) -> Figure:
    """Draws an edge mask; a row attends to the coloured columns, and its colour tells its state.

    Args:
        layout: The tokens.
        mask: Boolean (tokens, tokens).
        shortcuts: Which entries are shortcuts, boolean (tokens, tokens).
        states: Condition states (tokens,).
    """
    from matplotlib.patches import Patch

    count = len(layout)
    side = min(14.0, max(3.5, 0.28 * count + 1.5))
    figure = new_figure(side + 1.5, side)
    axes = figure.subplots()
    paint(axes, mask, shortcuts, states)
    labels = [layout.label(slot) for slot in range(count)]
    if count <= 64:
        axes.set_xticks(range(count), labels, rotation=90, fontsize=8)
        axes.set_yticks(range(count), labels, fontsize=8)
        axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
        axes.tick_params(which="minor", length=0)
    axes.set_xlabel("is attended to")
    axes.set_ylabel("attends")
    legend = [
        Patch(color=_COLOURS[state], label=STATE_NAMES[state]) for state in sorted(set(states.tolist()), reverse=True)
    ]
    if shortcuts.any():
        legend.append(Patch(color=_SHORTCUT, label="shortcut"))
    axes.legend(
        handles=legend,
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        frameon=False,
    )
    return figure


def paint(axes: Axes, mask: Tensor, shortcuts: Tensor, states: Tensor) -> None:
    """Paints an edge mask on given axes; the tensors are those of :func:`plot_mask`."""
    picture = np.ones((len(mask), len(mask), 3))
    for row, state in enumerate(states.tolist()):
        picture[row, mask[row].numpy()] = _COLOURS[state]
        picture[row, shortcuts[row].numpy()] = _SHORTCUT
    axes.imshow(picture, interpolation="nearest")
