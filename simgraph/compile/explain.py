"""What was compiled, as text that a person can check."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from simgraph.compile.layout import Layout
from simgraph.compile.links import LinkOrigin
from simgraph.compile.masks import STATE_NAMES, Form
from simgraph.graph.dependence import Families
from simgraph.text import table

__all__ = ["explain", "mask_text"]

_MOST = 40
"""A mask of more tokens than this is not printed; a picture shows it better."""


def explain(layout: Layout, families: Families, links: Sequence[LinkOrigin], form: Form) -> str:
    """Describes tokens, supports and links of a compiled graph.

    Args:
        layout: The tokens.
        families: The factorisation of their law.
        links: How each link is known.
        form: What observed tokens read.
    """
    head = ("variable", "tokens", "slots", "shape", "support", "tokenizer")
    rows = []
    for name, tokenizer in layout.tokenizers.items():
        slots = layout.slots(name)
        variable = tokenizer.variable
        plates = " × ".join(layout.plates[name])
        rows.append(
            (
                name,
                str(slots.stop - slots.start),
                f"{slots.start}..{slots.stop - 1}",
                f"{plates} {layout.shape_text(name)}" if plates else str(variable.shape),
                str(variable.support),
                f"{tokenizer.kind} (width {tokenizer.width})",
            )
        )
    tokens = f"{len(layout)} tokens, {len(layout.widths)} identifiers, observed tokens: {form}\n" + table(head, rows)
    if not links:
        return tokens
    known = [
        (
            link.child,
            link.parent,
            _pattern(layout, families, link),
            link.origin + (f": {link.note}" if link.note else ""),
        )
        for link in links
    ]
    return f"{tokens}\n\n" + table(("variable", "drawn from", "tokens of it", "known from"), known)


def mask_text(layout: Layout, mask: Tensor, shortcuts: Tensor, states: Tensor) -> str:
    """Draws an edge mask in characters: a row attends to the marked columns.

    Args:
        layout: The tokens.
        mask: Boolean (tokens, tokens).
        shortcuts: Which entries are shortcuts, boolean (tokens, tokens).
        states: Condition states (tokens,).
    """
    legend = "◆ shortcut, since tokens lie farther apart than the network is deep"
    if len(layout) > _MOST:
        counts = f"{int(mask.sum())} of {mask.numel()} pairs allowed, {int(shortcuts.sum())} of them shortcuts"
        return f"Mask of {len(layout)} tokens: {counts}; see plot_mask()."
    width = max(len(layout.label(slot)) for slot in range(len(layout)))
    lines = ["Edge mask (rows attend to columns, in the order of the rows):"]
    for slot in range(len(layout)):
        marks = zip(mask[slot].tolist(), shortcuts[slot].tolist(), strict=True)
        row = " ".join("◆" if shortcut else "■" if allowed else "·" for allowed, shortcut in marks)
        lines.append(f"{layout.label(slot):<{width}}  {STATE_NAMES[int(states[slot])]:<8}  {row}")
    return "\n".join([*lines, legend] if shortcuts.any() else lines)


def _pattern(layout: Layout, families: Families, link: LinkOrigin) -> str:
    """Tells how many tokens of a parent each token of a variable is drawn from."""
    mine = families.members[:, layout.slots(link.child)].any(1)
    others = layout.slots(link.parent)
    if link.child == link.parent:
        together = families.members[mine][:, others].sum(1)
        earlier = families.parents[mine][:, others].sum(1)
        if int(together.max()) > 1:
            return "drawn together" if len(together) == 1 else f"drawn together by {int(together.max())}"
        most = int(earlier.max())
        return f"up to {most} earlier one{'s' if most > 1 else ''}" if most else "independent"
    reached = families.parents[mine][:, others].sum(1)
    low, high, whole = int(reached.min()), int(reached.max()), others.stop - others.start
    if high == 0:
        return "none: unused"
    counts = str(high) if low == high else f"{low} to {high}"
    return "all" if low == whole else f"{counts} of {whole}"
