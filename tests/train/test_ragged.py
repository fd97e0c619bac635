"""Training where traces have different numbers of plate elements."""

import numpy as np
import pytest
import torch
from samples import TINY, randomised
from schools import counted, schools

import simgraph as sg
from simgraph import Traces
from simgraph.compile import masks as rules
from simgraph.compile.edges import EdgeList
from simgraph.compile.layout import Tokens
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.errors import FileFormatError
from simgraph.simformer import Architecture
from simgraph.train.conditions import Conditions, Pool, Pools
from simgraph.train.embedding import Learner
from simgraph.train.fit import build, train
from simgraph.train.run import Run

compiled = sg.compile(counted)
LAYOUT = compiled.layout


def generator():
    return torch.Generator().manual_seed(0)


def of_sizes(*sizes):
    return LAYOUT.within({"school": np.array(sizes)})


def test_states_ask_about_what_exists():
    exists = of_sizes(*[2, 3, 5] * 200)
    states = Conditions(compiled).draw(600, generator(), exists)
    assert (states[~exists] == ABSENT).all()
    assert (states == LATENT).any(1).all()
    for state in (ABSENT, LATENT, OBSERVED):
        assert (states[exists] == state).any()


def test_own_queries_ask_about_what_exists():
    own = compiled.states(["score"], ["mu", "effect"])
    exists = of_sizes(*[2] * 400)
    states = Conditions(compiled, [own]).draw(400, generator(), exists)
    asked = (states == torch.where(exists[0], own, ABSENT)).all(1).double().mean()
    assert 0.4 < asked < 0.6  # half of them, +- 0.025 for one standard deviation


def test_pools_have_the_masks_of_each_set_of_tokens():
    exists = of_sizes(2, 5, 3, 2, 4, 5)
    states, masks = Pools(Conditions(compiled), compiled, 2, generator(), exists).draw(exists)
    assert (states[~exists] == ABSENT).all()
    assert torch.equal(masks, compiled.rule.edge_mask(states, 2, exists))


@pytest.mark.parametrize(("sparse", "listed"), [(1.0, True), (0.0, False)])
@pytest.mark.parametrize("most", [1, 256])
def test_pools_hand_out_lists_where_masks_are_sparse(sparse, listed, most, monkeypatch):
    monkeypatch.setattr(rules, "SHORT", 0)
    monkeypatch.setattr(rules, "SPARSE", sparse)
    monkeypatch.setattr(Pools, "_MOST", most)
    exists = of_sizes(2, 5, 3, 2, 4, 5)
    states, masks = Pools(Conditions(compiled), compiled, 2, generator(), exists).draw(exists)
    assert isinstance(masks, EdgeList) == listed
    table = masks.dense() if isinstance(masks, EdgeList) else masks
    assert torch.equal(table, compiled.rule.edge_mask(states, 2, exists))


def test_pools_share_their_memory():
    exists = of_sizes(2, 3, 4, 5)
    pools = Pools(Conditions(compiled), compiled, 2, generator(), exists, most_bytes=4 * 100 * len(LAYOUT) ** 2)
    pools.draw(exists)
    assert [pool.size for pool in pools._pools.values()] == [100] * 4


def test_very_many_sets_of_tokens_need_no_pool(monkeypatch):
    monkeypatch.setattr(Pools, "_MOST", 2)
    exists = of_sizes(2, 3, 4, 5)
    pools = Pools(Conditions(compiled), compiled, 2, generator(), exists)
    states, masks = pools.draw(exists)
    assert not pools._pools
    assert torch.equal(masks, compiled.rule.edge_mask(states, 2, exists))


def learner(compiled):
    return Learner(build(compiled, TINY.architecture), compiled.layout)


def test_plain_traces_draw_from_one_pool():
    run = Run(compiled, learner(compiled), Conditions(compiled), TINY, generator())
    assert run.pools is None
    states, masks = run.ask(Tokens(torch.zeros(3, len(LAYOUT), 1), torch.ones(3, len(LAYOUT), dtype=torch.bool)))
    assert torch.equal(masks, compiled.rule.edge_mask(states, run.depth))
    assert isinstance(run.pool, Pool)


def test_missing_values_sit_out_and_absent_elements_do_not():
    values = counted.simulate(4, seed=0, sizes={"school": [2, 3, 4, 5]})
    columns = {name: values[name].copy() for name in values}
    columns["score"][1] = np.nan  # failed
    traces = Traces(columns, plates=values.plates, sizes=values.sizes)
    tokens = compiled.fit(traces).layout.tokenize_traces(traces)
    run = Run(
        compiled,
        Learner(build(compiled, TINY.architecture), compiled.layout),
        Conditions(compiled),
        TINY,
        generator(),
        tokens.exists,
    )
    asked = [run.ask(tokens) for _ in range(60)]
    states = torch.stack([states for states, _ in asked])
    slots = LAYOUT.slots("score")
    assert (states[:, 1, slots] == ABSENT).all()
    sits_out = (states == ABSENT).all(2).double().mean(0)
    assert sits_out[1] > 0.5
    assert sits_out[[0, 2, 3]].sum() == 0
    for drawn, masks in asked:
        assert torch.equal(masks, compiled.rule.edge_mask(drawn, run.depth, tokens.exists))


