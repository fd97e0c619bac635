import numpy as np
import torch
from torch.distributions import Normal

import simgraph as sg
from simgraph.plots.posterior import plot_against_reference


@sg.node
def theta():
    return Normal(torch.zeros(2), 1.0)


@sg.node
def x(theta):
    return Normal(theta.sum(), 0.5)


def test_the_mask_picture_has_the_tokens_and_the_states():
    figure = sg.compile(sg.Graph(theta, x)).plot_mask(given=["x"])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["theta[0]", "theta[1]", "x"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["observed", "latent"]


def test_the_mask_picture_is_coloured_where_attention_is_allowed():
    compiled = sg.compile(sg.Graph(theta, x))
    image = np.asarray(compiled.plot_mask(given=["x"]).axes[0].images[0].get_array())
    allowed = compiled.edge_mask(given=["x"]).numpy()
    assert ((image < 1).any(-1) == allowed).all()


def test_shortcuts_are_marked_in_the_picture_and_in_the_text():
    nodes = [sg.node(name="z0")(lambda: Normal(0.0, 1.0))]
    for step in range(1, 8):
        above = {"previous": f"z{step - 1}"}
        nodes.append(sg.node(name=f"z{step}", parents=above)(lambda previous: Normal(previous, 1.0)))
    compiled = sg.compile(sg.Graph(*nodes))
    legend = compiled.plot_mask().axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["latent", "shortcut"]
    assert "◆ shortcut" in compiled.explain()
    assert compiled.explain().count("◆") == 1 + 64 - 8 - 2 * 7
    assert "◆" not in compiled.explain(depth=7)
    given = compiled.explain(given=["z4"])
    assert "◆" not in given, "two chains of four and three, within four layers"
    assert "z4  observed" in given


def test_posteriors_stand_above_their_references():
    draws = [np.zeros((10, 2)), np.ones((10, 2))]
    figure = plot_against_reference(draws, draws, ["a", "b"])
    assert [axes.get_title() for axes in figure.axes[:2]] == ["a", "b"]
    assert len(figure.axes) == 4


def test_no_figure_is_registered_with_pyplot():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    sg.compile(sg.Graph(theta, x)).plot_mask()
    assert plt.get_fignums() == before
