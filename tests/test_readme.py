"""The README stays true: its programs and commands run as they stand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def run(arguments, folder, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::UserWarning"}
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("readme")
    (path / "coin.py").write_text(blocks("python")[0])
    return path


@pytest.mark.slow
def test_programs_run_and_give_the_answers_they_promise(folder):
    (folder / "all.py").write_text("\n".join(blocks("python")))
    lines = run([sys.executable, "all.py"], folder, timeout=400).splitlines()
    mean, sd = (float(number) for number in re.findall(r"tensor\(([-\d.]+)\)", "\n".join(lines))[:2])
    # A few thousand simulations and the fast preset: within a third of a standard deviation.
    assert abs(mean - 0.692) < 0.02
    assert abs(sd - 0.045) < 0.02


@pytest.mark.slow
def test_commands_run_in_their_order(folder):
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("simgraph ")]
    assert len(commands) == 3
    for command in commands:
        run([sys.executable, "-m", *shlex.split(command)], folder, timeout=300)
    assert (folder / "bias.csv").read_text().startswith("bias")
    assert len((folder / "bias.csv").read_text().splitlines()) == 501


def test_make_knows_the_commands_of_the_readme():
    commands = re.findall(r"^make (\w+)", README, flags=re.MULTILINE)
    assert {"demo", "test"} <= set(commands)
    for command in commands:
        run(["make", "-n", command], ROOT)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
