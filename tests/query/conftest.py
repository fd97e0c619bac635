"""Two small models that all query tests share."""

import pytest
import torch
from torch.distributions import Categorical, Dirichlet, Normal, Poisson, Uniform

import simgraph as sg
from simgraph import Architecture, Graph, Settings, node, plate

TINY = Settings(steps=20, batch_size=64, architecture=Architecture(width=16, depth=4, heads=2, widening=2))


@node
def theta():
    return Normal(torch.zeros(2), 1.0)


@node
def x(theta):
    return Normal(theta, 0.5)


gaussian = Graph(theta, x)

bed = plate("bed", 3)


@node
def shares():
    return Dirichlet(torch.ones(3))


@node
def width():
    return Uniform(1.0, 2.0)


@node
def place(width):
    return Uniform(0.0, width)


@node(plates=bed)
def label(shares):
    return Categorical(shares)


@node(plates=bed)
def level(label, place):
    return Normal(torch.tensor([-2.0, 0.0, 2.0])[label] + place, 0.5)


@node
def count(place):
    return Poisson(40 * place)


@node(shape=(2,))
def sensor(level, rng):
    return level.mean() + rng.normal(size=2)


mixed = Graph(shares, width, place, label, level, count, sensor)


@pytest.fixture(scope="session")
def gaussian_model():
    return sg.fit(gaussian, num_simulations=400, preset=TINY, progress=False)


@pytest.fixture(scope="session")
def mixed_model():
    return sg.fit(mixed, num_simulations=600, preset=TINY, progress=False)


@pytest.fixture(scope="session")
def cached_model():
    compiled = sg.compile(gaussian, observed="cached")
    return sg.fit(compiled, num_simulations=400, preset=TINY, progress=False)


@pytest.fixture(scope="session")
def tiny():
    return TINY
