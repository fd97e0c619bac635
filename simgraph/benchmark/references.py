"""Observations and reference posteriors of sbibm 1.1.0 (MIT licence, see reference/LICENSE.sbibm.txt).

References:
    Lueckmann, Boelts, Greenberg, Goncalves and Macke, "Benchmarking simulation-based inference" (2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import numpy as np

__all__ = ["Reference", "load_reference"]


@dataclass(frozen=True)
class Reference:
    """Published observations of a task, with draws from their posteriors.

    Attributes:
        observations: (observations, data dimensions).
        samples: Posterior draws, (observations, draws, parameters); none where the posterior has a closed form.
    """

    observations: np.ndarray
    samples: np.ndarray


def load_reference(task: str) -> Reference:
    """Loads the references of a task.

    Args:
        task: Name of the task, for example ``"two_moons"``.
    """
    with (
        resources.files("simgraph.benchmark").joinpath("reference", f"{task}.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        observations = arrays["observations"]
        none = np.empty((len(observations), 0, 0))
        samples = arrays.get("reference_samples", none)
        return Reference(observations, samples)
