"""docs/sparse.md: formats what :mod:`simgraph.benchmark.sparse` measures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simgraph.benchmark.report import facts, markdown_table

__all__ = ["report"]


def report(found: Mapping[str, Any]) -> str:
    """Formats the measurements as Markdown."""
    lines = [
        "# Attention along lists of pairs",
        "",
        "Written by `python -m simgraph.benchmark.sparse docs`. Times are medians of wall seconds on a shared machine,"
        f" both forms in turn within one run: {facts(found['machine'])}.",
        "",
        "The graph is a hidden Markov chain, linear and Gaussian, with a node for each state and each datum. *Tables*"
        " are masks of all pairs of tokens, *lists* hold the allowed pairs alone. Which form is used is decided by"
        f" the masks: lists where more than {found['thresholds']['short']} tokens are present and no more than"
        f" {_percent(found['thresholds']['sparse'])} of their pairs are allowed. Both forms compute the same thing.",
        "",
        *_race(found["race"]),
        "## From which length, and up to which share",
        "",
        "Training steps of chains, with lists even where tables would be chosen:",
        "",
        markdown_table(
            ("tokens", "allowed pairs", "tables [ms]", "lists [ms]", "tables / lists"),
            [
                (f"{row['tokens']}", _percent(row["share"]), *_times(row["step_seconds"]), f"{row['ratio']:.2f}")
                for row in found["lengths"]
            ],
        ),
        "",
        "Loss and gradients of four traces with masks that allow random pairs, in one thread:",
        "",
        markdown_table(
            ("tokens", "allowed pairs", "tables [ms]", "lists [ms]", "tables / lists"),
            [
                (f"{row['tokens']}", _percent(row["share"]), *_times(row["seconds"]), f"{row['ratio']:.2f}")
                for row in found["shares"]
            ],
        ),
        "",
        *_learning(found["learning"]),
    ]
    return "\n".join(lines)


def _race(race: Mapping[str, Any]) -> list[str]:
    step, kept, pool = race["step_seconds"], race["kept_bytes_per_token"], race["pool_seconds"]
    rows = [
        (name, f"{step[name]:.3f}", f"{kept[name] / 1024:.1f}", f"{pool[name]:.2f}") for name in ("tables", "lists")
    ]
    losses = [
        (f"{number + 1}", f"{first:.6f}", f"{second:.6f}")
        for number, (first, second) in enumerate(zip(race["losses"]["tables"], race["losses"]["lists"], strict=True))
    ]
    return [
        f"## Training steps on {race['tokens']} tokens",
        "",
        f"A mask allows {race['pairs']:.0f} pairs on average, {_percent(race['share'])} of all. With"
        f" {race['batch_size']} traces a step and the default network, **lists take {race['ratio']:.1f} times less"
        f" time** (medians of {race['steps']} steps). Simulating took {race['simulate_seconds']:.1f} s and compiling"
        f" {race['compile_seconds']:.1f} s. Lists are not padded: a few tokens, the hubs of shortcuts, read many"
        f" others, and lists as long for all tokens as for these would hold {race['padding']:.0f} times as many"
        " entries.",
        "",
        markdown_table(
            (
                "form",
                "step [s]",
                "kept for the gradient, by token [KiB]",
                f"{race['pool_states']} masks of a pool [s]",
            ),
            rows,
        ),
        "",
        "Losses of the same seed, step by step:",
        "",
        markdown_table(("step", "tables", "lists"), losses),
        "",
    ]


def _learning(found: Mapping[str, Any]) -> list[str]:
    losses, sampling = found["losses"], found["sampling"]
    gap = (losses["trained"] - losses["exact"]) / (losses["untrained"] - losses["exact"])
    return [
        "## Is a long chain learned?",
        "",
        f"A training of {found['steps']} steps of {found['batch_size']} traces on {found['simulations']} simulations of"
        f" {found['tokens']} tokens took {found['seconds'] / 60:.1f} minutes. Every token has an identifier of its own,"
        " and pairs of identifiers have no attention bias. Mean loss of the latent tokens of new traces, over the"
        " condition states and noise levels of training:",
        "",
        markdown_table(
            ("denoiser", "loss"), [(name, f"{losses[name]:.4f}") for name in ("untrained", "trained", "exact")]
        ),
        "",
        f"{_percent(gap)} of the way from the untrained loss to the exact one is left.",
        "",
        f"{sampling['draws']} draws of all states given all data, in {sampling['evaluations']} steps of the solver,"
        f" took {sampling['seconds']['tables']:.1f} s with tables and {sampling['seconds']['lists']:.1f} s with lists"
        f" ({sampling['ratio']:.1f} times less). No token differs by more than {sampling['difference']:.1g}.",
        "",
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _times(values: Mapping[str, float]) -> tuple[str, str]:
    return f"{1e3 * values['tables']:.0f}", f"{1e3 * values['lists']:.0f}"
