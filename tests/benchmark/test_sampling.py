"""The program that measures draws."""

import re

import pytest

import simgraph as sg
from simgraph.benchmark import sampling
from tests.samples import TINY


@pytest.mark.slow
def test_a_measurement_of_a_hardly_trained_model(monkeypatch):
    for name, value in {
        "SIMULATIONS": 400,
        "DRAWS": 50,
        "SCORED": 100,
        "STEPS": 20,
        "OBSERVED": 400,  # of a hundred, both forms take as long
        "ROWS": 4,
    }.items():
        monkeypatch.setattr(sampling, name, value)
    monkeypatch.setattr(sampling, "fit", lambda *args, **options: sg.fit(*args, **{"preset": TINY, **options}))
    found = {
        "two_moons": sampling.posterior("two_moons"),
        "slcp_cached": sampling.posterior("slcp", "cached"),
        "cached": sampling.cached(),
    }
    for task in ("two_moons", "slcp_cached"):
        assert len(found[task]["seconds"]) == len(found[task]["c2st"]) == 5
        assert min(found[task]["c2st"]) > 0.6  # the network knows next to nothing
    assert found["cached"]["cached"] < found["cached"]["relay"]
    text = sampling.report({name: {**part, "machine": {"cores": 2}} for name, part in found.items()})
    score = r"[01]\.\d{4}"
    row = rf" \| \d+ \| 13 \| \d+\.\d \| 100 \| {score} \| {score} \| [+-]{score} ± {score} \|"
    assert re.search(r"\| two moons" + row, text)
    assert re.search(r"\| SLCP, `observed=\"cached\"`" + row, text)
    assert re.search(r"given 400 observed ones take .* \d+ times less\.", text)
