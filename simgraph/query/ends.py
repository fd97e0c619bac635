r"""Where the flow begins and ends: closed forms for laws that are nearly normal there.

Noised to the level :math:`\sigma`, a normal law of mean m and variance V has variance :math:`V + \sigma^2`. The flow
keeps quantiles, so that along it :math:`x - m \propto \sqrt{V + \sigma^2}`, and Tweedie's formula gives

.. math:: x - D(x, \sigma) = \frac{\sigma^2}{V + \sigma^2} (x - m).

High noise makes every law nearly normal, and low noise sees a smooth density as flat. Both forms are exact for a normal
law whose elements are independent, and treat correlated elements as if they were: a direction that is oblique to the
elements and much narrower than the last noise level gets noise of some thousandths of a standard deviation.

References:
    Karras et al., "Elucidating the design space of diffusion-based generative models" (2022), equation 1 (the flow).
    Efron, "Tweedie's formula and selection bias" (2011), equation 1.4.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["APART", "Visited", "begun", "ended"]

APART = 1.4
"""Least ratio of the noise levels that the end of a flow is extrapolated from: between closer ones nothing shows."""


class Visited(NamedTuple):
    """A point of the flow: its noise level, where it is, and what it, or a point nearby, was denoised to."""

    sigma: float
    x: Tensor
    denoised: Tensor


def begun(x: Tensor, denoised: Tensor, centre: Tensor) -> Tensor:
    """Widens what the flow starts from by the variance of the law itself.

    The start is ``centre`` + sigma times plain noise, whose variance lacks V. As sigma sqrt(1 + V / sigma^2) - sigma is
    V / (2 sigma) and more in higher powers only, half of what the denoiser sees of the noise is missing.
    """
    return x + (denoised - centre) / 2


def ended(before: Visited, last: Visited) -> Tensor:
    r"""Follows the flow from its last noise level to 0.

    The denoised mean would be too narrow a draw: it shrinks deviations by :math:`r^2 = V / (V + \sigma^2)`, the flow by
    r, so that :math:`x_0 = x - (x - D) / (1 + r)`. How much smaller :math:`x - D` is than it was before, by element,
    tells V: it is a whole step to the mean where V is 0, and half of one where noise is small beside it.

    Args:
        before: A point of the flow at a noise level at least ``APART`` times as high.
        last: The point at the last level.

    Returns:
        Draws, of the shape of ``last.x``.
    """
    gap, ratio = last.x - last.denoised, before.sigma / last.sigma
    # sqrt((V + last.sigma^2) / (V + before.sigma^2)): from 1 / ratio where V is 0 to 1 where noise is small beside it.
    share = ((before.x - before.denoised) / (ratio**2 * gap)).nan_to_num(1.0).clamp(1 / ratio, 1.0).square()
    shrinking = ((share * ratio**2 - 1) / (share * (ratio**2 - 1))).clamp_min(0.0).sqrt()
    return last.x - gap / (1 + shrinking)
