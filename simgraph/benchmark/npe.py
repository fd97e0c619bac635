"""Neural posterior estimation as sbi implements it, to compare with.

References:
    Greenberg, Nonnenmacher and Macke, "Automatic posterior transformation for likelihood-free inference" (2019); here
    in the amortised form of one round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from simgraph.benchmark.learned import Learned, Train
from simgraph.benchmark.posteriors import Posteriors
from simgraph.benchmark.question import Question, flat
from simgraph.compile import compile
from simgraph.errors import DeclarationError
from simgraph.traces import Traces

if TYPE_CHECKING:
    from torch.distributions import Distribution

__all__ = ["prepare"]


def prepare(task: Posteriors, traces: Traces, seed: int, progress: bool) -> Train:
    """Prepares sbi's NPE, with all of its defaults, on the same traces."""
    from sbi.inference import NPE

    data = tuple(task.data)
    theta, x = (_numbers(traces, names) for names in (task.parameters, data))
    prior = _support(task, traces)

    def train() -> Learned:
        torch.manual_seed(seed)
        inference = NPE(prior=prior, show_progress_bars=progress, tracker=_NoLog())
        inference.append_simulations(theta, x).train()
        posterior = inference.build_posterior()

        def answer(question: Question, count: int, number: int) -> np.ndarray:
            torch.manual_seed(number)
            given = _numbers({name: np.asarray(question.evidence[name])[None] for name in data}, data)
            draws: Tensor = posterior.sample((count,), x=given, show_progress_bars=False)
            return draws.numpy()

        def log_prob(given: Mapping[str, Any], parameters: Mapping[str, Any]) -> np.ndarray:
            torch.manual_seed(seed)  # what leaks out of the prior's support is estimated by draws
            pairs = zip(_numbers(parameters, task.parameters), _numbers(given, data), strict=True)
            return np.array([float(posterior.log_prob(one[None], x=seen[None])) for one, seen in pairs])

        facts = {
            "validation_loss": float(inference.summary["best_validation_loss"][-1]),
            "epochs": int(inference.summary["epochs_trained"][-1]),
        }
        return Learned({"npe": answer}, {"npe": log_prob}, facts)

    return train


class _NoLog:
    """A tracker for sbi that writes no files."""

    log_dir = None

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


def _numbers(values: Mapping[str, Any], names: Sequence[str]) -> Tensor:
    return torch.as_tensor(flat(values, names), dtype=torch.float32)


def _support(task: Posteriors, traces: Traces) -> Distribution:
    """Returns a distribution with the prior's support.

    NPE of one round asks its prior for nothing but the support, outside of which it throws draws away.
    """
    from sbi.utils import MultipleIndependent
    from torch.distributions import LogNormal, Normal, Uniform

    tokenizers = compile(task.graph, traces).layout.tokenizers
    parts: list[Distribution] = []
    for name in task.parameters:
        support, shape = tokenizers[name].variable.support, tokenizers[name].variable.shape
        bounds = np.broadcast_arrays(support.low, support.high, np.empty(shape))[:2]
        for low, high in zip(*(edge.ravel().tolist() for edge in bounds), strict=True):
            one, zero = torch.ones(1), torch.zeros(1)
            if np.isfinite([low, high]).all():
                parts.append(Uniform(low * one, high * one))
            elif low == 0:
                parts.append(LogNormal(zero, one))
            elif np.isinf([low, high]).all():
                parts.append(Normal(zero, one))
            else:
                raise DeclarationError(f"NPE is not set up for the bounds {low} and {high} of {name!r}.")
    return MultipleIndependent(parts)
