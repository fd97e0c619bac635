import json
from functools import partial

import pytest
import torch

from simgraph.benchmark import mask_speed
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.simformer import Architecture

SMALL = Architecture(width=8, depth=2, heads=2, widening=1)


def test_graphs_have_about_the_size_asked_for():
    for name, families in mask_speed.graphs(120).items():
        assert (families.members.sum(0) == 1).all(), name
        assert not (families.members & families.parents).any(), name
        assert 100 <= families.members.shape[1] <= 130, name


def test_graphs_are_what_they_are_called():
    graphs = mask_speed.graphs(110)
    assert graphs["chain"].parents.sum() == 109
    assert graphs["hidden Markov model"].parents.sum() == 54 + 55
    assert graphs["plate"].members.sum(1).max() == 10
    assert graphs["hierarchy"].parents.sum(1).max() == 2
    assert graphs["black box"].members[-1].sum() == 100
    assert graphs["black box"].parents[-1].sum() == 10


def test_random_states_are_distinct_and_of_all_kinds():
    states = mask_speed.random_states(40, 10, torch.Generator().manual_seed(0))
    assert len(torch.unique(states, dim=0)) == 10
    assert set(states.unique().tolist()) == {ABSENT, LATENT, OBSERVED}


def test_chains_count_the_pairs_of_their_masks():
    rows = mask_speed.chains((4, 16), (2, 3), repeats=1)
    assert [(row["tokens"], row["depth"]) for row in rows] == [(4, 2), (4, 3), (16, 2), (16, 3)]
    # All latent: each of four tokens has to read the others within the depth; at least its neighbours and itself.
    assert all(row["tokens"] + 2 * (row["tokens"] - 1) <= row["pairs"] <= row["tokens"] ** 2 for row in rows)
    assert rows[0]["pairs_per_n_log2_n"] == pytest.approx(rows[0]["pairs"] / 8)


def test_a_step_is_timed_over_a_whole_cycle_of_the_pool():
    found = mask_speed.step(tokens=4, batch_size=2048, cycles=1, architecture=SMALL)
    assert found["tokens"] == 4
    assert found["steps"] == 4  # a pool of 2 048 masks is used four times over
    assert 0 < found["share"] < 1
    assert found["mean_draw_milliseconds"] < found["mean_step_milliseconds"]


def test_the_command_writes_its_measurements(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mask_speed, "masks", partial(mask_speed.masks, 33, 2))
    monkeypatch.setattr(mask_speed, "step", partial(mask_speed.step, 4, 2048, 1, SMALL))
    monkeypatch.setattr(mask_speed, "chains", partial(mask_speed.chains, (8,), (2,), 1))
    mask_speed.main(str(tmp_path))
    found = json.loads((tmp_path / "mask_speed.json").read_text())
    assert {row["graph"] for row in found["masks"]} == set(mask_speed.graphs(33))
    text = (tmp_path / "mask_speed.md").read_text()
    assert text == mask_speed.report(found)
    assert "| black box | 33 |" in text
    assert text.strip() in capsys.readouterr().out
