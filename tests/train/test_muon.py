"""Muon against torch's own."""

import pytest
import torch

from simgraph.train.muon import Muon, orthogonalised


def matrix(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(16, 16), (48, 16), (16, 48)])
def test_updates_have_the_direction_and_length_of_torch_muon(shape):
    mine, theirs = (torch.nn.Parameter(matrix(*shape, seed=9)) for _ in range(2))
    first = Muon([mine], lr=0.01, momentum=0.9, weight_decay=0.2)
    second = torch.optim.Muon([theirs], lr=0.01, momentum=0.9, weight_decay=0.2, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        before = mine.detach().clone(), theirs.detach().clone()
        mine.grad, theirs.grad = matrix(*shape, seed=step), matrix(*shape, seed=step)
        first.step()
        second.step()
        moved, expected = mine.detach() - before[0], theirs.detach() - before[1]
        assert torch.cosine_similarity(moved.flatten(), expected.flatten(), dim=0) > 0.99
        assert float(moved.norm() / expected.norm()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("shape", [(16, 16), (40, 16), (16, 40)])
def test_singular_values_become_about_one_in_the_same_directions(shape):
    gradient = 1e-3 * matrix(*shape)
    (out,) = orthogonalised(gradient[None])
    assert out.shape == shape
    values = torch.linalg.svdvals(out)
    assert float(values.min()) > 0.3
    assert float(values.max()) < 1.3
    u, _, v = torch.linalg.svd(gradient, full_matrices=False)
    assert float(torch.cosine_similarity(out.flatten(), (u @ v).flatten(), dim=0)) > 0.95


def test_matrices_of_one_shape_are_orthogonalised_each_by_itself():
    several = torch.stack([matrix(8, 12, seed) * 10.0**seed for seed in range(3)])
    alone = torch.cat([orthogonalised(one[None]) for one in several])
    assert torch.allclose(orthogonalised(several), alone, atol=1e-5)


def test_weights_decay_as_in_torch_muon():
    mine, theirs = (torch.nn.Parameter(10 * matrix(6, 4)) for _ in range(2))
    first = Muon([mine], lr=0.1, weight_decay=0.5)
    second = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.5, adjust_lr_fn="match_rms_adamw")
    for _ in range(10):
        mine.grad, theirs.grad = torch.zeros(6, 4), torch.zeros(6, 4)
        first.step()
        second.step()
    assert torch.allclose(mine, theirs)
    assert torch.allclose(mine, 0.95**10 * 10 * matrix(6, 4))


def test_a_zero_gradient_moves_nothing():
    parameter = torch.nn.Parameter(torch.ones(4, 4))
    parameter.grad = torch.zeros(4, 4)
    Muon([parameter]).step()
    assert torch.equal(parameter.detach(), torch.ones(4, 4))


def test_a_quadratic_over_several_shapes_is_reduced():
    parameters = [torch.nn.Parameter(torch.zeros(rows, columns)) for rows, columns in ((6, 6), (4, 9), (6, 6))]
    targets = [matrix(*parameter.shape, seed=number) for number, parameter in enumerate(parameters)]
    optimizer = Muon(parameters, lr=0.3)

    def loss():
        return sum((p - t).square().sum() for p, t in zip(parameters, targets, strict=True))

    start = loss().item()
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 0.3 * (1 - step / 150)
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.02 * start
