"""Eight schools, or any number from four to sixteen: a plate whose size varies, and one model for every size.

Each school coached its pupils for a test and measured by how much that helped, with a known standard error (Rubin
1981). The schools are alike but not the same: effects ~ N(mu, tau). How many schools there are, the evidence tells.
Run it with `python examples/eight_schools.py`, or with `--fast` for a first look.
"""

import argparse

import torch
from torch.distributions import HalfCauchy, Normal, Uniform

import simgraph as sg
from simgraph import Graph, node, plate

school = plate("school", size=(4, 16))


@node
def mu():
    return Normal(0.0, 5.0)


@node
def tau():
    return HalfCauchy(5.0)


@node(plates=school)
def error():  # known of every school: a covariate, given in every query
    return Uniform(5.0, 20.0)


@node(plates=school)
def effect(mu, tau):
    return Normal(mu, tau)


@node(plates=school)
def score(effect, error):
    return Normal(effect, error)


schools = Graph(mu, tau, error, effect, score)

scores = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
errors = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]


def main(fast: bool) -> None:
    print(schools)
    traces = schools.simulate(3_000 if fast else 10_000, seed=0)
    print(traces)
    model = sg.fit(schools, traces, seed=0, preset="fast" if fast else "default", time_limit=12 if fast else None)
    print(model)

    count = 300 if fast else 2_000
    eight = model.given(score=scores, error=errors)
    learned = eight.sample("mu", "effect", num_samples=count, seed=1)
    right = eight.sample("mu", "effect", num_samples=count, seed=1, exact=True)
    print(right)
    print("what coaching brought, as measured, by the network alone, and corrected by the graph's own density:")
    for number, letter in enumerate("ABCDEFGH"):
        print(
            f"  school {letter}: {scores[number]:5.1f} ± {errors[number]:4.1f}"
            f"   {_told(learned['effect'][:, number])}   {_told(right['effect'][:, number])}"
        )
    print(f"on average over all such schools: {_told(learned['mu'])}, corrected {_told(right['mu'])}")

    # The same model, other schools: five of them, and two states of different size at once.
    five = model.given(score=scores[:5], error=errors[:5]).sample("mu", num_samples=count, seed=1, exact=True)
    print(f"from the first five schools alone: {_told(five)}")
    states = model.given(score=[scores[:4], scores], error=[errors[:4], errors])
    for draws in states.sample("effect", num_samples=count, seed=1):
        print(
            f"a state of {draws.shape[1]} schools: effects from {draws.mean(0).min():.1f} to {draws.mean(0).max():.1f}"
        )
    joint = model.sample(num_samples=count, seed=1, at={"school": 12})
    print(f"before any evidence, twelve schools differ by {joint['effect'].std(1).median():.1f} in the median")


def _told(draws: torch.Tensor) -> str:
    return f"{draws.mean():5.1f} ± {draws.std():4.1f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true", help="a first look, after too short a training to mean much")
    main(parser.parse_args().fast)
