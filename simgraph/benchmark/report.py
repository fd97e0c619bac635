"""What the programs that measure have in common: the facts of the machine, and files that are never half written."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from simgraph import files
from simgraph.version import __version__

__all__ = ["facts", "machine", "machines", "markdown_table", "write_json", "write_text"]


def machine(seed: int) -> dict[str, Any]:
    """Returns what the figures depend on."""
    return {
        "date": date.today().isoformat(),
        "simgraph": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "seed": seed,
    }


def _processor() -> str:
    """Returns the model of the processor where Linux tells it, else the architecture: speeds differ twofold."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def facts(found: dict[str, Any]) -> str:
    """Formats facts on one line."""
    return ", ".join(f"{name} {value}" for name, value in found.items())


def machines(parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Tells where each part was measured, a paragraph for all that share it: parts can be measured again alone.

    Example:
        >>> print(machines({"a": {"machine": {"cores": 2}}, "b": {"machine": {"cores": 2}}}))
        a, b: cores 2.
    """
    shared: dict[str, list[str]] = {}
    for name, part in parts.items():
        shared.setdefault(facts(part["machine"]), []).append(name)
    return "\n\n".join(f"{', '.join(names)}: {found}." for found, names in shared.items())


def write_json(path: str | os.PathLike[str], found: dict[str, Any]) -> None:
    """Writes measurements, atomically."""
    write_text(path, json.dumps(found, indent=1) + "\n")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text, atomically."""
    files.write_with(path, lambda temporary: Path(temporary).write_text(text))


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats rows under a head as a Markdown table.

    Example:
        >>> print(markdown_table(("name", "shape"), [("theta", "(2,)")]))
        | name | shape |
        |---|---|
        | theta | (2,) |
    """
    rule = "|" + "---|" * len(head)
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], rule, *lines[1:]])
