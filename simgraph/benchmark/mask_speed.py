"""Measures what docs/mask_speed.md says, and writes it: ``python -m simgraph.benchmark.mask_speed docs``.

Three questions: how long one mask of a large graph takes; how much of a training step is spent on masks; and how
compiling, deriving and the number of allowed pairs grow with the length of a chain whose tokens are all latent.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain as joined
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from simgraph.benchmark.hmm import hidden_markov
from simgraph.benchmark.pace import prepare, seconds
from simgraph.benchmark.report import facts, machine, markdown_table, write_json, write_text
from simgraph.compile import compile
from simgraph.compile.compiled import DEFAULT_DEPTH
from simgraph.compile.edges import EdgeList
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED, MaskRule
from simgraph.graph.dependence import Families
from simgraph.processor import tuned
from simgraph.simformer import Architecture
from simgraph.traces.seeds import torch_stream
from simgraph.train import Settings
from simgraph.train.conditions import Pool
from simgraph.train.gradients import Workers

__all__ = ["chains", "main", "masks", "step"]

SEED = 0
TOKENS = 1_000
STATES = 20
LENGTHS = (64, 256, 1_024, 4_096)
DEPTHS = (4, 6, 8)

Draws = tuple[Sequence[int], Sequence[int]]
"""Tokens that are drawn together, and the tokens that they are drawn from."""


def main(folder: str = "docs") -> None:
    """Measures everything, and writes mask_speed.json and mask_speed.md to a folder."""
    measures: dict[str, Callable[[], Any]] = {"machine": lambda: machine(SEED), "masks": masks, "step": step}
    found = {name: measure() for name, measure in measures.items()}
    found["chains"] = chains()
    target = Path(folder)
    write_json(target / "mask_speed.json", found)
    write_text(target / "mask_speed.md", report(found))
    print(report(found))


def masks(tokens: int = TOKENS, count: int = STATES) -> list[dict[str, Any]]:
    """Times the masks of distinct random condition states, one at a time, on graphs of about so many tokens."""
    rows = []
    for name, families in graphs(tokens).items():
        rule, size = MaskRule(families), families.members.shape[1]
        states = random_states(size, count + 2, torch_stream(SEED, "mask_speed", tokens))
        with tuned():
            times = [seconds(partial(rule.edge_mask, state[None], DEFAULT_DEPTH)) for state in states]
        warm = [1e3 * value for value in times[2:]]
        rows.append(
            {
                "graph": name,
                "tokens": size,
                "states": count,
                "milliseconds": statistics.median(warm),
                "fastest": min(warm),
                "slowest": max(warm),
            }
        )
    return rows


def step(
    tokens: int = 64, batch_size: int = 512, cycles: int = 2, architecture: Architecture | None = None
) -> dict[str, Any]:
    """Times steps of a training, and the share of them that goes into condition states and masks.

    A pool of masks is made at once and used for several steps, so that most steps make none: besides the
    medians, the means over whole cycles of the pool count.

    Args:
        tokens: Tokens of the graph, a hidden Markov model.
        batch_size: Traces per step.
        cycles: How many pools are used up.
        architecture: Sizes of the network; the default ones if there are none.
    """
    graph = hidden_markov(tokens // 2)
    settings = Settings(batch_size=batch_size, architecture=architecture or Architecture())
    traces = graph.simulate(1_000, seed=SEED, progress=False)
    with Workers.start() as workers:
        run, data = prepare(compile(graph, traces), traces, settings, SEED)
        run.pool = pool = _TimedPool(run.conditions, run.compiled, run.depth, run.generator)
        cycle = math.ceil(Pool._USES * pool.size / batch_size)
        for _ in range(2):
            run.step(data, workers)
        pool.times.clear()
        steps = [seconds(partial(run.step, data, workers)) for _ in range(cycles * cycle)]
    return {
        "tokens": tokens // 2 * 2,
        "batch_size": batch_size,
        "steps": len(steps),
        "step_milliseconds": 1e3 * statistics.median(steps),
        "draw_milliseconds": 1e3 * statistics.median(pool.times),
        "mean_step_milliseconds": 1e3 * statistics.mean(steps),
        "mean_draw_milliseconds": 1e3 * statistics.mean(pool.times),
        "median_share": statistics.median(draw / whole for draw, whole in zip(pool.times, steps, strict=True)),
        "share": sum(pool.times) / sum(steps),
    }


def chains(lengths: Sequence[int] = LENGTHS, depths: Sequence[int] = DEPTHS, repeats: int = 3) -> list[dict[str, Any]]:
    """Times compiling and deriving for chains of latent tokens, and counts the pairs that may attend."""
    rows = []
    for length in lengths:
        times = []
        for _ in range(repeats):
            begin = time.perf_counter()
            rule = MaskRule(families(_chain(length)))
            _ = rule.families.incidence  # otherwise the first mask would make it
            times.append(time.perf_counter() - begin)
        compiling = statistics.median(times)
        states = torch.full((1, length), LATENT)
        for depth in depths:
            with tuned():
                pairs = int(rule.edge_mask(states, depth).sum())  # also warms up
                times = [seconds(partial(rule.edge_mask, states, depth)) for _ in range(repeats)]
            rows.append(
                {
                    "tokens": length,
                    "depth": depth,
                    "compile_seconds": compiling,
                    "milliseconds": 1e3 * statistics.median(times),
                    "pairs": pairs,
                    "pairs_per_n_log2_n": pairs / (length * math.log2(length)),
                }
            )
    return rows


def graphs(tokens: int) -> Mapping[str, Families]:
    """Returns the families of graphs of about so many tokens."""
    return {
        "chain": families(_chain(tokens)),
        "hidden Markov model": families(_hidden_markov(tokens // 2)),
        "plate": families(_plate(10, (tokens - 10) // 10, 10)),
        "hierarchy": families(_hierarchy(tokens // 11, 10)),
        "black box": families(joined(_roots(10), [(range(10, tokens), range(10))])),
    }


def families(draws: Iterator[Draws] | Sequence[Draws]) -> Families:
    """Returns families from lists of token numbers."""
    laws = list(draws)
    tokens = sum(len(own) for own, _ in laws)
    members = torch.zeros(len(laws), tokens, dtype=torch.bool)
    parents = torch.zeros_like(members)
    for number, (own, above) in enumerate(laws):
        members[number, list(own)] = True
        parents[number, list(above)] = True
    return Families(members, parents)


def random_states(tokens: int, count: int, generator: torch.Generator) -> Tensor:
    """Draws distinct condition states (count, tokens) with observed, latent and absent tokens.

    Their shares vary: where few tokens are observed, latent components are wide.
    """
    while True:
        observed = 0.02 * 30 ** torch.rand(count, 1, generator=generator)
        absent = 0.02 * 15 ** torch.rand(count, 1, generator=generator)
        chance = torch.rand(count, tokens, generator=generator)
        states = torch.where(chance < observed, OBSERVED, torch.where(chance > 1 - absent, ABSENT, LATENT))
        if len(torch.unique(states, dim=0)) == count:
            return states


class _TimedPool(Pool):
    """Remembers the seconds of each draw."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.times: list[float] = []

    def draw(self, count: int) -> tuple[Tensor, Tensor | EdgeList]:
        begin = time.perf_counter()
        drawn = super().draw(count)
        self.times.append(time.perf_counter() - begin)
        return drawn


