"""What was compiled, as text that a person can check."""

from __future__ import annotations

import torch
from torch import Tensor

from simgraph.compile.layout import Layout
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED, MaskRule
from simgraph.text import table

__all__ = ["explain", "mask_text"]

_MOST = 40
"""A mask of more tokens than this is not printed; a picture shows it better."""


def explain(layout: Layout, rule: MaskRule) -> str:
    """Describes tokens, supports and links of a compiled graph.

    Args:
        layout: The tokens.
        rule: The mask rule, whose families are the links.
    """
    head = ("variable", "tokens", "slots", "shape", "support", "tokenizer", "drawn from")
    rows = []
    for name, tokenizer in layout.tokenizers.items():
        slots = layout.slots(name)
        variable = tokenizer.variable
        plates = " × ".join(layout.plates[name])
        shape = f"{plates} {variable.shape}" if plates else str(variable.shape)
        mine = rule.families.members[:, slots].any(1)
        above = rule.families.parents[mine].any(0)
        parents = [n for n in layout.names if bool(above[layout.slots(n)].any())]
        rows.append(
            (
                name,
                str(slots.stop - slots.start),
                f"{slots.start}..{slots.stop - 1}",
                shape,
                str(variable.support),
                f"{tokenizer.kind} (width {tokenizer.width})",
                ", ".join(f"{p} ({_pattern(layout, rule, name, p)})" for p in parents) or "-",
            )
        )
    return f"{len(layout)} tokens, {len(layout.widths)} identifiers, observed tokens: {rule.form}\n" + table(head, rows)


def mask_text(layout: Layout, mask: Tensor, states: Tensor) -> str:
    """Draws an edge mask in characters: a row attends to the marked columns."""
    if len(layout) > _MOST:
        return f"Mask of {len(layout)} tokens: {int(mask.sum())} of {mask.numel()} pairs allowed; see plot_mask()."
    symbol = {ABSENT: "absent", LATENT: "latent", OBSERVED: "observed"}
    width = max(len(layout.label(slot)) for slot in range(len(layout)))
    lines = ["Edge mask (rows attend to columns, in the order of the rows):"]
    for slot in range(len(layout)):
        row = " ".join("■" if allowed else "·" for allowed in mask[slot].tolist())
        lines.append(f"{layout.label(slot):<{width}}  {symbol[int(states[slot])]:<8}  {row}")
    return "\n".join(lines)


def _pattern(layout: Layout, rule: MaskRule, name: str, parent: str) -> str:
    """Tells how a variable is linked to a parent: all elements to all, or each to its own."""
    mine = rule.families.members[:, layout.slots(name)].any(1)
    links = rule.families.parents[mine][:, layout.slots(parent)]
    return "all" if bool(links.all()) else f"{int(torch.count_nonzero(links, 1).max())} of {links.shape[1]}"
