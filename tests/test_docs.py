"""The programs in docs/masks.md run."""

import re
from pathlib import Path

import numpy as np
import torch
from torch.distributions import Normal

import simgraph as sg
from simgraph import Graph, node

ROOT = Path(__file__).parent.parent


@node
def theta():
    return Normal(torch.zeros(10), 1.0)


@node
def x(theta):
    return Normal(theta, 1.0)


def test_programs_about_masks_run(capsys):
    graph = Graph(theta, x)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "masks.md").read_text(), flags=re.S)
    assert len(blocks) == 4
    names = {"sg": sg, "node": node, "graph": graph, "my_graph": graph, "observed": np.arange(10) < 3}
    for block in blocks:
        exec(block, names)
    printed = capsys.readouterr().out
    assert "traced" in printed
    assert "class x observed" in printed
    declared = Graph(theta, names["x"], names["y"])
    assert {link.origin for link in sg.compile(declared, _traces(declared)).links} == {"traced", "declared"}
    names["test_masks"]()
    names["test_one_by_one"]()


def _traces(graph):
    """Traces of programs whose functions are left out in the documentation."""
    from simgraph.traces import Traces

    shapes = {"theta": 10, "x": 50, "y": 10}
    return Traces({name: np.zeros((4, size)) for name, size in shapes.items()})
