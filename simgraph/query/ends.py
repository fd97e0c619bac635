r"""Where the flow begins and ends: closed forms for laws that are nearly normal there.

Noised to the level :math:`\sigma`, a normal law of mean m and variance V has variance :math:`V + \sigma^2`. The flow
keeps quantiles, so that along it :math:`x - m \propto \sqrt{V + \sigma^2}`, and Tweedie's formula gives

.. math:: x - D(x, \sigma) = \frac{\sigma^2}{V + \sigma^2} (x - m).

High noise makes every law nearly normal, and low noise sees a smooth density as flat.

References:
    Karras et al., "Elucidating the design space of diffusion-based generative models" (2022), equation 1 (the flow).
    Efron, "Tweedie's formula and selection bias" (2011), equation 1.4.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Visited", "begun", "ended"]


class Visited(NamedTuple):
    """A point of the flow: its noise level, where it was, and what it was denoised to."""

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

    The denoised mean would be too narrow a draw: it shrinks deviations by :math:`\rho^2 = V / (V + \sigma^2)`, the flow
    by :math:`\rho`, so that :math:`x_0 = x - (x - D) / (1 + \rho)`. How much :math:`x - D` fell since the level before,
    by element, tells V: it is a whole step to the mean where V is 0, and half of one where noise is small beside it.

    Args:
        before: A point of the flow at a higher level.
        last: The point at the last level.

    Returns:
        Draws, of the shape of ``last.x``.
    """
    gap = last.x - last.denoised
    fall = (before.sigma / last.sigma) ** 2
    # The square of the fall over its value where noise is small: (V + last.sigma^2) / (V + before.sigma^2).
    share = ((before.x - before.denoised) / (fall * gap)).square().nan_to_num(1.0).clamp(1 / fall, 1.0)
    rho = ((share * fall - 1) / (share * (fall - 1))).clamp_min(0.0).sqrt()
    return last.x - gap / (1 + rho)
