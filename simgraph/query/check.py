r"""The network's answer held against the corrected one.

For each element, the largest distance between the distribution functions of n plain and m corrected draws is told. If
both follow one law, it stays below

.. math:: \sqrt{\tfrac12 \ln(2 k / \alpha)} \, \sqrt{1 / n + 1 / m}

for all of k elements with a probability of :math:`1 - \alpha`, about; m is the number of draws that the corrected ones
are worth.

References:
    Smirnov, "Table for estimating the goodness of fit of empirical distributions" (1948): the distance of two sets of
    draws; here the first term of its series.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import ks_2samp

from simgraph.errors import listed
from simgraph.query.elements import rows
from simgraph.query.samples import Samples
from simgraph.query.summary import Summary

__all__ = ["Check"]

_CHANCE = 0.01
"""Probability that some element differs by chance."""


class Check:
    """Draws of the network beside draws that are corrected by the graph's own density.

    Args:
        plain: The network's draws.
        exact: Corrected draws of the same variables given the same evidence.

    Attributes:
        plain, exact: As given.
        limit: Distance of distribution functions that chance seldom exceeds in any element.
        differing: Elements whose distance exceeds it, such as ``theta[0]``.

    Example:
        >>> import torch
        >>> even = torch.arange(500.0)
        >>> Check(Samples({"a": even, "b": even}), Samples({"a": even, "b": even + 200})).differing
        ('b',)
    """

    def __init__(self, plain: Samples, exact: Samples) -> None:
        self.plain, self.exact = plain, exact
        self._summary = _compared(plain, exact)
        distances = self._summary["distance"]
        spread = (1 / plain.num_samples + 1 / exact.ess) ** 0.5
        self.limit = math.sqrt(math.log(2 * len(distances) / _CHANCE) / 2) * spread
        self.differing = tuple(label for label, distance in distances.items() if distance > self.limit)

    def summary(self) -> Summary:
        """Returns the table that is printed, by column and element.

        ``shift`` is the mean of the plain draws less that of the corrected ones, in standard deviations of these;
        ``width`` the ratio of standard deviations; ``distance`` that of the distribution functions. Each piece of
        evidence has rows of its own.
        """
        return self._summary

    def __bool__(self) -> bool:
        """Tells whether no element differs by more than chance."""
        return not self.differing

    def __repr__(self) -> str:
        verdict = (
            f"More than chance ({self.limit:.2g}): the distance of {listed(self.differing)}.\n"
            "  sample(..., exact=True) corrects the draws; more traces or a longer training bring the network closer."
            if self.differing
            else f"No element differs by more than chance ({self.limit:.2g})."
        )
        counts = f"{self.plain.num_samples} plain draws held against corrected ones worth {self.exact.ess:.0f}"
        return "\n".join([counts, repr(self.summary()), verdict, *self.exact.notes])


def _compared(plain: Samples, exact: Samples) -> Summary:
    found, right = (rows(samples, batched=samples.batched) for samples in (plain, exact))
    with np.errstate(divide="ignore", invalid="ignore"):  # an element that never varies
        shift = {label: float((found[label].mean() - own.mean()) / own.std()) for label, own in right.items()}
        width = {label: float(found[label].std() / own.std()) for label, own in right.items()}
    # Its probability is not asked for, and takes long to compute for many draws unless by the limit.
    distance = {label: float(ks_2samp(found[label], own, method="asymp").statistic) for label, own in right.items()}
    return Summary({"shift": shift, "width": width, "distance": distance})
