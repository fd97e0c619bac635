"""A function known by its values at points."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from simgraph.errors import ShapeError

__all__ = ["Curve"]


class Curve:
    """A function of an index, known by its values at some points.

    A node receives a function-valued parent as a curve and calls it: between points it is linear, beyond the outermost
    ones constant. A question is given one as evidence: ``given(infected=sg.Curve(days, counts))``.

    Args:
        points: Where it is known, (points,), or (points, coordinates) for an index of several coordinates.
        values: Its values there, (points, *event_shape).

    Attributes:
        points, values: Copies of what was given; points are floats.

    Raises:
        ShapeError: If there is not one value for each point, or what is given makes no array.

    Example:
        >>> curve = Curve([0.0, 1.0, 2.0], [0.0, 10.0, 0.0])
        >>> curve(0.5), curve([0.5, 1.5])
        (5.0, array([5., 5.]))
    """

    def __init__(self, points: Any, values: Any) -> None:
        try:
            self.points, self.values = np.array(points, dtype=np.float64), np.array(values)  # of its own
        except (TypeError, ValueError):  # texts, or rows of different lengths
            raise ShapeError(
                "the points or the values of a curve make no array.\n"
                "  Give one number for each point: Curve([0.0, 1.0], [2.5, 3.5])."
            ) from None
        if self.points.ndim not in (1, 2) or self.values.shape[:1] != self.points.shape[:1] or not len(self.points):
            raise ShapeError(
                f"a curve has points of shape {self.points.shape} and values of shape {self.values.shape}.\n"
                "  Give one value for each point: Curve(times, values), with at least one. A point without a value is"
                " left out."
            )
        rising = self.points.ndim > 1 or bool((np.diff(self.points) >= 0).all())
        order = slice(None) if rising else np.argsort(self.points, kind="stable")
        self._points, self._values = self.points[order], self.values[order]

    def __call__(self, at: Any) -> Any:
        """Returns values at points (...): (..., *event_shape), or a number for one point of a curve of numbers."""
        if self.points.ndim > 1:
            raise ShapeError("a curve over several coordinates is not interpolated; read its points and values.")
        if isinstance(at, torch.Tensor):  # a distribution node calls it with tensors
            return torch.as_tensor(self(at.detach().numpy()), dtype=at.dtype)
        if self._values.ndim == 1:
            found = np.interp(at, self._points, self._values)
            return float(found) if np.ndim(found) == 0 else found
        here = np.asarray(at, dtype=np.float64)
        columns = self._values.reshape(len(self), -1).T
        found = np.stack([np.interp(here, self._points, column) for column in columns], -1)
        return found.reshape(*here.shape, *self.values.shape[1:])

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        return f"<Curve of {len(self)} points>"
