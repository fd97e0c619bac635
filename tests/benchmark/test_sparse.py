import json
from functools import partial

import pytest
import torch

from simgraph import compile
from simgraph.benchmark import sparse
from simgraph.benchmark.chain import covariance, exact_loss, linear_chain, standardised
from simgraph.benchmark.sparse_report import report
from simgraph.compile.edges import EdgeList
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.simformer import Architecture
from simgraph.train import Settings

TINY = Settings(steps=3, batch_size=4, evaluations=1, architecture=Architecture(width=8, depth=2, heads=2, widening=1))


def test_the_covariance_is_that_of_the_chain():
    traces = linear_chain(3).simulate(20_000, seed=0, progress=False)
    names = [f"theta_{step}" for step in range(3)] + [f"x_{step}" for step in range(3)]
    found = torch.cov(torch.stack([torch.as_tensor(traces[name]).double() for name in names]))
    # Entries are near one; their standard deviation is at most sqrt(2 / 20 000) * 1.25 = 0.0125.
    assert torch.allclose(found, covariance(3), atol=0.05)


def test_tokens_are_those_of_the_layout():
    graph = linear_chain(2)
    traces = graph.simulate(5_000, seed=0, progress=False)
    layout = compile(graph, traces).fit(traces).layout
    mean, spread = standardised(layout)
    assert torch.allclose(mean, torch.zeros(4, dtype=torch.float64), atol=0.06)
    assert torch.allclose(spread.diagonal(), torch.ones(4, dtype=torch.float64), atol=0.1)
    tokens = layout.tokenize_traces(traces).values[..., 0].T.double()
    assert torch.allclose(torch.cov(tokens), spread, atol=0.1)


def test_the_exact_loss_of_two_tokens_is_that_of_the_formula():
    spread, mean = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    x_0, noise = torch.tensor([[0.5, 1.0]] * 3), torch.tensor([[0.3, -2.0]] * 3)
    states = torch.tensor([[LATENT, OBSERVED], [LATENT, ABSENT], [LATENT, LATENT]])
    sigma = torch.full((3,), 0.5)
    losses = exact_loss(mean, spread, x_0, noise, sigma, states)
    noised = 0.5 + 0.5 * 0.3
    given = 0.8 + 0.36 / (0.36 + 0.25) * (noised - 0.8)
    assert losses[0].tolist() == pytest.approx([5 * (given - 0.5) ** 2, 0.0])
    assert losses[1].tolist() == pytest.approx([5 * (noised / 1.25 - 0.5) ** 2, 0.0])
    both = spread @ torch.linalg.inv(spread + 0.25 * torch.eye(2)) @ torch.tensor([noised, 0.0], dtype=torch.float64)
    assert losses[2].tolist() == pytest.approx((5 * (both - x_0[2]).square()).tolist())


def test_both_forms_take_the_same_steps():
    found = sparse.race(tokens=20, steps=1, batch_size=4, force=True)
    losses = found["losses"]
    assert len(losses["tables"]) == 3
    assert losses["lists"] == pytest.approx(losses["tables"], rel=1e-4)
    assert 0 < found["share"] <= 1
    assert all(value > 0 for value in found["kept_bytes_per_token"].values())


def test_padding_is_told_by_the_longest_list():
    mask = torch.eye(4, dtype=torch.bool).repeat(2, 1, 1)
    mask[0, 2] = True
    # Lists of 1, 1, 4, 1 and of 1, 1, 1, 1: padded, 4 * 4 and 4 * 1.
    assert sparse._padding(EdgeList.of_dense(mask)) == pytest.approx(20 / 11)


def test_lists_keep_less_where_they_are_chosen():
    found = sparse.race(tokens=400, steps=1, batch_size=2)
    assert found["losses"]["lists"] == pytest.approx(found["losses"]["tables"], rel=1e-4)
    assert found["kept_bytes_per_token"]["lists"] < found["kept_bytes_per_token"]["tables"]
    assert found["share"] < 1 / 32


def test_learning_is_held_against_the_exact_denoiser():
    found = sparse.learning(tokens=6, simulations=40, tests=200, settings=TINY)
    losses = found["losses"]
    assert found["steps"] == 3
    # The exact denoiser is the best one: 3 steps do not come near it.
    assert losses["exact"] < losses["trained"]
    assert losses["exact"] < losses["untrained"]
    assert found["sampling"]["difference"] < 1e-3  # single precision, through the steps of the solver


def test_the_command_writes_its_measurements(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sparse, "race", partial(sparse.race, 16, 1, 4, True))
    monkeypatch.setattr(sparse, "lengths", lambda: [{"tokens": 16, "share": 0.5, "step_seconds": TIMES, "ratio": 2.0}])
    monkeypatch.setattr(sparse, "shares", partial(sparse.shares, (16,), (0.25,), 1))
    monkeypatch.setattr(sparse, "learning", partial(sparse.learning, 6, 20, 4, TINY))
    sparse.main(str(tmp_path))
    found = json.loads((tmp_path / "sparse.json").read_text())
    text = (tmp_path / "sparse.md").read_text()
    assert text == report(found)
    assert "| 16 | 50 % | 4 | 2 | 2.00 |" in text
    assert "| 16 | 25 % |" in text
    assert text.strip() in capsys.readouterr().out


def test_lengths_race_each_length():
    rows = sparse.lengths((8, 16), steps=1, batch_size=2)
    assert [row["tokens"] for row in rows] == [8, 16]
    assert all(row["ratio"] > 0 for row in rows)


TIMES = {"tables": 0.004, "lists": 0.002}
