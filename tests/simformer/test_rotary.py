import pytest
import torch

from simgraph.simformer.rotary import rotate, turn

HEADS, FEATURES = 2, 7  # an odd number: one feature of each head is in no pair


def generator():
    return torch.Generator().manual_seed(0)


def places(*shape):
    return 2 * torch.rand(*shape, generator=generator()) - 1


def vectors(tokens, batch):
    return torch.randn(tokens, batch, HEADS * FEATURES, generator=generator())


@pytest.mark.parametrize("coordinates", [1, 2, 5])
def test_products_depend_on_differences_of_points_alone(coordinates):
    where = 0.5 * places(4, 6, coordinates)
    query, key = vectors(6, 4), vectors(6, 4).flip(0)

    def products(shift):
        by = turn(where + shift, FEATURES)
        return torch.einsum("qbw,kbw->bqk", rotate(query, by, HEADS), rotate(key, by, HEADS))

    assert torch.allclose(products(0.0), products(0.3), atol=1e-4)
    assert not torch.allclose(products(0.0), torch.einsum("qbw,kbw->bqk", query, key), atol=0.1)


def test_lengths_stay_and_tokens_without_a_point_are_not_turned():
    x = vectors(5, 3)
    turned = rotate(x, turn(places(1, 5, 1), FEATURES), HEADS)
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    assert torch.equal(rotate(x, turn(torch.zeros(1, 5, 1), FEATURES), HEADS), x)


def test_every_coordinate_is_seen_as_far_as_there_are_pairs():
    x = vectors(1, 1)
    for number in range(5):
        where = torch.zeros(1, 1, 5)
        where[..., number] = 0.4
        assert torch.equal(rotate(x, turn(where, FEATURES), HEADS), x) == (number >= FEATURES // 2)


def test_a_head_of_one_feature_is_not_turned():
    x = torch.randn(3, 2, 4, generator=generator())
    assert torch.equal(rotate(x, turn(places(2, 3, 1), 1), 4), x)
