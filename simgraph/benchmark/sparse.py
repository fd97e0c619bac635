"""Measures what docs/sparse.md says, and writes it: ``python -m simgraph.benchmark.sparse docs``.

Attention goes along lists of allowed pairs where masks are long and sparse, and over tables of all pairs elsewhere.
Four questions: how much faster a training on thousands of tokens takes its steps with lists, and whether its losses
are the same; from which length and up to which share of allowed pairs lists are the faster form; and whether a chain
of thousands of nodes, each with an identifier of its own, is learned at all.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from simgraph.benchmark.chain import exact_loss, linear_chain, standardised
from simgraph.benchmark.pace import prepare, seconds
from simgraph.benchmark.report import machine, write_json, write_text
from simgraph.benchmark.sparse_report import report
from simgraph.compile import Compiled, compile
from simgraph.compile.edges import EdgeList
from simgraph.compile.masks import LATENT, SHORT, SPARSE, MaskRule
from simgraph.processor import tuned
from simgraph.query.draw import draw
from simgraph.query.solvers import DEFAULT_SAMPLER
from simgraph.simformer.sparse import Bags
from simgraph.traces.seeds import torch_stream
from simgraph.train import Settings
from simgraph.train.conditions import Conditions
from simgraph.train.fit import Trained, build, train
from simgraph.train.gradients import Workers

__all__ = ["learning", "lengths", "main", "race", "shares"]

SEED = 0
TOKENS = 2_000
BATCH = 8
LENGTHS = (64, 128, 256, 512, 1_024, 2_000)
SHARES = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4)

_WARM_UP = 2
_EVALUATIONS = 8


def main(folder: str = "docs") -> None:
    """Measures everything, and writes sparse.json and sparse.md to a folder."""
    found = {
        "machine": machine(SEED),
        "thresholds": {"short": SHORT, "sparse": SPARSE},
        "race": race(),
        "lengths": lengths(),
        "shares": shares(),
        "learning": learning(),
    }
    target = Path(folder)
    write_json(target / "sparse.json", found)
    write_text(target / "sparse.md", report(found))
    print(report(found))


def race(tokens: int = TOKENS, steps: int = 10, batch_size: int = BATCH, force: bool = False) -> dict[str, Any]:
    """Takes the same training steps with tables and with lists, in turn.

    Args:
        tokens: Tokens of the chain.
        steps: Steps of each, after a warm-up.
        batch_size: Traces per step.
        force: Whether masks are lists even where tables would be chosen.
    """
    begin = time.perf_counter()
    graph = linear_chain(tokens // 2)
    traces = graph.simulate(4 * batch_size, seed=SEED, progress=False)
    simulated = time.perf_counter()
    compiled = compile(graph, traces)
    compiling = time.perf_counter() - simulated
    rules = {"tables": _Tables, "lists": _Lists if force else MaskRule}
    settings = Settings(batch_size=batch_size)
    runs = {name: prepare(_with_rule(compiled, kind), traces, settings, SEED) for name, kind in rules.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    losses: dict[str, list[float]] = {name: [] for name in runs}
    pools: dict[str, float] = {}
    with Workers.start() as workers:
        for name, (run, _) in runs.items():
            pools[name] = seconds(partial(run.pool.draw, 1))
        for _ in range(_WARM_UP + steps):
            for name, (run, data) in runs.items():
                begin_step = time.perf_counter()
                losses[name].append(run.step(data, workers))
                times[name].append(time.perf_counter() - begin_step)
        kept = {name: _kept(*runs[name], batch_size) for name in runs}
    medians = {name: statistics.median(values[_WARM_UP:]) for name, values in times.items()}
    lists = runs["lists"][0].pool.masks
    assert isinstance(lists, EdgeList)
    return {
        "tokens": tokens,
        "batch_size": batch_size,
        "steps": steps,
        "simulate_seconds": simulated - begin,
        "compile_seconds": compiling,
        "pairs": len(lists.query) / len(lists),
        "share": len(lists.query) / len(lists) / tokens**2,
        "padding": _padding(lists),
        "pool_states": len(lists),
        "pool_seconds": pools,
        "step_seconds": medians,
        "ratio": medians["tables"] / medians["lists"],
        "losses": losses,
        "kept_bytes_per_token": kept,
    }


def lengths(counts: Sequence[int] = LENGTHS, steps: int = 5, batch_size: int = BATCH) -> list[dict[str, Any]]:
    """Races chains of different lengths, with lists even where tables would be chosen."""
    rows = []
    for tokens in counts:
        found = race(tokens, steps, batch_size, force=True)
        rows.append({name: found[name] for name in ("tokens", "share", "step_seconds", "ratio")})
    return rows


def shares(
    counts: Sequence[int] = (256, 1_024), allowed: Sequence[float] = SHARES, repeats: int = 5
) -> list[dict[str, Any]]:
    """Times loss and gradients with random masks that allow different shares of the pairs, in one thread."""
    rows = []
    for tokens in counts:
        graph = linear_chain(tokens // 2)
        traces = graph.simulate(4, seed=SEED, progress=False)
        run, data = prepare(compile(graph, traces), traces, Settings(batch_size=4), SEED)
        generator = torch_stream(SEED, "shares", tokens)
        for share in allowed:
            table = (torch.rand(4, tokens, tokens, generator=generator) < share) | torch.eye(tokens, dtype=torch.bool)
            noise, states = torch.randn(data.values.shape, generator=generator), torch.full((4, tokens), LATENT)
            loss = partial(run.learner.denoiser.loss, data.values, noise, torch.ones(4), states)
            times: dict[str, list[float]] = {"tables": [], "lists": []}
            masks: dict[str, Tensor | EdgeList] = {"tables": table, "lists": EdgeList.of_dense(table)}
            with tuned():
                for _ in range(1 + repeats):
                    for name, mask in masks.items():
                        times[name].append(seconds(partial(_differentiate, loss, mask)))
            medians = {name: statistics.median(values[1:]) for name, values in times.items()}
            rows.append(
                {"tokens": tokens, "share": share, "seconds": medians, "ratio": medians["tables"] / medians["lists"]}
            )
    return rows


def learning(
    tokens: int = TOKENS, simulations: int = 1_000, tests: int = 32, settings: Settings | None = None
) -> dict[str, Any]:
    """Trains on a chain, and compares its loss on new traces with that of the exact denoiser and of none."""
    settings = settings or Settings(steps=1_000, batch_size=BATCH, evaluations=5, patience=100)
    graph = linear_chain(tokens // 2)
    traces = graph.simulate(simulations, seed=SEED, progress=False)
    trained = train(compile(graph, traces), traces, settings, seed=SEED, progress=False)
    compiled, generator = trained.compiled, torch_stream(SEED, "learning")
    x_0 = compiled.layout.tokenize_traces(graph.simulate(tests, seed=SEED + 1, progress=False)).values
    states = Conditions(compiled).draw(tests, generator)
    sigma = settings.noise.sample(tests, generator)
    noise = torch.randn(x_0.shape, generator=generator)
    architecture = trained.denoiser.network.architecture
    masks = compiled.rule.masks(states, architecture.depth)
    with torch.no_grad():
        losses = {
            "untrained": build(compiled, architecture).loss(x_0, noise, sigma, states, masks),
            "trained": trained.denoiser.loss(x_0, noise, sigma, states, masks),
            "exact": exact_loss(*standardised(compiled.layout), x_0[..., 0], noise[..., 0], sigma, states),
        }
    latents = int((states == LATENT).sum())
    return {
        "tokens": tokens,
        "simulations": simulations,
        "steps": trained.history["step"][-1],
        "batch_size": settings.batch_for(tokens),
        "seconds": trained.history["seconds"][-1],
        "losses": {name: float(loss.sum()) / latents for name, loss in losses.items()},
        "sampling": _sampling(trained, x_0[:1]),
    }


def _sampling(trained: Trained, x_0: Tensor, draws: int = 4) -> dict[str, Any]:
    """Times draws of all states given all data with tables and with lists, and compares them."""
    compiled = trained.compiled
    data = [name for name in compiled.layout.names if name.startswith("x")]
    states = compiled.states(given=data)[None]
    sampler = replace(DEFAULT_SAMPLER, evaluations=_EVALUATIONS)
    times, drawn = {}, {}
    for name, kind in {"tables": _Tables, "lists": _Lists}.items():
        begin = time.perf_counter()
        drawn[name] = draw(_with_rule(compiled, kind), trained.denoiser, x_0, states, draws, sampler, SEED)
        times[name] = time.perf_counter() - begin
    return {
        "draws": draws,
        "evaluations": _EVALUATIONS,
        "seconds": times,
        "ratio": times["tables"] / times["lists"],
        "difference": float((drawn["tables"] - drawn["lists"]).abs().max()),
    }


class _Tables(MaskRule):
    """Masks are tables, however sparse they are."""

    def masks(self, states: Tensor, depth: int, exists: Tensor | None = None) -> Tensor | EdgeList:
        return self.edge_mask(states, depth, exists)


class _Lists(MaskRule):
    """Masks are lists, however short they are."""

    def masks(self, states: Tensor, depth: int, exists: Tensor | None = None) -> Tensor | EdgeList:
        return EdgeList.of_dense(self.edge_mask(states, depth, exists))


def _with_rule(compiled: Compiled, kind: type[MaskRule]) -> Compiled:
    rule = compiled.rule
    return replace(compiled, rule=kind(rule.families, rule.form, rule.canonical))


def _differentiate(loss: Callable[[Tensor | EdgeList], Tensor], mask: Tensor | EdgeList) -> None:
    loss(mask).sum().backward()


def _kept(run: Any, data: Any, batch_size: int) -> float:
    """Returns the bytes, by token of a batch, that are kept from a loss to its gradients: masks and what is saved."""
    batch = data[torch.arange(batch_size)]
    states, mask = run.ask(batch)
    ready = run.learner.denoiser.ready(mask, batch_size)
    parameters = {parameter.untyped_storage().data_ptr() for parameter in run.learner.denoiser.parameters()}
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        noise, sigma = torch.zeros_like(batch.values), torch.ones(batch_size)
        loss, _ = run.learner.losses(batch.values, noise, sigma, states, ready)
    kept = sum(storages.values()) + (_bytes(ready) if isinstance(ready, Bags) else 0)
    assert loss.requires_grad
    return kept / states.numel()


def _padding(masks: EdgeList) -> float:
    """Returns how many times longer lists would be if those of all tokens of a mask were padded to the longest one."""
    lengths = torch.bincount(masks.number * masks.queries + masks.query, minlength=len(masks) * masks.queries)
    return float(lengths.view(len(masks), -1).amax(1).sum() * masks.queries / len(masks.query))


def _bytes(thing: object) -> int:
    """Returns the bytes of all tensors that an object holds."""
    if isinstance(thing, Tensor):
        return thing.numel() * thing.element_size()
    return sum(_bytes(part) for part in vars(thing).values()) if hasattr(thing, "__dict__") else 0


if __name__ == "__main__":
    main(*sys.argv[1:])
