"""Parts of a batch give the gradient of the whole."""

import pytest
import torch
from samples import mixed, plated

from simgraph import compile
from simgraph.compile.edges import EdgeList
from simgraph.compile.masks import LATENT
from simgraph.simformer import Architecture
from simgraph.train.conditions import Conditions
from simgraph.train.embedding import Learner
from simgraph.train.fit import build
from simgraph.train.gradients import Workers

SMALL = Architecture(width=8, depth=2, heads=2, widening=2)


def problem(graph, rows=7):
    generator = torch.Generator().manual_seed(0)
    traces = graph.simulate(rows + 20, seed=0, progress=False)
    compiled = compile(graph, traces).fit(traces)
    torch.manual_seed(0)
    denoiser = Learner(build(compiled, SMALL), compiled.layout)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    x_0 = compiled.layout.tokenize_traces(traces, generator)[torch.arange(rows)].values
    states = Conditions(compiled).draw(rows, generator)
    noise, sigma = torch.randn(x_0.shape, generator=generator), torch.linspace(0.1, 3, rows)
    return denoiser, (x_0, noise, sigma, states, compiled.rule.edge_mask(states, 2))


@pytest.mark.parametrize("graph", [mixed(), plated()])
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_the_gradient_is_that_of_the_mean_loss_of_latent_tokens(graph, rows):
    denoiser, batch = problem(graph, rows)
    expected = denoiser.losses(*batch)[0].sum() / (batch[3] == LATENT).sum()
    gradients = torch.autograd.grad(expected, list(denoiser.parameters()), allow_unused=True)
    with Workers.start() as workers:
        loss = workers.backward(denoiser, batch)
        losses = workers.losses(denoiser, batch, 3)
    assert torch.allclose(losses, denoiser.losses(*batch)[0].sum(1), rtol=1e-5)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for parameter, gradient in zip(denoiser.parameters(), gradients, strict=True):
        if gradient is None:
            assert parameter.grad is None
        else:
            assert torch.allclose(parameter.grad, gradient, rtol=1e-3, atol=1e-6)


def test_gradients_do_not_pile_up():
    denoiser, batch = problem(mixed())
    with Workers.start() as workers:
        workers.backward(denoiser, batch)
        first = [None if p.grad is None else p.grad.clone() for p in denoiser.parameters()]
        workers.backward(denoiser, batch)
    assert all(torch.equal(a, p.grad) for a, p in zip(first, denoiser.parameters(), strict=True) if a is not None)


def test_an_error_in_a_part_is_raised():
    denoiser, batch = problem(mixed())
    with Workers.start() as workers, pytest.raises(RuntimeError):
        workers.backward(denoiser, (batch[0][..., :0], *batch[1:]))


def test_masks_that_are_lists_give_the_same_gradient():
    denoiser, batch = problem(plated())
    found = []
    with Workers.start() as workers:
        for mask in (batch[4], EdgeList.of_dense(batch[4])):
            loss = workers.backward(denoiser, (*batch[:4], mask))
            losses = workers.losses(denoiser, (*batch[:4], mask), 3)
            assert float(losses.sum() / (batch[3] == LATENT).sum()) == pytest.approx(loss, rel=1e-5)
            found.append((loss, [p.grad for p in denoiser.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for first, second in zip(found[0][1], found[1][1], strict=True):
        # Single precision, sums in another order.
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-6)


def test_what_is_learned_is_the_mean_of_less_noisy_targets():
    """The aimed loss of a token is its error about x_0 + w t, in the units of the loss."""
    learner, (x_0, noise, sigma, states, masks) = problem(plated())
    scores = torch.rand(*x_0.shape[:2], 3, generator=torch.Generator().manual_seed(1))
    plain, aimed = learner.losses(x_0, noise, sigma, states, masks, None, scores)
    latent = states == LATENT
    x = torch.where(latent.unsqueeze(-1), x_0 + sigma[:, None, None] * noise, x_0)
    mean = learner.denoiser(x, sigma, states, masks)[..., 0]
    scale = ((1 + sigma**2).sqrt() / sigma).unsqueeze(1)
    added = learner.control(noise[..., 0], sigma, scores, learner.denoiser.ids) / scale
    for loss, target in ((plain, x_0[..., 0]), (aimed, x_0[..., 0] + added)):
        expected = (scale * (mean - target)).square() * latent
        assert torch.allclose(loss, expected, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(plain, aimed, rtol=0.1)
    with Workers.start() as workers:
        told = workers.backward(learner, (x_0, noise, sigma, states, masks, None, scores))
    assert told == pytest.approx((plain.sum() / latent.sum()).item(), rel=1e-5)
    assert learner.control.shares.grad.abs().sum() > 0