def test_the_network_does_not_see_what_does_not_exist():
    denoiser = randomised(build(compiled, Architecture(width=16, depth=2, heads=2)))
    exists = of_sizes(2, 3, 5)
    states, masks = Pools(Conditions(compiled), compiled, 2, generator(), exists).draw(exists)
    x_0, noise = torch.randn(2, 3, len(LAYOUT), LAYOUT.width, generator=generator())
    sigma = torch.tensor([0.1, 1.0, 5.0])
    other = torch.where(exists.unsqueeze(-1), x_0, 100.0)
    first, second = (denoiser.loss(values, noise, sigma, states, masks) for values in (x_0, other))
    assert torch.equal(first, second)
    assert (first[~exists] == 0).all()


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_row_of_a_size_is_the_model_of_that_size(size):
    denoiser = randomised(build(compiled, Architecture(width=16, depth=2, heads=2)))
    from simgraph.train import History, Trained
    from simgraph.train.ranges import Ranges

    trained = Trained(compiled, denoiser, History(), Ranges({}, {}, 0)).sized({"school": size})
    exists = of_sizes(size)
    here = exists[0]
    states, masks = Pools(Conditions(compiled), compiled, 2, generator(), exists).draw(exists)
    x = torch.randn(1, len(LAYOUT), LAYOUT.width, generator=generator())
    sigma = torch.tensor([0.7])
    whole = denoiser(x, sigma, states, masks)[:, here]
    own = trained.compiled.rule.edge_mask(states[:, here], 2)
    alone = trained.denoiser(x[:, here], sigma, states[:, here], own)
    # Sums over more keys, most of them masked out, are rounded differently in single precision.
    torch.testing.assert_close(whole, alone, rtol=1e-4, atol=1e-5)


def test_training_learns_from_ragged_traces():
    traces = schools.simulate(60, seed=0)
    both = [train(sg.compile(schools, traces), traces, TINY, seed=1, progress=False) for _ in range(2)]
    assert all(np.isfinite(row["training_loss"]) for row in both[0].history.rows)
    assert both[0].history["validation_loss"] == both[1].history["validation_loss"]


def test_training_learns_where_values_are_missing_too():
    traces = counted.simulate(60, seed=0)
    columns = {name: traces[name].copy() for name in traces}
    columns["score"][:6] = np.nan  # failed
    columns["level"][3:9] = np.nan
    traces = Traces(columns, plates=traces.plates, sizes=traces.sizes)
    assert traces.missing("score").sum() == traces.sizes["school"][:6].sum()
    found = train(sg.compile(counted, traces), traces, TINY, seed=1, progress=False)
    assert np.isfinite(found.history["validation_loss"]).all()


def test_a_file_keeps_the_range(tmp_path):
    model = sg.fit(schools, num_simulations=40, preset=TINY, progress=False)
    model.save(tmp_path / "model.sg")
    loaded = sg.load(tmp_path / "model.sg")
    assert loaded.compiled.layout.ragged == model.compiled.layout.ragged
    assert "score[2..5]" in repr(loaded)
    evidence = {"score": [0.3, 0.1, -0.2]}
    left, right = (m.given(evidence).sample("effect", num_samples=4, seed=0) for m in (model, loaded))
    assert torch.equal(left, right)
    assert loaded.linked(schools).graph is schools
    with pytest.raises(sg.SimgraphError, match="plates of node 'effect' was"):
        sg.load(tmp_path / "model.sg", graph=schools.replace(*_fixed()))


def test_a_file_whose_range_does_not_fit_is_refused(tmp_path, monkeypatch):
    model = sg.fit(schools, num_simulations=40, preset=TINY, progress=False)
    for plate, ends, message in (("school", (2, 6), "has 5 elements of a plate of 2..6"), ("q", (1, 2), "no variable")):
        model.compiled.layout.ragged.clear()
        model.compiled.layout.ragged[plate] = sg.plate(plate, size=ends)
        model.save(tmp_path / "model.sg")
        with pytest.raises(FileFormatError, match=message):
            sg.load(tmp_path / "model.sg")


def _fixed():
    from simgraph.graph.ragged import largest

    return [node for node in largest(schools).values() if node.plates]
