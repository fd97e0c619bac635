"""Embeddings of tokens and noise levels."""

import pytest
import torch

from simgraph.compile.masks import LATENT, OBSERVED
from simgraph.simformer.embeddings import NoiseEmbedding, TokenEmbedding
from simgraph.simformer.schedule import SIGMA_MAX, SIGMA_MIN


@pytest.fixture
def embedding():
    torch.manual_seed(0)
    return TokenEmbedding(identifiers=3, features=2, width=8)


def test_tokens_of_one_identifier_are_treated_alike(embedding):
    values, states = torch.ones(1, 3, 2), torch.full((1, 3), LATENT)
    out = embedding(values, torch.tensor([1, 1, 2]), states)
    assert out.shape == (1, 3, 8)
    assert torch.equal(out[0, 0], out[0, 1])
    assert not torch.allclose(out[0, 0], out[0, 2])


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


def test_noise_levels_over_the_whole_range_are_told_apart():
    torch.manual_seed(0)
    embedding = NoiseEmbedding(8)
    noise = torch.linspace(torch.tensor(SIGMA_MIN).log() / 4, torch.tensor(SIGMA_MAX).log() / 4, 50)
    out = embedding(noise).detach()
    assert out.shape == (50, 8)
    distance = torch.cdist(out, out) + 1e9 * torch.eye(50)
    assert float(distance.min()) > 1e-4
