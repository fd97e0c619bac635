"""The tasks with functions, and the program that measures their calibration."""

import json

import numpy as np
import pytest

import simgraph as sg
from simgraph.benchmark import functions
from simgraph.benchmark.sird import sird
from simgraph.benchmark.volterra import population, volterra
from simgraph.errors import DeclarationError


def test_populations_have_the_published_spread():
    rates = volterra.prune("rates").simulate(4000, progress=False)["rates"]
    # Of 20 000 draws without noise; four standard errors are 0.04 to 0.05.
    for which, time, mean, sd in ((0, 5.034, 0.896, 0.570), (1, 5.034, 1.349, 0.742), (0, 15.0, 1.042, 0.661)):
        found = population(rates, which, np.full((4000, 1), time))
        assert abs(found.mean() - mean) < 0.05
        assert abs(found.std() - sd) < 0.05


def test_the_noise_of_populations_is_a_tenth():
    traces = volterra.simulate(500, at={"t_prey": [3.0]}, progress=False)
    left = traces["prey"] - population(traces["rates"], 0, np.full((500, 1), 3.0))
    assert abs(left.std() - 0.1) < 0.015


@pytest.mark.slow
def test_epidemics_have_the_published_spread():
    at = {"t_beta": [25.0], "t_infected": [10.1], "t_recovered": [10.1, 50.0], "t_dead": [10.1]}
    traces = sird.simulate(1024, at=at, progress=False)
    # Of 20 000 draws without noise; four standard errors are an eighth of the standard deviation.
    for name, number, mean, sd in (
        ("beta", 0, 0.502, 0.345),
        ("infected", 0, 0.0725, 0.1203),
        ("recovered", 0, 0.195, 0.191),
        ("recovered", 1, 0.306, 0.259),
        ("dead", 0, 0.197, 0.193),
    ):
        assert abs(traces[name][:, number].mean() - mean) < sd / 8
        assert abs(traces[name][:, number].std() / sd - 1) < 0.15


def test_the_band_holds_uniform_ranks_and_refuses_others():
    rng = np.random.default_rng(1)
    assert functions.band(rng.integers(0, 100, 200), 99)["inside"]
    narrow = functions.band(rng.integers(30, 70, 200), 99)
    assert not narrow["inside"]
    assert narrow["beyond"] > 0.1


def test_data_sets_are_the_same_in_every_process():
    _, evidence = functions.simulated(functions.TASKS["sird"], 3, 2)
    first = [evidence[name][0].points[0] for name in ("infected", "recovered", "dead")]
    rng = np.random.default_rng([functions.SEED, 3])
    expected = [np.sort(rng.uniform(0, 50, size=(2, 3)), 1)[0, 0] for _ in first]
    np.testing.assert_array_equal(first, expected)


def test_curves_belong_to_their_truth():
    task = functions.TASKS["volterra"]
    truth, evidence = functions.simulated(task, 3, 4)
    for row in range(4):
        curve = evidence["prey"][row]
        right = population(truth["rates"][row][None], 0, curve.points[None])[0]
        assert np.abs(curve.values - right).max() < 0.6  # six standard deviations of the noise


def test_what_is_measured_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(functions, "SIMULATIONS", 60)
    monkeypatch.setattr(functions, "DATA_SETS", 4)
    monkeypatch.setattr(functions, "POINTS", (2,))
    monkeypatch.setattr(functions, "SETTINGS", sg.Settings(steps=5))
    monkeypatch.setattr(functions.measure, "__defaults__", (4, 9))
    functions.main(str(tmp_path), "20", "volterra")
    found = json.loads((tmp_path / "functions.json").read_text())["graphs"]["volterra"]
    assert len(found["points"]["2"]["quantities"]) == 4 + 2 * 5
    assert "Training: 60 traces, width 64, 5 steps, " in (tmp_path / "functions.md").read_text()
    text = (tmp_path / "functions.md").read_text()
    assert "| 2 | rates[0] |" in text
    outside = sum(not one["inside"] for one in found["points"]["2"]["quantities"].values())
    assert f" s. {outside} of 14 quantities leave the band, by " in text
    assert "up to 1 would in 99% of such tables." in text  # P(1 or fewer of 14) = 0.992


def test_unknown_graphs_are_refused(tmp_path):
    with pytest.raises(DeclarationError, match="there are volterra, sird"):
        functions.main(str(tmp_path), "lotka")
