"""A simulator that is a program of its own: parameters go into a file, results come out of another.

The program (awk here, any executable in your case) serves customers at a counter one after the other. Each call gets a
fresh folder, `workdir`, which is removed afterwards, and a seed from `rng`, so that every trace can be repeated. A run
that fails or hangs is a failed trace; here those with an overflowing queue are dropped, and the simulation says so.
Run it with `python examples/external_program.py`, or with `--fast` for a first look.
"""

import argparse
import subprocess
import warnings

import numpy as np
from torch.distributions import Uniform

import simgraph as sg
from simgraph import Graph, node

PROGRAM = r"""
{ setting[$1] = $2 }
END {
    srand(setting["seed"])
    for (customer = 0; customer < 200; customer++) {
        arrival += -log(1 - rand()) / setting["arrivals"]
        begin = arrival > free ? arrival : free
        free = begin - log(1 - rand()) / setting["speed"]
        waited = begin - arrival
        total += waited
        if (waited > longest) longest = waited
    }
    if (longest > 40) { print "the queue overflows" > "/dev/stderr"; exit 1 }
    print "mean", total / 200
    print "longest", longest
    print "closing", free
}
"""


@node
def arrivals():  # customers per minute
    return Uniform(0.5, 1.5)


@node
def speed():  # customers served per minute of work
    return Uniform(1.0, 3.0)


@node(shape=3)
def waiting(arrivals, speed, rng, workdir):  # minutes: on average, at most, and until the last one has left
    settings, results = workdir / "settings.txt", workdir / "results.txt"
    settings.write_text(f"arrivals {arrivals}\nspeed {speed}\nseed {rng.integers(2**31)}\n")
    with results.open("w") as out:
        command = ["awk", PROGRAM, settings]
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, timeout=10, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return np.array([float(line.split()[1]) for line in results.read_text().splitlines()])


counter = Graph(arrivals, speed, waiting)


def main(fast: bool) -> None:
    print(counter)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        traces = counter.simulate(1_500 if fast else 10_000, seed=0, on_failure="drop")
    for warning in caught:
        print(warning.message)
    print(traces)
    model = sg.fit(counter, traces, seed=0, preset="fast" if fast else "default", time_limit=8 if fast else None)
    print(model)

    number = 7  # any trace can be simulated again by its number
    again = counter.simulate(1, seed=0, start=number)
    print("trace", number, "again:", {name: np.round(again[name][0], 3).tolist() for name in counter})
    observed = [1.5, 6.0, 205.0]
    print("a day with a mean wait of 1.5 minutes, 6 at most, and the last customer gone after 205:")
    posterior = model.given(waiting=observed).sample("arrivals", "speed", num_samples=1_000, seed=1)
    print(posterior)
    faster = model.given(arrivals=float(posterior["arrivals"].mean()), speed=2.5).sample("waiting", seed=1)
    print(f"with a speed of 2.5 the mean wait would be {faster[:, 0].median():.2f} minutes, says the model,")
    fixed = {"arrivals": np.full(200, float(posterior["arrivals"].mean())), "speed": np.full(200, 2.5)}
    print(f"and {np.median(counter.simulate(given=fixed, seed=2)['waiting'][:, 0]):.2f} minutes, says the program")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true", help="a first look, after too short a training to mean much")
    main(parser.parse_args().fast)
