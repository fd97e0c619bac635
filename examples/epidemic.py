"""An epidemic whose contact rate changes: a function-valued parameter, called like a function by the simulator.

How often people meet, beta(t), is a Gaussian process through a sigmoid. It drives how many are infected, recovered and
dead (Kermack and McKendrick 1927); each is counted now and then, with errors of 5 %. A handful of counts tells the
rates of recovery and death, and the contact rate at any time, with its uncertainty.
Run it with `python examples/epidemic.py`, or with `--fast` for a first look; it draws `epidemic.png`.
"""

import argparse

import matplotlib
import numpy as np
import torch
from torch.distributions import MultivariateNormal, TransformedDistribution, Uniform, constraints
from torch.distributions.transforms import SigmoidTransform

import simgraph as sg
from simgraph import Graph, deterministic, index, node

matplotlib.use("Agg")
from matplotlib import pyplot as plt

END, STEPS = 50.0, 100
t_beta = index("t_beta", 0, END, num=(1, 12), grid=60)
t = index("t", 0, END, num=(1, 15))  # all three are counted on the same days


@node(index=t_beta)
def beta(t_beta):
    near = torch.exp(-0.5 * (t_beta[:, None] - t_beta).double().square() / 7**2)
    process = MultivariateNormal(torch.zeros(len(t_beta)).double(), 2.5**2 * near + 1e-5 * torch.eye(len(t_beta)))
    return TransformedDistribution(process, SigmoidTransform())


@node
def recovery():
    return Uniform(0.0, 0.5)


@node
def death():
    return Uniform(0.0, 0.5)


@node
def first():  # infected on the first day
    return Uniform(0.0, 0.2)


@deterministic
def epidemic(beta, recovery, death, first):
    times, h = np.linspace(0, END, STEPS + 1), END / STEPS
    rates = beta(np.linspace(0, END, 2 * STEPS + 1))  # called like any function

    def flow(y, rate):
        new, recovered, dead = rate * y[0] * y[1], recovery * y[1], death * y[1]
        return np.array([-new, new - recovered - dead, recovered, dead])

    path = [np.array([1.0, first, 0.0, 0.0])]
    for step in range(STEPS):
        y, middle = path[-1], rates[2 * step + 1]
        k_1 = flow(y, rates[2 * step])
        k_2 = flow(y + h / 2 * k_1, middle)
        k_3 = flow(y + h / 2 * k_2, middle)
        path.append(y + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + flow(y + h * k_3, rates[2 * step + 2])))
    return times, np.stack(path)[:, 1:]


@node(index=t, shape=(3,), support=constraints.positive)
def counted(epidemic, t, rng):  # infected, recovered, dead, as shares of all
    times, path = epidemic
    right = np.stack([np.interp(t, times, column) for column in path.T], 1)
    return (right + 1e-6) * np.exp(0.05 * rng.normal(size=right.shape))


graph = Graph(beta, recovery, death, first, epidemic, counted)


def main(fast: bool) -> None:
    print(graph)
    traces = graph.simulate(500 if fast else 10_000, seed=0)
    print(traces)
    preset = "fast" if fast else "default"
    model = sg.fit(graph, traces, seed=0, preset=preset, time_limit=8 if fast else 500)
    print(model)
    if fast:
        print("so short a training shows how to ask, and no more")

    grid, count = np.linspace(0, END, 12 if fast else 40), 100 if fast else 1_000
    world = graph.simulate(1, seed=11, at={"t_beta": grid, "t": np.linspace(3, 48, 10)})
    days, counts = world["t"][0], world["counted"][0]
    figure, axes = plt.subplots(1, 3, figsize=(12, 3), sharey=True, constrained_layout=True)
    for axis, kept in zip(axes, ([2], [0, 2, 4, 6], list(range(10))), strict=True):
        query = model.given(counted=sg.Curve(days[kept], counts[kept]))
        rates = query.sample("recovery", "death", num_samples=count, seed=1)
        contact = query.sample("beta", num_samples=count, seed=1, at={"t_beta": grid})
        low, high = contact.quantile(0.05, 0).numpy(), contact.quantile(0.95, 0).numpy()
        inside = ((world["beta"][0] >= low) & (world["beta"][0] <= high)).mean()
        print(
            f"{len(kept):2} days of counts: recovery {_told(rates['recovery'])} ({world['recovery'][0]:.2f}), death"
            f" {_told(rates['death'])} ({world['death'][0]:.2f}); the contact rate is known to"
            f" ± {contact.std(0).mean():.2f}, and the true one lies in its 90 % band at {inside:.0%} of the days"
        )
        axis.fill_between(grid, low, high, alpha=0.3, label="90 % of the draws")
        axis.plot(grid, contact.median(0).values, linewidth=1, label="median")
        axis.plot(grid, world["beta"][0], color="black", linewidth=1, label="true contact rate")
        axis.plot(days[kept], np.full(len(kept), -0.03), "^", color="black", markersize=4)
        axis.set(title=f"counts of {len(kept)} days", xlabel="day", ylim=(-0.06, 1))
    axes[0].legend(fontsize=7)
    figure.savefig("epidemic.png", dpi=80)
    print("epidemic.png shows the contact rate; triangles are the days of the counts")


def _told(draws: torch.Tensor) -> str:
    return f"{draws.mean():.2f} ± {draws.std():.2f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true", help="a first look, after too short a training to mean much")
    main(parser.parse_args().fast)
