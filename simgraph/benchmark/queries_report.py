"""The page that :mod:`simgraph.benchmark.queries` writes."""

from __future__ import annotations

from typing import Any

from simgraph.benchmark.report import machines, markdown_table

__all__ = ["report"]


def report(found: dict[str, Any]) -> str:
    """Formats the measurements as Markdown."""
    sections = {
        "restrictions": _restrictions,
        "densities": _densities,
        "moons": _moons,
        "many": _many,
    }
    measured = {name: found[name] for name in sections if name in found}
    lines = [
        "# Queries",
        "",
        "Written by `python -m simgraph.benchmark.queries docs`. Times are wall seconds on a shared machine.",
        "",
        machines(measured),
        "",
        f"Models are trained by the default preset on {found['simulations']} simulations. C2ST is that of a random"
        " forest; the floor is what two sets of right draws score.",
        "",
    ]
    for name, part in measured.items():
        lines += [*sections[name](part), ""]
    return "\n".join(lines)


def _restrictions(found: dict[str, Any]) -> list[str]:
    head = ("demand", "method", "C2ST", "floor", "satisfied", "seconds")
    rows = [(f"`{row['demand']}`", *_scores(row)) for row in found["rows"]]
    return [
        "## Intervals, constraints, predicates",
        "",
        f"theta ~ N(0, 1) and x ~ N(theta, {found['noise']}), two elements each; {found['draws']} draws of all four"
        " numbers that satisfy a demand, against rejection from the exact law.",
        "",
        markdown_table(head, rows),
    ]


def _densities(found: dict[str, Any]) -> list[str]:
    head = ("law", "points", "mean absolute error", "mean error", "seconds")
    rows = [
        (name, f"{row['points']}", f"{row['mean_error']:.3f}", f"{row['bias']:+.3f}", f"{row['seconds']:.1f}")
        for name, row in found["laws"].items()
    ]
    return [
        "## Log densities",
        "",
        "The same graph; errors in nats at points of its own law, each with evidence of its own.",
        "",
        markdown_table(head, rows),
        "",
        f"On a grid of 101 x 101 points the density of one posterior adds up to {found['mass']:.4f}.",
    ]


def _moons(found: dict[str, Any]) -> list[str]:
    head = ("method", "C2ST", "floor", "satisfied", "seconds")
    x_0, x_1 = (f"x[{i}] in ({found['low'][i]:g}, {found['high'][i]:g})" for i in range(2))
    return [
        "## Two moons",
        "",
        f"`theta[0] > theta[1]`, {x_0} and {x_1}; {found['draws']} draws against those {found['kept']} of"
        f" {found['traces']} simulated traces that satisfy all three"
        f" (found in {found['brute_seconds']:.0f} s by array operations).",
        "",
        markdown_table(head, [_scores(row) for row in found["rows"]]),
    ]


def _many(found: dict[str, Any]) -> list[str]:
    pieces, draws, _ = found["shape"]
    return [
        "## Many at once",
        "",
        f"{draws} draws for each of {pieces} observations of two moons, in one call: {found['seconds']:.0f} s, and at"
        f" most {found['megabytes']:.0f} MB more than before the call. `chunk_tokens` of the sampler bounds what it"
        " takes beside the draws.",
    ]


def _scores(row: dict[str, Any]) -> tuple[str, ...]:
    if "c2st" not in row:
        return (row["method"], "no draws", "", "", f"{row['seconds']:.1f}")
    return (
        row["method"],
        f"{row['c2st']:.3f}",
        f"{row['floor']:.3f}",
        f"{row['satisfied']:.1%}",
        f"{row['seconds']:.1f}",
    )
