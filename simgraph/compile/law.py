"""What one event of a node is drawn from, element by element.

A law factorises the event of one plate element into *families*: elements that are drawn together, the
parent elements that they are drawn from, and the elements of the same event that come before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["Law", "Origin"]

Origin = Literal["declared", "traced", "assumed"]
"""How a link is known: stated by the user, read from the function's tensor operations, or taken to be full."""


@dataclass(frozen=True)
class Law:
    """The families of one event.

    Attributes:
        members: Boolean array (families, *event_shape); each element is a member of exactly one family.
        own: Boolean array (families, *event_shape): elements of the same event that the family is drawn
            from. Following them never leads in a circle.
        sources: By parameter of the function, a boolean array (families, *shape of the value that it
            receives): the elements that the family is drawn from.
        origins: How each link is known, by parameter; the node's own elements under its own name.
        notes: Why a link had to be assumed, under the same keys.
    """

    members: np.ndarray
    own: np.ndarray
    sources: Mapping[str, np.ndarray]
    origins: Mapping[str, Origin]
    notes: Mapping[str, str]
