"""Location and scale of one element's training values, robust where its tails are heavy."""

from __future__ import annotations

import numpy as np

__all__ = ["standardise"]

_HEAVY_TAIL = 8.0
"""A 99.9 % quantile of so many robust standard deviations calls for asinh (3.3 for a normal law, 6.7 for Laplace)."""


def standardise(values: np.ndarray) -> dict[str, float]:
    """Returns location and scale of one element's unconstrained training values.

    Light-tailed values are standardised by mean and standard deviation; heavy-tailed ones by median and
    interquartile range, then by the moments of asinh of that. A constant has scale 1 and is marked.
    """
    plain = {"centre": 0.0, "scale": 1.0, "heavy": 0.0, "mean": 0.0, "sd": 1.0, "constant": 0.0}
    if not values.size:
        return plain
    lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75])
    mean, sd = float(values.mean()), float(values.std())
    if sd <= 1e-13 * max(abs(mean), np.finfo(np.float64).tiny):
        return {**plain, "centre": float(median), "constant": 1.0}
    robust = (upper - lower) / 1.349
    if robust > 0 and np.quantile(np.abs(values - median), 0.999) > _HEAVY_TAIL * robust:
        bent = np.arcsinh((values - median) / robust)
        return {
            **plain,
            "centre": float(median),
            "scale": float(robust),
            "heavy": 1.0,
            "mean": float(bent.mean()),
            "sd": float(bent.std()),
        }
    return {**plain, "centre": mean, "scale": sd}
