"""A limit on the time of one call, so that no query hangs, and when a long one tells how far it is."""

from __future__ import annotations

import time

__all__ = ["BAR_DELAY", "Budget", "OutOfTimeError"]

BAR_DELAY = 2.0
"""Seconds before a progress bar appears."""


class OutOfTimeError(Exception):
    """The seconds of a budget are over."""


class Budget:
    """Counts down from its creation.

    Args:
        seconds: The time limit.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        """Raises when the time is over.

        Raises:
            OutOfTimeError: If it is.
        """
        if time.monotonic() > self._end:
            raise OutOfTimeError(self.seconds)
