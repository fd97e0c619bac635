"""What each output of the network is a function of."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import plated, randomised

from simgraph import compile
from simgraph.compile.masks import LATENT, OBSERVED, MaskRule
from simgraph.errors import DeclarationError
from simgraph.simformer import Architecture, Simformer
from simgraph.testing import questions
from simgraph.train.fit import build_network

SMALL = Architecture(width=16, depth=3, heads=2, widening=2)


def network_of(tokens, form, architecture=SMALL, features=1, plates=0):
    torch.manual_seed(0)
    kinds = torch.eye(tokens).repeat(3, 1, 1)
    network = Simformer(architecture, tokens, features, plates, timeless=form == "cached", kinds=kinds)
    return randomised(network)


@settings(max_examples=20)
@given(questions(), st.sampled_from(["relay", "cached"]))
def test_an_output_changes_with_a_token_iff_it_depends_on_it(question, form):
    tokens = len(question.states)
    mask = MaskRule(question.families, form).edge_mask(question.states[None], SMALL.depth)
    network, ids = network_of(tokens, form).double(), torch.arange(tokens)  # what comes by three layers may be faint
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1, tokens, 1, generator=generator, dtype=torch.float64).repeat(tokens + 1, 1, 1)
    for j in range(tokens):
        values[j + 1, j] += 2.0
    noise, states = torch.full((tokens + 1,), 0.3, dtype=torch.float64), question.states.expand(tokens + 1, -1)
    # One query at a time, so that the same sums are done in the same order.
    out = torch.cat([network(values[[r]], noise[[r]], states[[r]], ids, mask) for r in range(tokens + 1)])
    depends = question.depends
    for i in question.latent:
        for j in range(tokens):
            assert bool((out[j + 1, i] != out[0, i]).any()) == (j in depends[i]), (i, j)


@pytest.mark.parametrize("graph_size", [3, 12])
def test_remembered_tokens_give_the_same_outputs(graph_size):
    compiled = compile(plated((1, graph_size)), observed="cached")
    network = randomised(build_network(compiled, SMALL))
    layout = compiled.layout
    states = compiled.states(given=["score"], of=["mu", "effect"])[None].repeat(4, 1)
    mask = compiled.rule.edge_mask(states, SMALL.depth)
    values = torch.randn(4, len(layout), 1, generator=torch.Generator().manual_seed(0))
    same = (layout.coordinates[:, :, None] == layout.coordinates[:, None, :]) & (layout.coordinates >= 0)[:, :, None]
    same, noise = same.float(), torch.linspace(-1, 1, 4)
    whole = network(values, noise, states, layout.ids, mask, same)

    known = (states[0] == OBSERVED).nonzero().flatten()
    rest = (states[0] == LATENT).nonzero().flatten()
    memory = network.remember(
        values[:, known], states[:, known], layout.ids[known], mask[:, known][:, :, known], same[:, known][:, :, known]
    )
    keys = torch.cat([known, rest])
    part = network(
        values[:, rest],
        noise,
        states[:, rest],
        layout.ids[rest],
        mask[:, rest][:, :, keys],
        same[:, rest][:, :, keys],
        memory,
        layout.ids[keys],
    )
    assert torch.allclose(part, whole[:, rest], rtol=1e-4, atol=1e-5)
    assert float(whole[:, rest].std()) > 0.1


def test_observed_tokens_of_the_cached_form_do_not_know_the_time():
    compiled = compile(plated(), observed="cached")
    network = randomised(build_network(compiled, SMALL))
    states = compiled.states(given=["score"])[None]
    mask = compiled.rule.edge_mask(states, SMALL.depth)
    values = torch.randn(1, 7, 1, generator=torch.Generator().manual_seed(0))
    out = [network(values, torch.tensor([t]), states, compiled.layout.ids, mask) for t in (-1.0, 1.0)]
    observed = states[0] == OBSERVED
    assert torch.equal(out[0][:, observed], out[1][:, observed])
    assert not torch.isclose(out[0][:, ~observed], out[1][:, ~observed]).any()


def test_observed_tokens_of_the_cached_form_are_modulated_by_a_context_of_their_own():
    cached, relay = network_of(4, "cached"), network_of(4, "relay")
    values = torch.randn(3, 4, 1, generator=torch.Generator().manual_seed(0))
    states, ids = torch.tensor([[OBSERVED, LATENT, OBSERVED, LATENT]]), torch.arange(4)
    noise = torch.tensor([0.3])
    with torch.no_grad():
        different = cached(values, noise, states, ids, None)
        weights = cached.state_dict()
        weights["clean"].copy_(cached.noise(noise)[0])
        relay.load_state_dict({name: value for name, value in weights.items() if name != "clean"})
        # Where that context is the one of the noise level, the two forms are one network.
        same = cached(values, noise, states, ids, None)
        assert torch.allclose(same, relay(values, noise, states, ids, None), atol=1e-5)
    assert not torch.isclose(same, different).any()


def test_one_noise_level_for_the_whole_batch_equals_one_for_each():
    network = network_of(4, "relay")
    values = torch.randn(3, 4, 1, generator=torch.Generator().manual_seed(0))
    states, ids = torch.full((3, 4), LATENT), torch.arange(4)
    single = network(values, torch.tensor([0.2]), states, ids, None)
    assert torch.allclose(single, network(values, torch.full((3,), 0.2), states, ids, None), atol=1e-5)


def test_no_mask_means_that_everything_is_allowed():
    network = network_of(4, "relay")
    values = torch.randn(3, 4, 1, generator=torch.Generator().manual_seed(0))
    states, ids, noise = torch.full((3, 4), LATENT), torch.arange(4), torch.zeros(3)
    everything = torch.ones(1, 4, 4, dtype=torch.bool)
    assert torch.allclose(network(values, noise, states, ids, None), network(values, noise, states, ids, everything))


@pytest.mark.parametrize("size", [3, 12])
def test_exchanging_plate_elements_exchanges_outputs(size):
    compiled = compile(plated((1, size)))
    layout = compiled.layout
    network = randomised(build_network(compiled, SMALL))
    same = (layout.coordinates[:, :, None] == layout.coordinates[:, None, :]) & (layout.coordinates >= 0)[:, :, None]
    states = compiled.states(given=["score"])[None]
    mask = compiled.rule.edge_mask(states, SMALL.depth)
    values = torch.randn(1, len(layout), 1, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(size, generator=torch.Generator().manual_seed(1))
    tokens = torch.cat([torch.tensor([0]), 1 + order, 1 + size + order])
    noise = torch.tensor([0.1])
    out = network(values, noise, states, layout.ids, mask, same.float())
    exchanged = network(values[:, tokens], noise, states, layout.ids, mask, same.float())
    assert torch.allclose(exchanged, out[:, tokens], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(exchanged, out, atol=1e-2)


def test_which_tokens_belong_to_one_element_is_visible_without_a_mask():
    network = network_of(1, "relay", plates=1)
    values = torch.randn(1, 4, 1, generator=torch.Generator().manual_seed(0))
    states, ids, noise = torch.full((1, 4), LATENT), torch.zeros(4, dtype=torch.long), torch.tensor([0.1])
    first = torch.block_diag(torch.ones(2, 2), torch.ones(2, 2))[None]
    second = first[:, [0, 2, 1, 3]][:, :, [0, 2, 1, 3]]
    out = [network(values, noise, states, ids, None, same) for same in (first, second)]
    assert not torch.allclose(out[0], out[1], atol=1e-3)


def test_one_observed_token_and_two_alike_are_told_apart():
    # Attention averages: without counts, two tokens that say the same are read as one.
    ids, noise = torch.tensor([0, 1, 1]), torch.tensor([0.1])
    values = torch.tensor([0.3, 1.0, 1.0]).reshape(1, 3, 1)
    states = torch.tensor([[LATENT, OBSERVED, OBSERVED]])
    reads = torch.zeros(1, 3, 3, dtype=torch.bool)
    reads[0, :, 1] = True  # the first token of the second kind alone
    also = reads.clone()
    also[0, :, 2] = True
    differences = []
    for kinds in (None, torch.eye(2).repeat(3, 1, 1)):
        torch.manual_seed(0)
        network = randomised(Simformer(SMALL, 2, 1, kinds=kinds))
        one, two = (network(values, noise, states, ids, mask)[0, 0] for mask in (reads, also))
        differences.append(float((one - two).abs()))
    assert differences[0] < 1e-5
    assert differences[1] > 1e-2


def test_a_new_network_returns_zero():
    network = Simformer(SMALL, 3, 2)
    out = network(torch.randn(2, 3, 2), torch.zeros(2), torch.full((2, 3), LATENT), torch.arange(3), None)
    assert out.shape == (2, 3, 2)
    assert not out.any()


def test_matrices_are_all_two_dimensional_weights_inside_the_blocks():
    network = Simformer(SMALL, 3, 2)
    matrices = network.matrices()
    assert all(matrix.dim() == 2 for matrix in matrices)
    assert {id(m) for m in matrices} == {id(p) for p in network.blocks.parameters() if p.dim() == 2}


@pytest.mark.parametrize("wrong", [{"width": 0}, {"depth": 1.5}, {"heads": True}, {"widening": -1}, {"width": 10**9}])
def test_sizes_that_are_no_whole_numbers_are_refused(wrong):
    with pytest.raises(DeclarationError, match=f"{next(iter(wrong))}=.* is not a whole number"):
        Architecture(**wrong)


def test_heads_must_divide_the_width():
    with pytest.raises(DeclarationError, match="width=10 is not a multiple of heads=4"):
        Architecture(width=10, heads=4)
