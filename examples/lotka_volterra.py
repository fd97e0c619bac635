"""Prey and predators, seen now and then: functions of time, and one model for any times (Lotka 1925, Volterra 1926).

Four rates drive two populations. Both are counted with noise, at times of their own: nobody counts on a schedule. The
model answers for the rates and for both populations at any other time, from whatever was seen so far.
Run it with `python examples/lotka_volterra.py`, or with `--fast` for a first look; it draws `lotka_volterra.png`.
"""

import argparse

import matplotlib
import numpy as np
from scipy.integrate import solve_ivp
from torch.distributions import constraints

import simgraph as sg
from simgraph import Graph, deterministic, index, node

matplotlib.use("Agg")
from matplotlib import pyplot as plt

END = 15.0
t_prey, t_predator = index("t_prey", 0, END, num=(1, 20)), index("t_predator", 0, END, num=(1, 20))


@node(shape=(4,), support=constraints.interval(1.0, 3.0), depends={"rates": "independent"})
def rates(rng):  # births of prey, deaths by predators, deaths of predators, births by prey
    return 1 + 2 / (1 + np.exp(-rng.normal(size=4)))


@deterministic
def orbit(rates):
    a, b, c, d = rates

    def flow(t, z):
        return a * z[0] - b * z[0] * z[1], d * z[0] * z[1] - c * z[1]

    return solve_ivp(flow, (0, END), (1.0, 0.5), method="LSODA", dense_output=True, rtol=1e-5).sol


@node(index=t_prey)
def prey(orbit, t_prey, rng):
    return rng.normal(orbit(t_prey)[0], 0.1)


@node(index=t_predator)
def predator(orbit, t_predator, rng):
    return rng.normal(orbit(t_predator)[1], 0.1)


lotka_volterra = Graph(rates, orbit, prey, predator)


def main(fast: bool) -> None:
    print(lotka_volterra)
    traces = lotka_volterra.simulate(1_000 if fast else 10_000, seed=0)
    print(traces)
    preset = "fast" if fast else "default"
    model = sg.fit(lotka_volterra, traces, seed=0, preset=preset, time_limit=8 if fast else 600)
    print(model)

    # One world, of which ever more is seen: four counts of prey, then nine of predators as well, then many.
    seen = {"prey": [2.0, 5.0, 9.0, 12.0], "predator": np.linspace(1.0, 14.0, 9)}
    many = {"t_prey": np.linspace(0.5, 14.5, 19), "t_predator": np.linspace(0.7, 14.7, 19)}
    world = lotka_volterra.simulate(1, seed=7, at={"t_prey": seen["prey"], "t_predator": seen["predator"]})
    later = lotka_volterra.simulate(1, seed=7, at=many)  # the same rates, other times
    truth = world["rates"][0]
    some = sg.Curve(seen["prey"], world["prey"][0])
    stages = {
        "four counts of prey": {"prey": some},
        "and nine of predators": {"prey": some, "predator": sg.Curve(seen["predator"], world["predator"][0])},
        "nineteen of each": {
            "prey": sg.Curve(many["t_prey"], later["prey"][0]),
            "predator": sg.Curve(many["t_predator"], later["predator"][0]),
        },
    }
    grid = np.linspace(0.0, END, 20 if fast else 60)
    count = 200 if fast else 1_000
    print("true rates:", " ".join(f"{rate:.2f}" for rate in truth))
    figure, axes = plt.subplots(1, len(stages), figsize=(12, 3), sharey=True, constrained_layout=True)
    right = {"prey": _truth(truth, grid, 0), "predator": _truth(truth, grid, 1)}
    for axis, (title, evidence) in zip(axes, stages.items(), strict=True):
        query = model.given(evidence)
        draws = query.sample("rates", num_samples=count, seed=1)
        both = query.sample("prey", "predator", num_samples=count, seed=1, at={"t_prey": grid, "t_predator": grid})
        told = " ".join(f"{m:.2f} ± {s:.2f}" for m, s in zip(draws.mean(0), draws.std(0), strict=True))
        width = float(np.mean([both[name].std(0).mean() for name in right]))
        print(f"{title}: rates {told}; populations are known to ± {width:.2f}")
        for name, colour in (("prey", "tab:blue"), ("predator", "tab:red")):
            low, high = both[name].quantile(0.05, 0).numpy(), both[name].quantile(0.95, 0).numpy()
            axis.fill_between(grid, low, high, color=colour, alpha=0.25, label=f"{name}, 90 % of the draws")
            axis.plot(grid, right[name], color=colour, linewidth=1)
            if name in evidence:
                axis.plot(evidence[name].points, evidence[name].values, "o", color=colour, markersize=3)
        axis.set(title=title, xlabel="time")
    axes[0].legend(fontsize=7)
    figure.savefig("lotka_volterra.png", dpi=80)
    print("lotka_volterra.png shows the bands, the truth and what was seen")


def _truth(rates: np.ndarray, times: np.ndarray, which: int) -> np.ndarray:
    return orbit(rates)(times)[which]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true", help="a first look, after too short a training to mean much")
    main(parser.parse_args().fast)
