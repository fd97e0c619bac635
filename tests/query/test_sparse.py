"""Training and asking along lists of pairs give what tables give."""

import math

import pytest
import torch
from samples import TINY, plated

import simgraph as sg
from simgraph.compile import masks as rules
from simgraph.compile.edges import EdgeList
from simgraph.query import problem
from simgraph.query.evidence import missing
from simgraph.train import fit

QUESTIONS = {
    "posterior": ({"score": [0.5, -0.2, 1.0]}, None),
    "in part": ({"score": missing([0.5, math.nan, 1.0])}, ["mu"]),
    "joint": ({}, None),
}


@pytest.fixture
def lists(monkeypatch):
    """Makes all masks lists, and remembers that they were."""
    seen = []
    found = rules.MaskRule.masks

    def masks(*args):
        seen.append(found(*args))
        return seen[-1]

    def switch():
        monkeypatch.setattr(rules, "SHORT", 0)
        monkeypatch.setattr(rules, "SPARSE", 10.0)  # absent tokens read themselves, too
        monkeypatch.setattr(rules.MaskRule, "masks", masks)
        return seen

    return switch


@pytest.mark.parametrize("observed", ["relay", "cached"])
def test_training_takes_the_same_steps(observed, lists):
    graph = plated()
    traces = graph.simulate(60, seed=0, progress=False)
    compiled = sg.compile(graph, traces, observed=observed)
    first = fit.train(compiled, traces, TINY, seed=1, progress=False)
    seen = lists()
    second = fit.train(compiled, traces, TINY, seed=1, progress=False)
    assert seen
    assert all(isinstance(masks, EdgeList) for masks in seen)
    for name in ("training_loss", "validation_loss"):
        # Single precision, over twelve steps; other batches would change the losses by 0.01 and more.
        assert second.history[name] == pytest.approx(first.history[name], rel=1e-3), name


@pytest.mark.parametrize("observed", ["relay", "cached"])
@pytest.mark.parametrize("name", QUESTIONS)
def test_answers_are_the_same(observed, name, lists):
    graph = plated()
    model = sg.fit(sg.compile(graph, observed=observed), num_simulations=60, preset=TINY, progress=False, seed=0)
    given, of = QUESTIONS[name]
    found = []
    for _ in range(2):
        query = model.given(**given)
        names = of or [name for name in ("mu", "effect", "score") if name not in given]
        drawn = query.sample(*names, num_samples=20, seed=3)
        values = {names[0]: drawn} if len(names) == 1 else {name: drawn[name] for name in names}
        found.append((values, query.log_prob(**values)))
        seen = lists()
    assert seen
    assert all(isinstance(masks, EdgeList) for masks in seen)
    # Errors of single precision, carried through the steps of the solvers.
    for key, value in found[0][0].items():
        torch.testing.assert_close(found[1][0][key], value, rtol=1e-3, atol=1e-3, msg=key)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("share", "form"), [(0.4, torch.Tensor), (0.02, EdgeList)])
def test_masks_of_some_tokens_are_the_same(share, form):
    table = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0)) < share
    queries, keys = torch.tensor([1, 4, 8, 39]), torch.tensor([8, 0, 2, *range(10, 40)])
    fewer = problem._among(EdgeList.of_dense(table), queries, keys)
    assert isinstance(fewer, form)
    right = problem._among(table, queries, keys)
    assert right.any()
    assert torch.equal(fewer.dense() if isinstance(fewer, EdgeList) else fewer, right)
