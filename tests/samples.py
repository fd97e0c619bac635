"""Small graphs and tiny trainings that several tests look at."""

import torch
from torch.distributions import Categorical, Dirichlet, HalfNormal, Normal, Uniform

from simgraph import Graph, Settings, node, plate
from simgraph.simformer import Architecture

TINY = Settings(
    steps=12, batch_size=16, evaluations=4, patience=100, architecture=Architecture(width=16, depth=2, heads=2)
)


def pair():
    """theta -> x, both scalar."""

    @node
    def theta():
        return Normal(0.0, 1.0)

    @node
    def x(theta):
        return Normal(theta, 0.5)

    return Graph(theta, x)


def plated(size=3):
    """One mean, a plate of effects and of scores."""
    school = plate("school", size)

    @node
    def mu():
        return Normal(0.0, 1.0)

    @node(plates=school)
    def effect(mu):
        return Normal(mu, 1.0)

    @node(plates=school)
    def score(effect):
        return Normal(effect, 1.0)

    return Graph(mu, effect, score)


def mixed():
    """Every kind of token: simplex, categories, interval, half-line, reals of two elements."""

    @node
    def weights():
        return Dirichlet(torch.ones(3))

    @node
    def label(weights):
        return Categorical(weights)

    @node
    def width():
        return HalfNormal(1.0)

    @node
    def bound():
        return Uniform(1.0, 2.0)

    @node
    def energy(label, width):
        return Normal(torch.stack([label, -label]) * 1.0, width + 0.1)

    @node
    def place(bound):
        return Uniform(0.0, bound)

    return Graph(weights, label, width, bound, energy, place)


def randomised(denoiser, seed=0):
    """Gives a denoiser random weights: those that start at zero would hide what depends on what."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return denoiser.eval().requires_grad_(False)
