"""The masks that training uses, on programs whose exact score is known in numbers."""

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simgraph import compile
from simgraph.compile.masks import ABSENT, LATENT
from simgraph.testing import graphs
from simgraph.traces.distributions import at_element
from simgraph.train.conditions import Conditions, Pool


def covariance(graph, compiled):
    """The covariance of a linear-Gaussian program's tokens, from its own functions."""
    layout = compiled.layout
    names = layout.names
    shapes = {name: layout.tokenizers[name].variable.shape for name in names}

    def tokens(noise):
        found = {}
        for name in names:
            node, own = graph[name], noise[layout.slots(name)].reshape(shapes[name])
            mean = torch.zeros(shapes[name], dtype=torch.float64)
            for element in np.ndindex(*node.plate_shape):
                values = {
                    parameter: at_element(found[parent], graph[parent].plates, node.plates, element)
                    for parameter, parent in node.signature.parents
                }
                mean[element] = node(**values).loc
            found[name] = mean + own
        return torch.cat([found[name].reshape(-1) for name in names])

    root = torch.stack([tokens(unit) for unit in torch.eye(len(layout), dtype=torch.float64)]).numpy()
    return root.T @ root


@pytest.mark.parametrize("examples", [15, pytest.param(300, marks=pytest.mark.slow)])
def test_the_exact_score_depends_on_what_the_masks_of_training_let_through(examples):
    @settings(max_examples=examples)
    @given(graphs(), st.integers(0, 2**32 - 1), st.integers(1, 5))
    def holds(graph, seed, depth):
        compiled = compile(graph, graph.simulate(8, seed=0, progress=False))
        generator = torch.Generator().manual_seed(seed)
        states, masks = Pool(Conditions(compiled), compiled, depth, generator).draw(3)
        joint = covariance(graph, compiled)
        for state, mask in zip(states, masks, strict=True):
            latent = (state == LATENT).numpy()
            noise = np.where(latent, 0.3 + torch.rand(len(state), generator=generator).numpy(), 0.0)
            kept = (state != ABSENT).nonzero().flatten().tolist()
            precision = np.linalg.inv((joint + np.diag(noise))[np.ix_(kept, kept)])
            scale = np.sqrt(np.outer(np.diag(precision), np.diag(precision)))
            # The Jacobian of the score of the noised latents given the observed is minus the precision.
            jacobian = np.abs(precision / scale) > 1e-9
            reach = nx.from_numpy_array(mask.numpy(), create_using=nx.DiGraph)
            for row, i in enumerate(kept):
                if latent[i]:
                    heard = set(nx.single_source_shortest_path_length(reach, i, cutoff=depth))
                    assert heard == {kept[k] for k in np.flatnonzero(jacobian[row])}
                    assert heard == set(nx.descendants(reach, i)) | {i}

    holds()
