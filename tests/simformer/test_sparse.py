"""Attention along lists of pairs equals attention with a table of them: outputs and gradients."""

import pytest
import torch
from samples import mixed, plated, randomised

from simgraph import compile
from simgraph.compile import masks as rules
from simgraph.compile.edges import EdgeList
from simgraph.compile.masks import LATENT, OBSERVED
from simgraph.simformer import Architecture, sparse
from simgraph.simformer.attention import attend, barrier
from simgraph.simformer.sparse import Bags, attend_along
from simgraph.train.conditions import Conditions
from simgraph.train.fit import build

BATCH, HEADS, FEATURES = 3, 2, 4
WIDTH = HEADS * FEATURES
SMALL = Architecture(width=16, depth=3, heads=2, widening=2)
# Sums in another order, in single precision, through three layers; gradients add up some hundred terms.
SINGLE = {"rtol": 1e-4, "atol": 1e-4}


def parts(queries, keys):
    """Query, key and value, (tokens, batch, width)."""
    generator = torch.Generator().manual_seed(queries + 100 * keys)
    return [
        torch.randn(count, BATCH, WIDTH, generator=generator, dtype=torch.float64, requires_grad=True)
        for count in (queries, keys, keys)
    ]


def masks(queries, keys, batch=BATCH, share=0.2):
    allowed = torch.rand(batch, queries, keys, generator=torch.Generator().manual_seed(7)) < share
    allowed[:, torch.arange(queries), torch.arange(queries) % keys] = True
    return allowed


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (5, 5), (40, 40), (12, 30)])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("batch", [1, BATCH])
def test_lists_and_tables_agree_in_values_and_gradients(queries, keys, biased, batch, monkeypatch):
    monkeypatch.setattr(sparse, "_PART", 64)  # several parts
    mask = masks(queries, keys, batch)
    generator = torch.Generator().manual_seed(1)
    bias = torch.randn(HEADS, queries, keys, generator=generator, dtype=torch.float64, requires_grad=True)
    bags = Bags(EdgeList.of_dense(mask), BATCH, HEADS)
    results = []
    for form in ("list", "table"):
        inputs = parts(queries, keys)
        if form == "list":
            out = attend_along(bags, *inputs, bias[:, bags.query, bags.key] if biased else None)
        else:
            out = attend(*inputs, HEADS, bias if biased else None, barrier(mask, torch.float64, keys))
        assert out.shape == (queries, BATCH, WIDTH)
        wanted = [*inputs, bias] if biased else inputs
        results.append([out, *torch.autograd.grad((out * torch.arange(out.numel()).view_as(out).cos()).sum(), wanted)])
    # Double precision: sums of at most 40 terms of order one, in another order.
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-12)


def test_large_logits_stay_finite():
    query, key, value = parts(6, 6)
    mask = masks(6, 6)
    out = attend_along(Bags(EdgeList.of_dense(mask), BATCH, HEADS), 1e4 * query, key, value)
    out.sum().backward()
    torch.testing.assert_close(out, attend(1e4 * query, key, value, HEADS, None, barrier(mask, torch.float64, 6)))
    assert query.grad.isfinite().all()


def test_keys_that_are_not_listed_change_nothing_at_all():
    query, key, value = (part.detach() for part in parts(2, 9))
    mask = masks(2, 9, 1, 1.0)
    mask[:, 0, 1] = False
    bags = Bags(EdgeList.of_dense(mask), BATCH, HEADS)
    before = attend_along(bags, query, key, value)
    key[1], value[1] = 1e3, -1e3
    after = attend_along(bags, query, key, value)
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])


def test_second_derivatives_are_refused():
    query, key, value = parts(4, 4)
    out = attend_along(Bags(EdgeList.of_dense(masks(4, 4)), BATCH, HEADS), query, key, value)
    (grad,) = torch.autograd.grad(out.square().sum(), query, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def problem(graph, rows=6, observed="relay"):
    """A denoiser with random weights, and a batch of tokens, states and masks."""
    traces = graph.simulate(40, seed=0, progress=False)
    compiled = compile(graph, traces, observed=observed).fit(traces)
    torch.manual_seed(0)
    denoiser = randomised(build(compiled, SMALL)).requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    x = compiled.layout.tokenize_traces(traces, generator)[torch.arange(rows)].values
    states = Conditions(compiled).draw(rows, generator)
    return compiled, denoiser, x, states, compiled.rule.edge_mask(states, SMALL.depth)


@pytest.mark.parametrize("graph", [plated((1, 3)), plated((1, 12)), mixed()])
def test_a_denoiser_has_the_same_loss_and_gradients(graph):
    _, denoiser, x, states, table = problem(graph)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    sigma = torch.linspace(0.1, 3, len(x))
    found = []
    for mask in (table, EdgeList.of_dense(table)):
        denoiser.zero_grad()
        loss = denoiser.loss(x, noise, sigma, states, mask)
        loss.sum().backward()
        found.append((loss, {name: p.grad for name, p in denoiser.named_parameters() if p.grad is not None}))
    torch.testing.assert_close(found[1][0], found[0][0], **SINGLE)
    assert found[1][1].keys() == found[0][1].keys()
    assert any("pair_bias" in name for name in found[0][1])
    assert ("network.count.weight" in found[0][1]) == (denoiser.network.count is not None)
    assert any("plate_bias" in name for name in found[0][1]) == (denoiser.coordinates is not None)
    for name, expected in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], expected, **SINGLE, msg=name)


@pytest.mark.parametrize("given", [["score"], ["mu"], {"score": [True, False, True]}])
def test_wanted_tokens_alone_are_the_same(given):
    compiled, denoiser, x, _, _ = problem(plated(3))
    states = compiled.states(given=given)[None].repeat(len(x), 1)
    mask = EdgeList.of_dense(compiled.rule.edge_mask(states, SMALL.depth))
    wanted = (states[0] == LATENT).nonzero().flatten()
    for sigma in (torch.tensor([0.7]), torch.linspace(0.1, 3, len(x))):
        whole = denoiser(x, sigma, states, mask)
        torch.testing.assert_close(denoiser(x, sigma, states, mask, wanted=wanted), whole, **SINGLE)


def test_remembered_tokens_are_the_same():
    compiled, denoiser, x, _, _ = problem(plated((1, 3)), observed="cached")
    states = compiled.states(given=["score"])[None].repeat(len(x), 1)
    table = compiled.rule.edge_mask(states, SMALL.depth)
    known, rest = ((states[0] == state).nonzero().flatten() for state in (OBSERVED, LATENT))
    keys = torch.cat([known, rest])
    found = []
    for mask in (table, EdgeList.of_dense(table)):
        pieces = (
            (mask.among(known, known), mask.among(rest, keys))
            if isinstance(mask, EdgeList)
            else (mask[:, known[:, None], known], mask[:, rest[:, None], keys])
        )
        memory = denoiser.remember(x[:, known], states[:, known], pieces[0], known)
        sigma = torch.tensor([0.7])
        found.append(denoiser(x[:, rest], sigma, states[:, rest], pieces[1], rest, memory))
    torch.testing.assert_close(found[1], found[0], **SINGLE)


def test_small_graphs_have_tables():
    compiled, _, _, states, _ = problem(plated(12))
    assert len(compiled.layout) <= rules.SHORT
    assert isinstance(compiled.rule.masks(states, 4), torch.Tensor)
