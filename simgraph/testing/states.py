"""Random condition states."""

from __future__ import annotations

from random import Random
from typing import Any

import torch
from torch import Tensor

from simgraph.compile import Compiled
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED

__all__ = ["named_states", "random_state", "states_of"]


def named_states(compiled: Compiled, random: Random) -> dict[Any, int]:
    """Draws condition states by token: whole variables, or one by one."""
    whole = random.random() < 0.5
    by_name = {name: random_state(random) for name in sorted(compiled.layout.names)}
    return {token: by_name[token[0]] if whole else random_state(random) for token in sorted(compiled.tokens)}


def states_of(compiled: Compiled, choice: dict[Any, int]) -> Tensor:
    """Returns states by token as a tensor (tokens,), in the order of a compiled graph."""
    return torch.tensor([choice[token] for token in compiled.tokens])


def random_state(random: Random) -> int:
    """Draws the condition state of one token."""
    return random.choices([LATENT, OBSERVED, ABSENT], [5, 3, 2])[0]