def _roots(count: int) -> Iterator[Draws]:
    for token in range(count):
        yield [token], []


def _chain(length: int) -> Iterator[Draws]:
    for token in range(length):
        yield [token], [token - 1] if token else []


def _hidden_markov(states: int) -> Iterator[Draws]:
    yield from _chain(states)
    for state in range(states):
        yield [states + state], [state]


def _plate(parameters: int, elements: int, dimensions: int) -> Iterator[Draws]:
    yield from _roots(parameters)
    for element in range(elements):
        first = parameters + element * dimensions
        yield range(first, first + dimensions), range(parameters)


def _hierarchy(groups: int, readings: int) -> Iterator[Draws]:
    """A mean, a spread and a noise level; an effect for each group, and readings of each effect."""
    yield from _roots(3)
    for group in range(groups):
        yield [3 + group], [0, 1]
    for group in range(groups):
        for reading in range(readings):
            yield [3 + groups + group * readings + reading], [2, 3 + group]


def report(found: Mapping[str, Any]) -> str:
    """Formats the measurements as Markdown."""
    inside = found["step"]
    large = [
        (row["graph"], f"{row['tokens']}", *(f"{row[key]:.1f}" for key in ("milliseconds", "fastest", "slowest")))
        for row in found["masks"]
    ]
    grown = [
        (
            f"{row['tokens']}",
            f"{row['depth']}",
            f"{row['compile_seconds']:.3f}",
            f"{row['milliseconds']:.1f}",
            f"{row['pairs']}",
            f"{row['pairs_per_n_log2_n']:.2f}",
        )
        for row in found["chains"]
    ]
    lines = [
        "# Speed of the masks",
        "",
        "Written by `python -m simgraph.benchmark.mask_speed docs`; masks in one thread. Times are wall seconds"
        f" on a shared machine: {facts(found['machine'])}.",
        "",
        "## One mask of a large graph",
        "",
        "Condition states are random, with observed, latent and absent tokens. Times are over"
        f" {found['masks'][0]['states']} distinct ones, after a warm-up; depth {DEFAULT_DEPTH}.",
        "",
        markdown_table(("graph", "tokens", "median [ms]", "fastest [ms]", "slowest [ms]"), large),
        "",
        "## Share of a training step",
        "",
        f"A hidden Markov model with {inside['tokens']} tokens, {inside['batch_size']} traces a step, the default"
        f" network: a step takes {inside['mean_step_milliseconds']:.0f} ms on average, of which"
        f" {inside['mean_draw_milliseconds']:.1f} ms ({100 * inside['share']:.1f} %) go into condition states and"
        f" masks. That counts whole cycles of the pool of masks, over {inside['steps']} steps; the median step makes no"
        f" masks, takes {inside['step_milliseconds']:.0f} ms and spends {100 * inside['median_share']:.1f} % on picking"
        " them from the pool.",
        "",
        "## Chains of latent tokens",
        "",
        "Compiling is from the lists of parents to the mask rule. Pairs count each ordered pair of tokens of which the"
        " first may attend to the second, itself included.",
        "",
        markdown_table(("tokens n", "depth", "compile [s]", "mask [ms]", "pairs", "pairs / (n log2 n)"), grown),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
