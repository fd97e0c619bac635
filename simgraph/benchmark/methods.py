"""What is benchmarked: a method learns from traces, and answers questions with draws.

References:
    Greenberg, Nonnenmacher and Macke, "Automatic posterior transformation for likelihood-free inference" (2019): NPE,
    here in its amortised form of one round, as ``sbi`` implements it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from simgraph.benchmark.endings import end_of
from simgraph.benchmark.plan import Plan
from simgraph.benchmark.posteriors import Posteriors
from simgraph.benchmark.question import Question, flat
from simgraph.benchmark.tasks import Task
from simgraph.compile import compile
from simgraph.errors import DeclarationError, MissingExtraError
from simgraph.query import fit
from simgraph.traces import Traces
from simgraph.train import Settings

if TYPE_CHECKING:
    from torch.distributions import Distribution

__all__ = ["METHODS", "Learned", "check_method"]


@dataclass(frozen=True)
class Learned:
    """What a method has learned.

    Attributes:
        answer: Draws (count, dimensions) for a question, a count and a seed.
        facts: Facts of the training by name, for the report.
    """

    answer: Callable[[Question, int, int], np.ndarray]
    facts: Mapping[str, Any]


Train = Callable[[], Learned]


def check_method(method: str, task: Task) -> None:
    """Fails before any work starts where a method cannot be run on a task.

    Raises:
        DeclarationError: If NPE, which knows one posterior, is asked for arbitrary conditionals.
        MissingExtraError: If sbi is not installed.
    """
    if method != "npe":
        return
    if not isinstance(task, Posteriors):
        raise DeclarationError(f"NPE learns one posterior; it cannot answer the questions of task {task.name!r}.")
    if importlib.util.find_spec("sbi") is None:
        raise MissingExtraError("sbi", "peers", "NPE")


def _simgraph(task: Task, traces: Traces, seed: int, plan: Plan, progress: bool) -> Train:
    def train() -> Learned:
        model = fit(task.graph, traces, seed=seed, preset=plan.preset, time_limit=plan.time_limit, progress=progress)
        limit = float("inf") if plan.time_limit is None else plan.time_limit
        facts = {
            "validation_loss": model.history.best,
            "steps": int(model.history[-1]["step"]),
            "ended_by": end_of(model.history, Settings.of(plan.preset), limit),
            "tokens": len(model.compiled.layout),
        }
        return Learned(lambda question, count, number: question.ask(model, count, number), facts)

    return train


def _npe(task: Task, traces: Traces, seed: int, plan: Plan, progress: bool) -> Train:
    """Prepares sbi's NPE, with all of its defaults, on the same traces."""
    from sbi.inference import NPE

    assert isinstance(task, Posteriors)
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

        facts = {
            "validation_loss": float(inference.summary["best_validation_loss"][-1]),
            "epochs": int(inference.summary["epochs_trained"][-1]),
        }
        return Learned(answer, facts)

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


METHODS: Mapping[str, Callable[[Task, Traces, int, Plan, bool], Train]] = {"simgraph": _simgraph, "npe": _npe}
"""(task, traces, seed, plan, progress) -> the training, ready to start, by the name of the method."""
