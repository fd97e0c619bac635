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
