"""Sharp images from blurred ones: images as patches, and part of an image unseen.

A sky holds one to three blobs of light, the telescope blurs it, and the camera adds noise. The model answers with skies
that fit a photograph, more than one where the photograph leaves it open: where a quarter of the camera is dead, too.
Run it with `python examples/deblurring.py`, or with `--fast` for a first look; it draws `deblurring.png`.
"""

import argparse

import matplotlib
import numpy as np
from scipy.ndimage import gaussian_filter

import simgraph as sg
from simgraph import Graph, Patches, node

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SIDE = 16


@node(shape=(SIDE, SIDE), tokenizer=Patches(4))
def sky(rng):
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    light = np.zeros((SIDE, SIDE))
    for _ in range(rng.integers(1, 4)):
        (row, column), width = rng.uniform(2, SIDE - 2, 2), rng.uniform(0.8, 1.6)
        light += rng.uniform(0.5, 1.5) * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * width**2))
    return light


@node(shape=(SIDE, SIDE), tokenizer=Patches(4))
def photograph(sky, rng):
    return gaussian_filter(sky, 1.5) + rng.normal(0.0, 0.02, (SIDE, SIDE))


telescope = Graph(sky, photograph)


def main(fast: bool) -> None:
    print(telescope)
    traces = telescope.simulate(1_000 if fast else 10_000, seed=0)
    preset = "fast" if fast else "default"
    model = sg.fit(telescope, traces, seed=0, preset=preset, time_limit=8 if fast else 600)
    print(model)

    world = telescope.simulate(1, seed=5)
    truth, seen = world["sky"][0], world["photograph"][0]
    dead = seen.copy()
    dead[: SIDE // 2, : SIDE // 2] = np.nan  # whole patches: a quarter of the camera
    count = 100 if fast else 500
    figure, axes = plt.subplots(2, 6, figsize=(12, 4), constrained_layout=True)
    for row, (title, evidence) in enumerate({"whole camera": seen, "a quarter is dead": sg.missing(dead)}.items()):
        draws = model.given(photograph=evidence).sample("sky", num_samples=count, seed=1).numpy()
        mean, sd = draws.mean(0), draws.std(0)
        error = float(np.sqrt(np.square(mean - truth).mean()))
        hidden = float(sd[: SIDE // 2, : SIDE // 2].mean() / sd[SIDE // 2 :, SIDE // 2 :].mean())
        print(
            f"{title}: the mean of {count} skies is off by {error:.3f} per pixel, the photograph itself by"
            f" {np.sqrt(np.square(seen - truth).mean()):.3f}; the upper left quarter is {hidden:.1f} times as uncertain"
            " as the lower right"
        )
        shown = {
            "sky": truth,
            f"seen, {title}": dead if row else seen,
            "mean": mean,
            "sd": sd,
            "a draw": draws[0],
            "another": draws[1],
        }
        for axis, (name, image) in zip(axes[row], shown.items(), strict=True):
            axis.imshow(image, cmap="magma", vmin=0, vmax=None if name == "sd" else max(1.0, truth.max()))
            axis.set(title=name, xticks=[], yticks=[])
    figure.savefig("deblurring.png", dpi=70)
    print("deblurring.png shows the skies")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true", help="a first look, after too short a training to mean much")
    main(parser.parse_args().fast)
