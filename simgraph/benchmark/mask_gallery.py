"""Derived masks beside published hand-written ones: ``python -m simgraph.benchmark.mask_gallery docs``.

The published masks are those of the Simformer's reference implementation, restated as lists of parents:
each token attends to itself and to its parents (the base mask), or to its neighbours in the moral graph
("undirected"). Both are one mask for all questions, but for absent tokens, which are cut out. The derived ones are
made for each question. All are held against d-separation in graphs that are written out here by hand, token by token.

References:
    Gloeckler et al., "All-in-one simulation-based inference" (2024), figures A1 and A2.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from simgraph import files
from simgraph.benchmark.gaussian_linear import gaussian_linear
from simgraph.benchmark.gaussian_mixture import gaussian_mixture
from simgraph.benchmark.hmm import hmm
from simgraph.benchmark.slcp import slcp
from simgraph.benchmark.tree import tree
from simgraph.benchmark.two_moons import two_moons
from simgraph.compile import Compiled, compile
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.graph import Graph
from simgraph.graph.dependence import Families
from simgraph.plots.canvas import new_figure
from simgraph.plots.mask import paint
from simgraph.testing import Question, assert_sound, assert_tight

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["main"]

DEPTH = 6
"""Layers of the published networks."""

QUESTIONS = 60
SEED = 0


@dataclass(frozen=True)
class Entry:
    """A task in the gallery.

    Attributes:
        name: What it is called.
        graph: Its program.
        parents: The parents of each token that the published mask states, by label.
        truth: The parents of each token in the law of the task, hidden variables included.
        remark: What differs, and why.
        hidden: Variables of the program that the published task does not have; they are absent here.
    """

    name: str
    graph: Graph
    parents: Callable[[str], list[str]]
    truth: Callable[[str], list[str]]
    remark: str
    hidden: tuple[str, ...] = ()


def _vector(name: str, size: int) -> list[str]:
    return [f"{name}[{i}]" for i in range(size)]


def _two(label: str) -> list[str]:
    """Parents in two moons and in the Gaussian mixture."""
    return _vector("theta", 2) + (["x[0]"] if label == "x[1]" else []) if label.startswith("x") else []


def _linear(label: str) -> list[str]:
    return [label.replace("x", "theta")] if label.startswith("x") else []


def _slcp(label: str) -> list[str]:
    if not label.startswith("x"):
        return []
    return _vector("theta", 5) + ([label.replace(", 1]", ", 0]")] if label.endswith(", 1]") else [])


def _slcp_truth(label: str) -> list[str]:
    return ["theta[0]", "theta[2]"] if label.endswith(", 0]") else _slcp(label)


def _mixture_truth(label: str) -> list[str]:
    return ["c", label.replace("x", "theta")] if label.startswith("x") else []


def _tree(label: str) -> list[str]:
    above = {"theta2": "theta1", "theta3": "theta1", "x1": "theta2", "x2": "theta2", "x3": "theta3", "x4": "theta3"}
    return [above[label]] if label in above else []


def _hmm(label: str) -> list[str]:
    kind, number = label.split("_")
    if kind == "x":
        return [f"theta_{number}"]
    return [f"theta_{int(number) - 1}"] if int(number) else []


GALLERY = [
    Entry(
        "Tree",
        tree,
        _tree,
        _tree,
        "Tree: the same graph. The joint's tokens lie four hops apart, within reach of six layers.",
    ),
    Entry(
        "HMM",
        hmm,
        _hmm,
        _hmm,
        "HMM: the same graph, but the ends of the chain lie eleven hops apart, and six layers carry news over six: the"
        " derived mask adds shortcuts between the latents of a component that is wider than the network is deep.",
    ),
    Entry(
        "SLCP",
        slcp,
        _slcp,
        _slcp_truth,
        "SLCP: published, every number depends on all five parameters. The program says that the first coordinate of"
        " each point depends on theta[0] and theta[2] alone, which shows where the second one is absent; the program's"
        " trace finds it in the Cholesky factor. With all tokens present the two moral graphs agree.",
    ),
    Entry(
        "Two moons",
        two_moons,
        _two,
        _two,
        "Two moons: a black box, so everything is linked with everything, which here is the truth.",
    ),
    Entry(
        "Gaussian linear",
        gaussian_linear,
        _linear,
        _linear,
        "Gaussian linear: ten pairs, read from `Normal(theta, s)`.",
    ),
    Entry(
        "Gaussian mixture",
        gaussian_mixture,
        _two,
        _mixture_truth,
        "Gaussian mixture: published, x[0] depends on both parameters. It depends on its own alone: the coordinates"
        " share only the component, a variable of the program that these questions leave out. With x[1] absent,"
        " theta[1] and x[0] are independent.",
        hidden=("c",),
    ),
]


def main(folder: str = "docs") -> None:
    """Writes published_masks.md and published_masks.png to a folder."""
    target = Path(folder)
    files.write_with(target / "published_masks.md", lambda path: Path(path).write_text(report()))
    files.write_with(target / "published_masks.png", lambda path: draw().savefig(path, format="png", dpi=70))


def published(entry: Entry, compiled: Compiled) -> tuple[Tensor, Tensor]:
    """Returns the base mask and the undirected published mask over the tokens of a program."""
    base = linked(compiled, entry.parents) | torch.eye(len(compiled.layout), dtype=torch.bool)
    count = base.long()
    return base, (count + count.T + count.T @ count) > 0


def linked(compiled: Compiled, parents: Callable[[str], list[str]]) -> Tensor:
    """Returns lists of parents as a relation over the tokens of a program, boolean (tokens, tokens)."""
    layout = compiled.layout
    slots = {layout.label(slot): slot for slot in range(len(layout))}
    found = torch.zeros(len(layout), len(layout), dtype=torch.bool)
    for label, slot in slots.items():
        found[slot, [slots[parent] for parent in parents(label)]] = True
    return found


def states_of(entry: Entry, compiled: Compiled, random: Random | None, posterior: bool = False) -> Tensor:
    """Returns the condition states of a question: random ones, the posterior or the joint."""
    layout = compiled.layout
    leaves = ~compiled.drawn_from.any(0)[layout.variables]
    states = torch.where(leaves & posterior, OBSERVED, LATENT)
    if random is not None:
        states = torch.tensor(random.choices([LATENT, OBSERVED, ABSENT], [5, 3, 2], k=len(layout)))
    for name in entry.hidden:
        states[layout.slots(name)] = ABSENT
    return states


def verdicts(entry: Entry, compiled: Compiled) -> dict[str, tuple[int, int]]:
    """Counts the random questions at which masks are unsound, and at which they leak, by mask."""
    base, undirected = published(entry, compiled)
    truth = Families(torch.eye(len(compiled.layout), dtype=torch.bool), linked(compiled, entry.truth))
    random = Random(SEED)
    counts = {"base": [0, 0], "undirected": [0, 0], "derived": [0, 0]}
    for _ in range(QUESTIONS):
        states = states_of(entry, compiled, random)
        question = Question(truth, states)
        here = states != ABSENT
        there = (here[:, None] & here[None, :]) | torch.eye(len(states), dtype=torch.bool)
        derived = compiled.rule.edge_mask(states[None], DEPTH)[0]
        for name, mask in {"base": base & there, "undirected": undirected & there, "derived": derived}.items():
            counts[name][0] += _fails(assert_sound, question, mask, DEPTH)
            counts[name][1] += _fails(assert_tight, question, mask)
    return {name: (unsound, leaky) for name, (unsound, leaky) in counts.items()}


def _fails(check: Callable[..., None], *arguments: Any) -> bool:
    try:
        check(*arguments)
    except AssertionError:
        return True
    return False


def report() -> str:
    """Formats the comparison as Markdown."""
    lines = [
        "# Derived masks beside published ones",
        "",
        "Written by `python -m simgraph.benchmark.mask_gallery docs`.",
        "",
        "The published masks are those of the Simformer's reference implementation (Gloeckler et al. 2024): each token"
        " attends to its parents (the *base* mask; the paper's directed variant rewires it for each condition), or to"
        " its neighbours in the moral graph (*undirected*), whatever the question. A mask is *unsound* where a latent"
        " token cannot hear, within six layers, of a token that its score depends on; it *leaks* where the token hears"
        " of one that its score does not depend on. The truth is d-separation in graphs written out by hand, asked of"
        f" networkx, at {QUESTIONS} random questions for each task (tokens latent, observed or absent with"
        f" probabilities 0.5, 0.3, 0.2; seed {SEED}). Absent tokens are cut out of the published masks.",
        "",
        "| task | tokens | base: unsound, leaks | undirected: unsound, leaks | derived: unsound, leaks |",
        "|---|---|---|---|---|",
    ]
    for entry in GALLERY:
        compiled = compile(entry.graph)
        tokens = len(compiled.layout) - sum(
            compiled.layout.slots(n).stop - compiled.layout.slots(n).start for n in entry.hidden
        )
        cells = [f"{a / QUESTIONS:.0%}, {b / QUESTIONS:.0%}" for a, b in verdicts(entry, compiled).values()]
        lines.append(f"| {entry.name} | {tokens} | {' | '.join(cells)} |")
    lines += ["", "![masks](published_masks.png)", ""]
    lines += [
        "From left to right: published, base and undirected; derived, for the joint and for the posterior given"
        " the data (latent rows in blue, observed ones in orange, shortcuts in light blue).",
        "",
        *(f"- {entry.remark}" for entry in GALLERY),
        "",
        "Two faults are common to the published masks. The base mask keeps a parameter from attending to its data,"
        " so that its score in the joint is that of the prior. An undirected one that stays the same for every question"
        " lets an observed token carry news between latents that it separates, and cuts absent tokens out where they"
        " should join their neighbours.",
        "",
    ]
    return "\n".join(lines)


def draw() -> Figure:
    """Draws all masks, a task to a row."""
    figure = new_figure(10.5, 2.5 * len(GALLERY))
    grid = figure.subplots(len(GALLERY), 4)
    titles = ["published, base", "published, undirected", "derived, joint", "derived, posterior"]
    for row, entry in zip(grid, GALLERY, strict=True):
        compiled = compile(entry.graph)
        shown = torch.tensor(
            [slot for slot, (name, _) in enumerate(compiled.layout.tokens) if name not in entry.hidden]
        )
        joint, posterior = (states_of(entry, compiled, None, given) for given in (False, True))
        base, undirected = published(entry, compiled)
        none = torch.zeros_like(base)
        pictures = [(base, none, joint), (undirected, none, joint)]
        for states in (joint, posterior):
            mask = compiled.rule.edge_mask(states[None], DEPTH)[0]
            pictures.append((mask, mask & ~compiled.rule.local_mask(states[None])[0], states))
        for axes, title, (mask, shortcuts, states) in zip(row, titles, pictures, strict=True):
            part = (shown[:, None], shown[None, :])
            paint(axes, mask[part], shortcuts[part], states[shown])
            axes.set_xticks([])
            axes.set_yticks([])
            if entry is GALLERY[0]:
                axes.set_title(title, fontsize=10)
        row[0].set_ylabel(entry.name)
    return figure


if __name__ == "__main__":
    main(*sys.argv[1:])
