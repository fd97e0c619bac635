import numpy as np
import pytest

from simgraph.benchmark.demo import demo
from simgraph.benchmark.references import load_reference
from simgraph.benchmark.two_moons import two_moons


def test_the_reference_has_five_observations_and_their_posteriors():
    reference = load_reference("two_moons")
    assert reference.observations.shape == (5, 2)
    assert reference.samples.shape == (5, 10_000, 2)
    assert np.abs(reference.samples).max() <= 1


def test_the_task_simulates_its_observations():
    x = two_moons.simulate(500, seed=0)["x"]
    assert (
        (load_reference("two_moons").observations >= x.min(0)) & (load_reference("two_moons").observations <= x.max(0))
    ).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the time limit of 10 s ended")  # on a busy machine
def test_the_demo_prints_its_table_and_draws_its_figure(tmp_path, capsys):
    figure = tmp_path / "moons.png"
    model, rows = demo(
        num_simulations=500, num_samples=200, c2st_samples=200, preset="fast", time_limit=10, figure=figure
    )
    out = capsys.readouterr().out
    assert "observation  C2ST" in out
    assert len(rows) == 5
    assert all(0.4 < row.c2st <= 1 for row in rows)
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert model.given(x=[0.0, 0.0]).sample("theta", num_samples=3).shape == (3, 2)
