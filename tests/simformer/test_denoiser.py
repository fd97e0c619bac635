"""Denoised means and the loss that teaches them."""

import pytest
import torch
from samples import mixed, pair, plated, randomised

from simgraph import compile
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.simformer import Architecture, Denoiser, Simformer
from simgraph.train.fit import build

SMALL = Architecture(width=16, depth=2, heads=2)


def prepared(graph, rows=8, observed="relay"):
    """A compiled graph, an untrained denoiser and clean tokens."""
    traces = graph.simulate(50, seed=0, progress=False)
    compiled = compile(graph, traces, observed=observed).fit(traces)
    torch.manual_seed(0)
    return compiled, build(compiled, SMALL), compiled.layout.tokenize_traces(traces[:rows]).values


def noise_like(x, seed=0):
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def everything(compiled, rows, given=(), of=None):
    states = compiled.states(given=given, of=of)[None].repeat(rows, 1)
    return states, compiled.rule.edge_mask(states, SMALL.depth)


def test_a_new_denoiser_shrinks_as_for_standard_normal_tokens():
    compiled, denoiser, x = prepared(pair())
    states, mask = everything(compiled, len(x))
    sigma = torch.logspace(-2, 1, len(x))
    denoised = denoiser(x, sigma, states, mask)
    # The posterior mean of a standard normal x_0 given x_0 + sigma eps.
    assert torch.allclose(denoised, x / (1 + sigma.square())[:, None, None])


@pytest.mark.parametrize("given", [["x"], ["theta"]])
def test_observed_tokens_come_back_unchanged(given):
    compiled, denoiser, x = prepared(pair())
    denoiser = randomised(denoiser)
    states, mask = everything(compiled, len(x), given=given)
    denoised = denoiser(x, torch.full((len(x),), 0.7), states, mask)
    observed = states == OBSERVED
    assert torch.equal(denoised[observed], x[observed])
    assert not torch.isclose(denoised[~observed], x[~observed]).any()


def label_codes(compiled):
    return compiled.layout.tokenizers["label"].codes()


def test_tokens_settle_on_codes_and_without_what_they_lack():
    compiled, denoiser, x = prepared(mixed())
    slots, label = torch.arange(x.shape[1]), compiled.layout.slots("label")
    torch.testing.assert_close(denoiser.settled(x + 0.01 * noise_like(x), slots)[:, label], x[:, label])
    settled = denoiser.settled(noise_like(x), slots)
    assert len(torch.unique(settled[:, label].flatten(0, -2), dim=0)) <= len(label_codes(compiled))
    assert (settled[:, ~denoiser.own] == 0).all()
    continuous = denoiser.own & (denoiser.classes == 0)[:, None]
    assert torch.equal(settled[:, continuous], noise_like(x)[:, continuous])


@pytest.mark.parametrize("sigma", [0.05, 0.5, 3.0, 30.0])
def test_a_denoised_category_is_a_convex_combination_of_codes(sigma):
    compiled, denoiser, x = prepared(mixed())
    denoiser = randomised(denoiser)
    states, mask = everything(compiled, len(x))
    slot = compiled.layout.slots("label").start
    denoised = denoiser(x + sigma * noise_like(x), torch.full((len(x),), sigma), states, mask)[:, slot, :3]
    # Codes sum to zero and span a plane; solve for weights that sum to one.
    weights = denoised @ label_codes(compiled) / 3 + 1 / 3
    assert torch.allclose(weights.sum(-1), torch.ones(len(x)), atol=1e-4)
    assert (weights > -1e-5).all()
    assert torch.allclose(weights @ label_codes(compiled), denoised, atol=1e-4)


def test_a_category_with_little_noise_is_denoised_to_the_nearest_code():
    compiled, denoiser, x = prepared(mixed(), rows=30)
    denoiser = randomised(denoiser)
    states, mask = everything(compiled, len(x))
    slot = compiled.layout.slots("label").start
    sigma = 2e-3
    denoised = denoiser(x + sigma * noise_like(x), torch.full((len(x),), sigma), states, mask)
    assert len(x[:, slot, :3].argmax(-1).unique()) > 1
    assert torch.allclose(denoised[:, slot, :3], x[:, slot, :3], atol=1e-5)


def test_a_new_denoiser_of_a_category_is_the_exact_posterior_mean_under_equal_classes():
    compiled, denoiser, x = prepared(mixed())
    states, mask = everything(compiled, len(x))
    slot, sigma = compiled.layout.slots("label").start, 1.3
    noised = x + sigma * noise_like(x)
    denoised = denoiser(noised, torch.full((len(x),), sigma), states, mask)[:, slot, :3]
    codes = label_codes(compiled)
    log_weights = -(noised[:, slot, None, :3] - codes).square().sum(-1) / (2 * sigma**2)
    assert torch.allclose(denoised, log_weights.softmax(-1) @ codes, atol=1e-4)


