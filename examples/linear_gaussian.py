"""Ten linked Gaussians: the smallest graph whose every answer is known in closed form.

theta ~ N(0, 0.1 I), x ~ N(theta, 0.1 I), so theta | x ~ N(x / 2, 0.05 I).
Run it with `python examples/linear_gaussian.py`, or with `--fast` for a first look.
"""

import argparse

import torch
from torch.distributions import Normal

import simgraph as sg
from simgraph import Graph, node


@node
def theta():
    return Normal(torch.zeros(10), 0.1**0.5)


@node
def x(theta):
    return Normal(theta, 0.1**0.5)


linear_gaussian = Graph(theta, x)


def main(fast: bool) -> None:
    traces = linear_gaussian.simulate(2_000 if fast else 10_000, seed=0)
    model = sg.fit(
        linear_gaussian, traces, seed=0, preset="fast" if fast else "default", time_limit=10 if fast else None
    )
    print(model)

    x_o = traces["x"][0]
    posterior = model.given(x=x_o).sample("theta", num_samples=2_000, seed=1)
    truth = torch.as_tensor(x_o) / 2
    print(f"posterior mean is off by {(posterior.mean(0) - truth).abs().mean():.3f} on average (posterior sd 0.224)")
    print(f"posterior sd is {posterior.std(0).mean():.3f}, exactly 0.224")

    likelihood = model.given(theta=traces["theta"][0]).sample("x", num_samples=2_000, seed=1)
    print(f"likelihood sd is {likelihood.std(0).mean():.3f}, exactly 0.316")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true", help="a first look, after too short a training to mean much")
    main(parser.parse_args().fast)
