"""The program that measures queries."""

import re

import numpy as np
import pytest
import torch

import simgraph as sg
from simgraph.benchmark import queries
from simgraph.benchmark.queries_report import report
from simgraph.benchmark.two_moons import two_moons
from tests.samples import TINY


@pytest.fixture
def small(monkeypatch):
    for name, value in {
        "DRAWS": 60,
        "POINTS": 5,
        "BRUTE": 200_000,
        "PIECES": 3,
        "EACH": 40,
        "METHODS": ("auto", "guided"),
    }.items():
        monkeypatch.setattr(queries, name, value)
    graphs = {"linear": queries.linear, "two_moons": two_moons}
    return {
        name: sg.fit(graph, num_simulations=400, preset=TINY, seed=0, progress=False) for name, graph in graphs.items()
    }


@pytest.mark.slow
def test_a_measurement_of_hardly_trained_models(small, monkeypatch):
    kept = {name: queries.QUESTIONS[name] for name in ("0.2 < x[0] < 0.6", "x[0] > max(theta), a predicate")}
    monkeypatch.setattr(queries, "QUESTIONS", kept)
    found = {part: getattr(queries, part)(small) for part in ("restrictions", "densities", "moons", "many")}
    rows = found["restrictions"]["rows"]
    assert [row["method"] for row in rows] == ["auto", "guided", "auto"]
    assert all(row["satisfied"] == 1.0 for row in rows if row["method"] != "guided")
    assert found["densities"]["laws"]["joint"]["points"] == 5
    assert found["densities"]["laws"]["joint"]["mean_error"] > 0.1  # the network knows next to nothing
    assert found["densities"]["mass"] == pytest.approx(1, abs=0.2)
    assert found["moons"]["rows"][0]["satisfied"] == 1.0
    assert found["many"]["shape"] == [3, 40, 2]
    text = report({"simulations": 400, **{name: {**part, "machine": {"cores": 2}} for name, part in found.items()}})
    assert re.search(r"\| `0.2 < x\[0\] < 0.6` \| auto \| 0\.\d{3} \| 0\.\d{3} \| 100\.0% \|", text)
    assert "40 draws for each of 3 observations" in text


def test_a_question_without_an_answer_is_a_row():
    row = {"demand": "x > 9", "method": "auto", "seconds": 120.0, "notes": []}
    found = {"noise": 0.5, "draws": 60, "rows": [row], "machine": {"cores": 2}}
    text = report({"simulations": 400, "restrictions": found})
    assert re.search(r"\| `x > 9` \| auto \| no draws \| +\| +\| 120\.0 \|", text)


def test_right_draws_of_the_linear_graph(monkeypatch):
    monkeypatch.setattr(queries, "DRAWS", 5_000)
    _, holds = queries.QUESTIONS["theta[0] + theta[1] > 2"]
    right = queries._linear_truth(holds, 1)
    assert (right[:, :2].sum(1) > 2).all()
    # The sum is N(0, 2) above 2: its mean is sqrt(2) times the inverse Mills ratio at sqrt(2), 3.012, sd 0.58.
    z = torch.tensor(2**0.5)
    mills = torch.exp(-z.square() / 2) / (2 * torch.pi) ** 0.5 / (1 - torch.special.ndtr(z))
    expected = 2**0.5 * float(mills)
    assert abs(right[:, :2].sum(1).mean() - expected) < 4 * 0.8 / 5_000**0.5
    assert abs((right[:, 2] - right[:, 0]).std() - queries.NOISE) < 4 * queries.NOISE / 10_000**0.5


def test_right_draws_of_two_moons_are_those_of_the_graph(monkeypatch):
    monkeypatch.setattr(queries, "BRUTE", 2_000_000)
    right = queries._moons_truth(0)
    traces = two_moons.simulate(20_000, seed=3, progress=False)
    both = np.concatenate([traces["theta"], traces["x"]], 1)
    mine = both[queries._moons_hold(both)]
    share = len(right) / 200_000
    assert abs(len(mine) / 20_000 - share) < 4 * (share / 20_000) ** 0.5 * 1.05
    error = 4 * (1 / len(mine) + 1 / len(right)) ** 0.5 * right.std(0)
    assert (np.abs(mine.mean(0) - right.mean(0)) < error).all()
