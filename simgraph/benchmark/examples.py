"""Runs the examples in full, and writes what they say, show and take: ``python -m simgraph.benchmark.examples docs``.

It is to be called from the folder that holds ``examples``. Names behind the folder run those again, and keep the
others. Pictures go to ``examples`` in the folder, beside ``examples.json`` and ``examples.md``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from simgraph import files
from simgraph.benchmark.report import facts, machine, write_json, write_text
from simgraph.errors import DeclarationError, SimgraphError, listed

__all__ = ["main"]

_SEED = 0
"""What the examples themselves use."""


def main(folder: str = "docs", *names: str) -> None:
    """Runs all examples, or some again, and writes examples.json, examples.md and their pictures to a folder."""
    programs = {path.stem: path for path in sorted(Path("examples").glob("*.py"))}
    unknown = set(names) - set(programs)
    if unknown or not programs:
        raise DeclarationError(f"unknown examples {sorted(unknown)}; there are {listed(programs)}.")
    target = Path(folder)
    kept = target / "examples.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    for name in names or programs:
        print(f"{name} ...", flush=True)
        found[name] = run(programs[name], target / "examples")
        write_json(kept, found)
        write_text(target / "examples.md", report(found))
    print(report(found))


def run(program: Path, pictures: Path) -> dict[str, Any]:
    """Runs one example.

    Args:
        program: The file.
        pictures: Where its pictures go.

    Returns:
        Its seconds, what it said, the names of its pictures, and the machine.

    Raises:
        SimgraphError: If it fails.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path]).strip(os.pathsep)}
    with tempfile.TemporaryDirectory() as place:
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(program.resolve())], cwd=place, env=environment, capture_output=True, text=True
        )
        seconds = time.monotonic() - begin
        if done.returncode:
            raise SimgraphError(f"{program} failed:\n{done.stderr[-2000:]}")
        drawn = sorted(Path(place).glob("*.png"))
        pictures.mkdir(parents=True, exist_ok=True)
        for picture in drawn:
            files.write_with(pictures / picture.name, partial(shutil.copyfile, picture))
        return {
            "seconds": seconds,
            "said": done.stdout,
            "pictures": [picture.name for picture in drawn],
            "machine": machine(_SEED),
        }


def report(found: dict[str, Any]) -> str:
    """Formats what the examples said as Markdown."""
    parts = [
        "# Examples, run in full",
        "Written by `python -m simgraph.benchmark.examples docs`, which runs the programs in [examples](../examples).",
    ]
    for name, own in sorted(found.items()):
        parts += [
            f"## {name}",
            f"[{name}.py](../examples/{name}.py), {own['seconds']:.0f} s. Machine: {facts(own['machine'])}.",
            f"```text\n{own['said'].strip()}\n```",
            *(f"![{picture}](examples/{picture})" for picture in own["pictures"]),
        ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
