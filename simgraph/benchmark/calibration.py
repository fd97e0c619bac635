r"""Whether answers are right on average, told by fresh traces, whose truth is known.

The parameters of a trace are one right draw given its data. So a central interval that holds a share of an answer's
draws holds the truth in the same share of many traces, and no other density has a higher mean log at the truth than
the right one: the mean is lower by the mean Kullback-Leibler divergence of the answers.

References:
    Talts et al., "Validating Bayesian inference algorithms with simulation-based calibration" (2018), theorem 1.
    Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation" (2007), section 4.1: the
    logarithmic score.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from simgraph.benchmark.learned import Answer, Learned, LogProb
from simgraph.benchmark.posteriors import Posteriors
from simgraph.benchmark.question import SEED, flat
from simgraph.benchmark.tasks import Task
from simgraph.errors import OutOfRangeWarning
from simgraph.traces import Traces

__all__ = ["SHARES", "TRACES", "calibration", "coverage", "fresh", "log_scores"]

TRACES = 200
DRAWS = 39
"""Draws among which the truth has one of forty ranks, of which each share of intervals takes a whole number."""

SHARES = (0.5, 0.9)


def calibration(task: Task, learned: Learned, method: str, progress: bool = False) -> dict[str, Any]:
    """Returns what :func:`coverage` and :func:`log_scores` find, by name, and how long that took.

    Nothing of a method that takes long for an answer, since hundreds are needed; no scores of tasks that ask a
    different question each time.
    """
    if method not in learned.log_probs:
        return {}
    begin, traces = time.monotonic(), fresh(task, TRACES)
    found: dict[str, Any] = {"coverage": coverage(task, learned.answers[method], traces, progress)}
    if isinstance(task, Posteriors):
        found["log_score"] = log_scores(task, learned.log_probs[method], traces)
    return {**found, "calibrate_seconds": time.monotonic() - begin}


def fresh(task: Task, count: int) -> Traces:
    """Simulates traces that neither trainings nor the task's own questions have."""
    return task.graph.simulate(count, seed=SEED + 1, progress=False)


def coverage(task: Task, answer: Answer, traces: Traces, progress: bool = False) -> dict[str, list[float]]:
    """Counts how often central intervals of an answer hold the truth.

    Args:
        task: The task.
        answer: The answer.
        traces: Fresh traces; one question is asked about each.
        progress: Whether to show a progress bar.

    Returns:
        By share of the draws inside the interval: the share of truths in there, of the numbers that are asked for in
        each trace, averaged over the traces; and its standard error.
    """
    count = traces.num_simulations
    inside = np.empty((len(SHARES), count))
    with _beyond_training():
        for number in tqdm(range(count), desc="calibration", unit="trace", disable=not progress, leave=False):
            trace = {name: traces[name][number] for name in traces}
            question = task.about(trace, number)
            truth = question.columns({name: value[None] for name, value in trace.items()})
            rank = (answer(question, DRAWS, number) < truth).sum(0)
            for row, share in zip(inside, SHARES, strict=True):
                outside = round((DRAWS + 1) * (1 - share) / 2)
                row[number] = ((rank >= outside) & (rank <= DRAWS - outside)).mean()
    return {f"{share:g}": _mean(row) for share, row in zip(SHARES, inside, strict=True)}


def log_scores(task: Posteriors, log_prob: LogProb, traces: Traces) -> dict[str, Any]:
    """Averages log densities of the parameters of fresh traces given their data, in nats.

    Args:
        task: The task.
        log_prob: Log densities of the method.
        traces: Fresh traces.

    Returns:
        ``"found"``: the mean and its standard error of the method; ``"lost"``: by how much it is below that of the
        right posterior, where the task has a closed form of it; ``"ruled_out"``: how many truths the method gives no
        density. These are left out of the means.
    """
    data, parameters = ({name: traces[name] for name in names} for names in (task.data, task.parameters))
    with _beyond_training():
        found = log_prob(data, parameters)
    possible = np.isfinite(found)
    scores: dict[str, Any] = {"found": _mean(found[possible]), "ruled_out": int((~possible).sum())}
    if task.log_prob is not None:
        right = task.log_prob(flat(parameters, task.parameters), flat(data, tuple(task.data)))
        scores["lost"] = _mean((right - found)[possible])
    return scores


def _mean(values: np.ndarray) -> list[float]:
    """Returns the mean and its standard error."""
    return [float(np.mean(values)), float(np.std(values, ddof=1) / len(values) ** 0.5)]


@contextmanager
def _beyond_training() -> Iterator[None]:
    """Says nothing of fresh traces that lie beyond those of the training: some always do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        yield
