"""A graph of many kinds: a simplex, a category, a plate, and a black box, asked from every side.

A survey finds plants of three species in unknown shares. Each of five plots has one species and a soil score that
depends on it; a field camera, a program of its own, turns the soil scores into one index.
Run it with `python examples/survey.py`, or with `--fast` for a first look.
"""

import argparse

import numpy as np
import torch
from torch.distributions import Categorical, Dirichlet, Normal

import simgraph as sg
from simgraph import Graph, node, plate

plot = plate("plot", 5)


@node
def shares():
    return Dirichlet(torch.ones(3))


@node(plates=plot)
def species(shares):
    return Categorical(shares)


@node(plates=plot)
def soil(species):
    return Normal(torch.tensor([-2.0, 0.0, 2.0])[species], 0.5)


@node
def camera(soil, rng):
    return np.tanh(soil).sum() + rng.normal(0.0, 0.1)


survey = Graph(shares, species, soil, camera)


def main(fast: bool) -> None:
    print(survey)
    model = sg.fit(
        survey, num_simulations=3_000 if fast else 10_000, seed=0, preset="fast", time_limit=10 if fast else None
    )
    print(model)
    soils = [-2.1, -1.8, 0.1, 2.2, -2.0]
    species_given_soil = model.given(soil=soils).sample("species", num_samples=500, seed=1)
    print("most likely species of the plots:", species_given_soil.mode(0).values.tolist(), "(expected 0 0 1 2 0)")
    shares_given_soil = model.given(soil=soils).sample("shares", num_samples=500, seed=1)
    print("shares given the soils:", shares_given_soil.mean(0).numpy().round(2), "(exactly 4/8, 2/8, 2/8)")
    print(model.given(camera=-3.0).sample("shares", "soil", num_samples=500, seed=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true", help="a first look, after too short a training to mean much")
    main(parser.parse_args().fast)
