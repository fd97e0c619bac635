"""A question of a task: what is given, what is asked for, and draws that are known to be right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simgraph.errors import DeclarationError
from simgraph.query import Model

__all__ = ["SEED", "Question", "flat"]

SEED = 2**20
"""Seed of the traces that questions are made of; no training has it."""


def _unknown(count: int, part: int) -> np.ndarray:
    """Stands for right draws that nobody has."""
    raise DeclarationError("no right draws are known of the answer to this question.")


@dataclass(frozen=True)
class Question:
    """One question about a graph.

    Attributes:
        evidence: What is given, by name, as ``given`` takes it.
        latent: Which elements of a variable are asked for: boolean arrays in the graph's shapes, by name.
        reference: Right draws (count, dimensions) of these elements, side by side in that order, for a count and
            the number of a set, 0 or 1. The two sets are independent of each other.
    """

    evidence: Mapping[str, Any]
    latent: Mapping[str, np.ndarray]
    reference: Callable[[int, int], np.ndarray] = _unknown

    def ask(self, model: Model, count: int, seed: int, exact: bool = False) -> np.ndarray:
        """Draws a model's answer, (count, dimensions); corrected by the graph's own densities where it is to be."""
        query = model.given(**self.evidence) if self.evidence else model
        return self.columns(query.sample(list(self.latent), num_samples=count, seed=seed, exact=exact))

    def columns(self, samples: Mapping[str, Any]) -> np.ndarray:
        """Puts the elements that are asked for side by side: (count, *event_shape) by name -> (count, dimensions)."""
        return np.concatenate([np.asarray(samples[name])[:, asked] for name, asked in self.latent.items()], 1)


def flat(samples: Mapping[str, Any], names: Sequence[str]) -> np.ndarray:
    """Puts whole variables side by side: (count, *event_shape) by name -> (count, dimensions)."""
    columns = [np.asarray(samples[name]) for name in names]
    return np.concatenate([column.reshape(len(column), -1) for column in columns], 1)
