r"""Many solutions of one ordinary differential equation, each with steps of its own.

The classical Runge-Kutta method of order four,

.. math:: y_{n+1} = y_n + \tfrac{h}{6} (k_1 + 2 k_2 + 2 k_3 + k_4),

where each solution chooses its step :math:`h` from the rate at which it moves just then. Steps and values of a solution
depend on its own parameters alone, so that traces can be solved in any company.

References:
    Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I (1993), section II.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["solve"]

Field = Callable[[np.ndarray, np.ndarray], np.ndarray]


def solve(
    field: Field,
    rate: Field,
    start: Sequence[float],
    parameters: np.ndarray,
    times: Sequence[float] | np.ndarray,
    *,
    share: float = 0.2,
) -> np.ndarray:
    """Solves y' = field(y, parameters) for many parameters at once.

    Args:
        field: Maps values (dimensions, solutions) and parameters (parameters, solutions) to derivatives.
        rate: Maps the same to the inverse of the time in which values change, (solutions,).
        start: Values (dimensions,) at the first time.
        parameters: (solutions, parameters).
        times: Increasing times, the first of them that of the start.
        share: Largest product of a step and the rate.

    Returns:
        Values (solutions, times, dimensions).
    """
    theta = np.asarray(parameters, dtype=np.float64).T
    y = np.repeat(np.asarray(start, dtype=np.float64)[:, None], theta.shape[1], 1)
    found = [y]
    for duration in np.diff(times):
        y = _advance(field, rate, y, theta, duration, share)
        found.append(y)
    return np.stack(found).transpose(2, 0, 1)


def _advance(
    field: Field, rate: Field, y: np.ndarray, parameters: np.ndarray, duration: float, share: float
) -> np.ndarray:
    out = y.copy()
    alive, left = np.arange(y.shape[1]), np.full(y.shape[1], duration)
    while len(alive):
        # Equal steps to the end, were the rate to stay: no tiny last one, whose rounding would matter.
        h = left / np.ceil(left * rate(y, parameters) / share).clip(1)
        k_1 = field(y, parameters)
        k_2 = field(y + h / 2 * k_1, parameters)
        k_3 = field(y + h / 2 * k_2, parameters)
        k_4 = field(y + h * k_3, parameters)
        y = y + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)
        left = left - h
        done = left <= 0
        if done.any():
            out[:, alive[done]] = y[:, done]
            alive, left, y, parameters = alive[~done], left[~done], y[:, ~done], parameters[:, ~done]
    return out
