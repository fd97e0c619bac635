"""Figures that belong to nobody: no global state of matplotlib is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simgraph.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["new_figure"]


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure of a size in inches.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plot", "drawing") from None
    return Figure(figsize=(width, height), layout="constrained")
