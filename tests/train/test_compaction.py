from dataclasses import replace

import pytest
import torch
from curves import smooth
from samples import TINY, randomised
from torch.distributions import Categorical, Dirichlet, Normal

import simgraph as sg
from simgraph import Graph, node, plate
from simgraph.compile.masks import ABSENT, LATENT
from simgraph.traces.seeds import torch_stream
from simgraph.train import compaction
from simgraph.train.compaction import packed, packing, sparse
from simgraph.train.conditions import Conditions
from simgraph.train.embedding import Learner
from simgraph.train.fit import build
from simgraph.train.gradients import Workers
from simgraph.train.run import Run, whole

member = plate("member", size=(1, 9))


@node
def shares():
    return Dirichlet(torch.ones(3))


@node(plates=member)
def label(shares):
    return Categorical(shares)


@node(plates=member)
def place(label):
    return Normal(label * torch.ones(2), 1.0)


groups = Graph(shares, label, place)


def generator():
    return torch_stream(0, "compaction")


def prepared(graph, scored=False):
    traces = graph.simulate(40, seed=0, progress=False)
    compiled = sg.compile(graph, traces).fit(traces)
    tokens = compiled.layout.tokenize_traces(traces, generator())
    if scored:
        tokens = replace(tokens, scores=torch.rand(*tokens.values.shape[:2], 3, generator=generator()))
    learner = Learner(build(compiled, TINY.architecture), compiled.layout)
    randomised(learner).requires_grad_(True)
    run = Run(compiled, learner, Conditions(compiled), TINY, generator(), tokens.exists)
    states, masks = run.ask(tokens)
    noise = torch.randn(tokens.values.shape, generator=generator())
    sigma = 0.2 + torch.rand(len(tokens), generator=generator())
    return learner, whole((tokens.values, noise, sigma, states, masks), tokens)


@pytest.mark.parametrize("scored", [False, True])
@pytest.mark.parametrize("graph", [smooth, groups], ids=["functions", "a plate"])
def test_packed_rows_have_the_same_loss_and_gradients(graph, scored, monkeypatch):
    learner, batch = prepared(graph, scored)
    parameters = list(learner.parameters())
    found = []
    for short in (1000, 2):
        monkeypatch.setattr(compaction, "_LEAST", short)
        assert sparse(batch[3]) == (short == 2)
        with Workers.start() as workers:
            loss = workers.backward(learner, batch)
            losses = workers.losses(learner, batch, 7)
        found.append((loss, losses, [None if p.grad is None else p.grad.clone() for p in parameters]))
    (loss, losses, gradients), (other, other_losses, others) = found
    assert loss == pytest.approx(other, rel=1e-5)
    assert torch.allclose(losses, other_losses, rtol=1e-4)  # row by row, in the order that they came in
    assert any(own is not None and own.abs().sum() > 0 for own in gradients)
    for first, second in zip(gradients, others, strict=True):
        assert (first is None) == (second is None)
        assert first is None or torch.allclose(first, second, atol=1e-5)


def test_rows_keep_the_tokens_that_are_present(monkeypatch):
    monkeypatch.setattr(compaction, "_LEAST", 2)
    states = torch.full((3, 10), ABSENT)
    states[0, [1, 7]] = LATENT
    states[1, 4] = LATENT
    slots = packing(states)
    assert slots.shape == (3, 2)
    assert slots[0].tolist() == [1, 7]
    assert slots[1, 0] == 4
    assert packed(states, slots)[1].tolist() == [LATENT, ABSENT]
    values = torch.randn(3, 10, 2, 4)
    assert torch.equal(packed(values, slots)[0], values[0, [1, 7]])


def test_rows_that_are_nearly_full_or_short_stay_as_they_are():
    full = torch.full((4, 40), LATENT)
    full[0] = ABSENT
    assert packing(full) is None
    assert packing(torch.full((4, 10), ABSENT)) is None
    assert packing(torch.full((4, 40), ABSENT)).shape == (4, 1)