def test_features_that_a_token_does_not_have_stay_zero():
    compiled, denoiser, x = prepared(mixed())
    denoiser = randomised(denoiser)
    states, mask = everything(compiled, len(x))
    beyond = torch.arange(x.shape[-1]) >= compiled.layout.widths[compiled.layout.ids][:, None]
    noised = torch.where(beyond, x, x + noise_like(x))
    assert not denoiser(noised, torch.ones(len(x)), states, mask)[:, beyond].any()


def test_loss_is_zero_on_tokens_that_are_not_latent():
    compiled, denoiser, x = prepared(mixed())
    denoiser = randomised(denoiser)
    states = torch.randint(3, (len(x), x.shape[1]), generator=torch.Generator().manual_seed(0))
    mask = compiled.rule.edge_mask(states, SMALL.depth)
    loss = denoiser.loss(x, noise_like(x), torch.linspace(0.1, 5, len(x)), states, mask)
    assert loss.shape == states.shape
    assert not loss[states != LATENT].any()
    assert (loss[states == LATENT] > 0).all()


def test_loss_of_a_continuous_token_is_the_weighted_error_of_the_denoised_mean():
    compiled, denoiser, x = prepared(plated())
    denoiser = randomised(denoiser)
    states, mask = everything(compiled, len(x), given=["score"])
    sigma, noise = torch.linspace(0.2, 4, len(x)), noise_like(x)
    latent = states == LATENT
    noised = torch.where(latent[..., None], x + sigma[:, None, None] * noise, x)
    error = (denoiser(noised, sigma, states, mask) - x).square().mean(-1)
    expected = error * ((1 + sigma.square()) / sigma.square())[:, None] * latent
    assert torch.allclose(denoiser.loss(x, noise, sigma, states, mask), expected, rtol=1e-3, atol=1e-5)


def test_loss_of_a_category_is_its_log_probability():
    compiled, denoiser, x = prepared(mixed())
    states, mask = everything(compiled, len(x))
    slot = compiled.layout.slots("label").start
    sigma = torch.full((len(x),), 1e4)
    loss = denoiser.loss(x, torch.zeros_like(x), sigma, states, mask)
    # Under overwhelming noise a new network knows nothing: three equal classes.
    assert torch.allclose(loss[:, slot], torch.full((len(x),), 3.0).log(), atol=1e-3)


def test_values_of_absent_tokens_change_nothing():
    compiled, denoiser, x = prepared(mixed())
    denoiser = randomised(denoiser)
    states, mask = everything(compiled, len(x), given=["energy"], of=["width", "label"])
    absent = states == ABSENT
    sigma, noise = torch.ones(len(x)), noise_like(x)
    before = denoiser.loss(x, noise, sigma, states, mask)
    after = denoiser.loss(torch.where(absent[..., None], 5.0, x), noise, sigma, states, mask)
    assert torch.equal(before, after)


@pytest.mark.parametrize("size", [3, 12])
def test_remembered_tokens_give_the_same_denoised_means(size):
    compiled, denoiser, x = prepared(plated((1, size)), observed="cached")
    denoiser = randomised(denoiser)
    states, mask = everything(compiled, len(x), given=["score"])
    sigma = torch.linspace(0.2, 4, len(x))
    whole = denoiser(x, sigma, states, mask)
    known = (states[0] == OBSERVED).nonzero().flatten()
    rest = (states[0] == LATENT).nonzero().flatten()
    memory = denoiser.remember(x[:, known], states[:, known], mask[:, known][:, :, known], known)
    keys = torch.cat([known, rest])
    part = denoiser(x[:, rest], sigma, states[:, rest], mask[:, rest][:, :, keys], rest, memory)
    assert torch.allclose(part, whole[:, rest], rtol=1e-4, atol=1e-5)


def test_tokens_outside_of_a_query_may_be_left_out():
    compiled, denoiser, x = prepared(mixed())
    denoiser = randomised(denoiser)
    states, mask = everything(compiled, len(x), given=["energy"], of=["width", "label"])
    kept = (states[0] != ABSENT).nonzero().flatten()
    sigma = torch.linspace(0.2, 4, len(x))
    whole = denoiser(x, sigma, states, mask)
    part = denoiser(x[:, kept], sigma, states[:, kept], mask[:, kept][:, :, kept], kept)
    assert torch.allclose(part, whole[:, kept], rtol=1e-4, atol=1e-5)


def test_features_that_a_token_does_not_have_are_not_read():
    network = Simformer(Architecture(width=16, depth=2, heads=2), identifiers=2, features=3)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ids = torch.arange(2)
    denoiser = Denoiser(network, ids, torch.zeros(0, 2, dtype=torch.long), torch.tensor([1, 3]), torch.tensor([0, 3]))
    x = torch.randn(5, 2, 3)
    states, sigma = torch.ones(5, 2, dtype=torch.long), torch.full((5,), 0.7)
    with torch.no_grad():
        out = denoiser(x, sigma, states, None)
        x[:, 0, 1:] = 100.0
        assert torch.equal(denoiser(x, sigma, states, None), out)
