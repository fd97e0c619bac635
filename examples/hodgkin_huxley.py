"""A neuron that spikes on little energy: seven conductances and potentials from a recording, under a demand.

The membrane of Hodgkin and Huxley (1952), with the rates of Pospischil et al. (2008), receives a current for a tenth of
a second. A recording is told by seven summaries, and by the energy that sodium pumps spend to restore it. Which neurons
fit a recording, and which of them on less energy than most? Gloeckler et al. (2024), section 4.4, asked first; the
starting values of two gates are mended here (their code swaps them).
Run it with `python examples/hodgkin_huxley.py`, or with `--fast` for a first look; it draws `hodgkin_huxley.png`.
"""

import argparse

import matplotlib
import numpy as np
import torch
from torch.distributions import Uniform

import simgraph as sg
from simgraph import Graph, node

matplotlib.use("Agg")
from matplotlib import pyplot as plt

TIME = np.linspace(0.0, 200.0, 5000)  # ms
CURRENT = np.where((TIME >= 50) & (TIME < 150), 4.0, 0.0)  # uA / cm2
NAMES = ("C", "g_Na", "g_K", "g_L", "E_Na", "E_K", "E_L")
LOW = torch.tensor([1.0, 60.0, 10.0, 0.1, 40.0, -100.0, -90.0])  # uF / cm2, mS / cm2, mV
HIGH = torch.tensor([2.0, 120.0, 30.0, 0.5, 70.0, -60.0, -60.0])
TOLD = ("spikes", "rest, mean", "rest, sd", "mean", "variance", "skewness", "kurtosis", "log energy")
ENERGY = 7


@node
def membrane():
    return Uniform(LOW, HIGH)


@node(shape=(8,), vectorized=True)  # takes and returns a leading axis: a thousand neurons at once
def recording(membrane, rng):
    voltage, charge = simulated(membrane, rng)
    return summaries(voltage, charge)


neuron = Graph(membrane, recording)


def simulated(membrane, rng):
    """Returns voltages (neurons, times) in mV, and the sodium charge (neurons,) in nC / cm2."""
    capacity, sodium, potassium, leak, e_sodium, e_potassium, e_leak = np.asarray(membrane).T
    step = TIME[1] - TIME[0]
    v = np.full(len(membrane), -65.0)
    opening, closing = gates(v)
    m, h, n = opening / (opening + closing)
    voltage, charge = np.empty((len(v), len(TIME))), np.zeros(len(v))
    for number, current in enumerate(CURRENT):
        voltage[:, number] = v
        inward = sodium * m**3 * h * (v - e_sodium)
        outward = potassium * n**4 * (v - e_potassium) + leak * (v - e_leak)
        opening, closing = gates(v)
        noise = 0.05 * np.sqrt(step) * rng.normal(size=len(v))
        v = np.clip(v + step * (current - inward - outward) / capacity + noise, -100.0, 100.0)
        m, h, n = np.stack([m, h, n]) + step * (opening * (1 - np.stack([m, h, n])) - closing * np.stack([m, h, n]))
        charge += step * inward
    return voltage, charge


def gates(v):
    """Returns the rates at which the gates m, h, n open and close, each (3, neurons), in 1 / ms."""
    v = v + 65.0

    def rate(x):
        return np.where(np.abs(x) < 1e-4, 1 - x / 2, x / np.where(np.abs(x) < 1e-4, 1.0, np.expm1(x)))

    opening = (1.28 * rate(-0.25 * (v - 13)), 0.128 * np.exp(-(v - 17) / 18), 0.16 * rate(-0.2 * (v - 15)))
    closing = (1.4 * rate(0.2 * (v - 40)), 4 / (1 + np.exp(-(v - 40) / 5)), 0.5 * np.exp(-(v - 10) / 40))
    return np.stack(opening), np.stack(closing)


