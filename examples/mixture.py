"""A Gaussian mixture with labels: any number of points, two groups, and questions from every side.

Each point belongs to one of two groups, of unknown sizes and centres, and lies near its group's centre. A label is a
variable like any other: it can be given where it is known, asked for, or left out.
Run it with `python examples/mixture.py`, or with `--fast` for a first look.
"""

import argparse

import numpy as np
import torch
from torch.distributions import Beta, Categorical, Normal

import simgraph as sg
from simgraph import Graph, node, plate

point = plate("point", size=(4, 12))


@node
def share():  # of the right group
    return Beta(2.0, 2.0)


@node
def centres():
    return Normal(torch.tensor([-1.5, 1.5]), 0.7)


@node(plates=point)
def label(share):
    return Categorical(torch.stack([1 - share, share], -1))


@node(plates=point)
def x(centres, label):
    return Normal(centres[label], 0.6)


mixture = Graph(share, centres, label, x)

values = [-1.6, -1.1, -2.0, -0.1, 0.4, 1.2, 1.0, 1.8]


def main(fast: bool) -> None:
    print(mixture)
    traces = mixture.simulate(3_000 if fast else 10_000, seed=0)
    model = sg.fit(mixture, traces, seed=0, preset="fast" if fast else "default", time_limit=20 if fast else None)
    print(model)

    count = 500 if fast else 2_000
    seen = model.given(x=values)
    learned = seen.sample("label", "centres", num_samples=count, seed=1)
    right = seen.sample("label", "centres", num_samples=count, seed=1, exact=True)
    print("how probable it is that a point belongs to the right group, learned and corrected:")
    for position, value in enumerate(values):
        chances = [draws["label"][:, position].float().mean() for draws in (learned, right)]
        print(f"  x = {value:4.1f}   {chances[0]:.2f}   {chances[1]:.2f}")
    print(f"centres {told(right['centres'])}")

    # Somebody tells which group three of the points belong to; the others stay unknown.
    labels = sg.missing([0, np.nan, np.nan, 1, 1, np.nan, np.nan, np.nan])
    partly = model.given(x=values, label=labels)
    print(f"centres {told(partly.sample('centres', num_samples=count, seed=1, exact=True))} with three labels known")
    few = model.given(label=[0, 0, 1, 1, 1]).sample("x", num_samples=count, seed=1)
    print("five points that are known by label alone lie on average at", few.mean(0).numpy().round(2))


def told(centres: torch.Tensor) -> str:
    return ", ".join(f"{mean:.2f} ± {sd:.2f}" for mean, sd in zip(centres.mean(0), centres.std(0), strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true", help="a first look, after too short a training to mean much")
    main(parser.parse_args().fast)
