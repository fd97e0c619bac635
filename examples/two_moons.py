"""Two moons: a prior and a black box in NumPy, and both moons of the posterior.

Run it with `python examples/two_moons.py`, or with `--fast` for a first look. `simgraph demo` holds the same model
against the published reference posteriors.
"""

import argparse

import numpy as np
import torch
from torch.distributions import Uniform

import simgraph as sg
from simgraph import Graph, node


@node
def theta():
    return Uniform(-torch.ones(2), torch.ones(2))


@node(shape=(2,))
def x(theta, rng):
    a, r = rng.uniform(-np.pi / 2, np.pi / 2), rng.normal(0.1, 0.01)
    crescent = np.array([r * np.cos(a) + 0.25, r * np.sin(a)])
    return crescent + np.array([-abs(theta.sum()), theta[1] - theta[0]]) / np.sqrt(2)


two_moons = Graph(theta, x)


def main(fast: bool) -> None:
    traces = two_moons.simulate(2_000 if fast else 10_000, seed=0)
    model = sg.fit(two_moons, traces, seed=0, preset="fast" if fast else "default", time_limit=10 if fast else None)
    print(model)
    posterior = model.given(x=[-0.64, 0.16]).sample("theta", num_samples=2_000, seed=1)
    share = (posterior.sum(1) > 0).double().mean()
    print(f"{share:.0%} of the draws lie on the upper moon, exactly 50 %")
    emulated = model.given(theta=[0.3, -0.2]).sample("x", num_samples=2_000, seed=1)
    print(f"the emulated data have mean {emulated.mean(0).numpy().round(3)}, the simulator's are", end=" ")
    draws = np.stack([x([0.3, -0.2] * np.ones(2), np.random.default_rng(i)) for i in range(2_000)])
    print(draws.mean(0).round(3))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true", help="a first look, after too short a training to mean much")
    main(parser.parse_args().fast)