def summaries(voltage, charge):
    """Returns seven summaries of voltages (neurons, times), and the log of the energy in uJ / s / cm2."""
    steep = np.diff(voltage, axis=1, prepend=-10.0) >= 5.0
    total = np.cumsum(np.pad(steep, ((0, 0), (10, 10))), 1)
    spiking = total[:, 20:] - total[:, :-20] > 1  # two steep steps within twenty
    spikes = (spiking[:, :-1] & ~spiking[:, 1:]).sum(1)
    rest, driven = voltage[:, TIME < 50], voltage[:, (TIME > 50) & (TIME < 150)]
    mean = driven.mean(1)
    away = driven - mean[:, None]
    variance = np.square(away).mean(1)
    skewness, kurtosis = ((away**power).mean(1) / variance ** (power / 2) for power in (3, 4))
    energy = np.log(np.maximum(-charge, 1e-3) * 0.628e-3 / 1.602176634e-19 / 3 * 1e-18 / 0.2)
    return np.stack([spikes, rest.mean(1), rest.std(1), mean, variance, skewness, kurtosis, energy], 1)


def main(fast: bool) -> None:
    print(neuron)
    traces = neuron.simulate(600 if fast else 10_000, seed=0)
    print(traces)
    model = sg.fit(neuron, traces, seed=0, preset="fast" if fast else "default", time_limit=10 if fast else 345)
    print(model)

    right = torch.tensor([1.2, 90.0, 20.0, 0.15, 55.0, -80.0, -70.0])
    seen = recording(right.numpy()[None], np.random.default_rng(3))[0]
    print("recorded:", ", ".join(f"{name} {value:.3g}" for name, value in zip(TOLD, seen, strict=True)))
    without = seen.copy()
    without[ENERGY] = np.nan  # a voltage clamp does not tell the energy
    query = model.given(recording=sg.missing(without))
    count = 100 if fast else 1_000
    fitting = query.sample("membrane", "recording", num_samples=count, seed=1)
    low = float(fitting["recording"][:, ENERGY].quantile(0.2))
    thrifty = query.given(sg.constraint(lambda recording: recording[ENERGY] - low)).sample(
        "membrane", "recording", num_samples=count, seed=1
    )
    print(thrifty)

    # Do they keep what they promise? The simulator itself tells.
    checked = {}
    for title, draws in {"all that fit": fitting, "the thrifty": thrifty}.items():
        again = recording(draws["membrane"].double().numpy(), np.random.default_rng(4))
        checked[title] = again
        print(
            f"{title}: simulated anew, {(again[:, ENERGY] <= low).mean():.0%} stay below {np.exp(low):.2f} uJ / s, and"
            f" have {np.median(again[:, 0]):.0f} spikes in the median (recorded: {seen[0]:.0f})"
        )
    moved = (thrifty["membrane"].mean(0) - fitting["membrane"].mean(0)) / fitting["membrane"].std(0)
    print("what saves energy, in standard deviations:", ", ".join(map("{} {:+.1f}".format, NAMES, moved.tolist())))
    _draw(checked, seen, low)


def _draw(checked, seen, low) -> None:
    figure, axes = plt.subplots(2, 4, figsize=(12, 5), constrained_layout=True)
    for number, axis in enumerate(axes.flat):
        for (title, again), colour in zip(checked.items(), ("tab:gray", "tab:green"), strict=True):
            axis.hist(again[:, number], bins=30, density=True, alpha=0.5, color=colour, label=title)
        axis.axvline(low if number == ENERGY else seen[number], color="black", linewidth=1)
        axis.set(title=TOLD[number], yticks=[])
    axes[0, 0].legend(fontsize=7)
    figure.suptitle("Simulated anew; black: recorded, and the demand on energy")
    figure.savefig("hodgkin_huxley.png", dpi=70)
    print("hodgkin_huxley.png shows the summaries")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true", help="a first look, after too short a training to mean much")
    main(parser.parse_args().fast)
