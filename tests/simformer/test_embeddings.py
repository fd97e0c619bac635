"""Embeddings of tokens and noise levels."""

import pytest
import torch

from simgraph.compile.masks import LATENT, OBSERVED
from simgraph.simformer.embeddings import NoiseEmbedding, PlaceEmbedding, TokenEmbedding
from simgraph.simformer.schedule import SIGMA_MAX, SIGMA_MIN


@pytest.fixture
def embedding():
    torch.manual_seed(0)
    return TokenEmbedding(identifiers=3, features=2, width=8)


def test_tokens_of_one_identifier_are_treated_alike(embedding):
    values, states = torch.ones(1, 3, 2), torch.full((1, 3), LATENT)
    out = embedding(values, torch.tensor([1, 1, 2]), states)
    assert out.shape == (3, 1, 8)
    assert torch.equal(out[0, 0], out[1, 0])
    assert not torch.allclose(out[0, 0], out[2, 0])


def test_value_and_state_enter_the_embedding(embedding):
    ids = torch.tensor([0])
    latent, observed = torch.tensor([[LATENT]]), torch.tensor([[OBSERVED]])
    base = embedding(torch.zeros(1, 1, 2), ids, latent)
    assert not torch.allclose(base, embedding(torch.zeros(1, 1, 2), ids, observed))
    for feature in torch.eye(2):
        assert not torch.allclose(base, embedding(feature.reshape(1, 1, 2), ids, latent))


def test_the_value_enters_linearly(embedding):
    ids, states = torch.tensor([0, 2]), torch.tensor([[LATENT, OBSERVED]])
    first, second = torch.randn(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    both, one, other, none = (embedding(v, ids, states) for v in (first + second, first, second, torch.zeros(1, 2, 2)))
    assert torch.allclose(both - none, (one - none) + (other - none), atol=1e-5)


def test_one_feature_takes_the_same_way():
    torch.manual_seed(0)
    narrow, wide = (
        TokenEmbedding(identifiers=3, features=1, width=8),
        TokenEmbedding(identifiers=3, features=2, width=8),
    )
    with torch.no_grad():
        wide.identifier.copy_(narrow.identifier)
        wide.state.copy_(narrow.state)
        wide.value[:, :1].copy_(narrow.value)
    values, ids = torch.randn(5, 2, 1), torch.tensor([2, 0])
    states = torch.tensor([[LATENT, OBSERVED]])
    padded = torch.cat([values, torch.zeros_like(values)], -1)
    assert torch.allclose(narrow(values, ids, states), wide(padded, ids, states), atol=1e-6)
    assert torch.equal(narrow(values, ids, states), narrow(values, ids, states.expand(5, -1)))


def test_places_are_told_apart_and_near_ones_are_alike():
    torch.manual_seed(0)
    embedding = PlaceEmbedding(1, 16)
    out = embedding(torch.tensor([[0.0], [0.005], [0.2], [-0.9]])).detach()
    assert out.shape == (4, 16)
    distance = torch.cdist(out, out)[0]
    assert distance[1] < 0.5 * distance[2]
    assert distance[1] < 0.5 * distance[3]


def test_noise_levels_over_the_whole_range_are_told_apart():
    torch.manual_seed(0)
    embedding = NoiseEmbedding(8)
    noise = torch.linspace(torch.tensor(SIGMA_MIN).log() / 4, torch.tensor(SIGMA_MAX).log() / 4, 50)
    out = embedding(noise).detach()
    assert out.shape == (50, 8)
    distance = torch.cdist(out, out) + 1e9 * torch.eye(50)
    assert float(distance.min()) > 1e-4
