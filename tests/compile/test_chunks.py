"""Series as tokens of chunks."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal

import simgraph as sg
from simgraph import Chunks, Graph, Settings, node
from simgraph.compile.probe import Variable
from simgraph.compile.supports import Support
from simgraph.compile.tokenizers import tokenizer_for
from simgraph.errors import DeclarationError, EvidenceError
from simgraph.simformer import Architecture


def fitted(values, steps):
    support = Support("interval", np.array(-np.inf), np.array(np.inf))
    variable = Variable("series", (), values.shape[1:], support, values.ndim - 1, Chunks(steps))
    return tokenizer_for(variable).fit(values, np.ones(values.shape, dtype=bool))


@pytest.mark.parametrize(("shape", "steps", "count", "width"), [((12,), 3, 4, 3), ((2, 8), 4, 2, 8), ((5,), 5, 1, 5)])
def test_detokenize_inverts_tokenize(shape, steps, count, width):
    values = torch.as_tensor(np.random.default_rng(0).normal(3.0, 2.0, (50, *shape)))
    tokenizer = fitted(values.numpy(), steps)
    tokens = tokenizer.tokenize(values)
    assert (tokenizer.token_shape, tokens.shape) == ((count,), (50, count, width))
    assert abs(tokens.mean()) < 0.1
    assert abs(tokens.std() - 1) < 0.1
    assert torch.allclose(tokenizer.detokenize(tokens), values, atol=1e-5)


def test_a_chunk_holds_neighbouring_steps_of_all_channels_each_on_its_own_scale():
    values = np.random.default_rng(0).normal(size=(200, 2, 6)) * np.array([[1e-3], [1e3]])
    tokenizer = fitted(values, 3)
    assert tokenizer.owners().tolist() == [[0, 0, 0, 1, 1, 1]] * 2
    tokens = tokenizer.tokenize(torch.as_tensor(values)).unflatten(-1, (2, 3))
    assert torch.allclose(tokens.std((0, 1, 3)), torch.ones(2), atol=0.05)


@pytest.mark.parametrize("steps", [0, True, -1, 2.0, (3,), "5"])
def test_steps_are_a_whole_number(steps):
    with pytest.raises(DeclarationError, match="the steps of a chunk"):
        Chunks(steps)


@pytest.mark.parametrize("shape", [(10,), (2, 3, 4), ()])
def test_what_is_no_even_series_is_refused(shape):
    with pytest.raises(DeclarationError, match="does not cut evenly"):

        @node(shape=shape, tokenizer=Chunks(4))
        def series(rng):
            return None


@node
def rate():
    return Normal(0.0, 1.0)


@node(shape=(2, 6), tokenizer=Chunks(3))
def series(rate, rng):
    return rng.normal(rate, 0.1, (2, 6))


def test_chunks_are_given_drawn_and_saved(tmp_path):
    tiny = Settings(steps=10, batch_size=16, architecture=Architecture(width=16, depth=2, heads=2))
    model = sg.fit(Graph(rate, series), num_simulations=100, preset=tiny, progress=False)
    assert [*model.compiled.tokens] == [("rate", ()), ("series", (0,)), ("series", (1,))]
    values = np.random.default_rng(0).normal(size=(2, 6))
    draws = model.given(series=values).sample("rate", num_samples=3, seed=0)
    values[:, 3:] = np.nan
    filled = model.given(series=sg.missing(values)).sample("series", num_samples=3)
    assert torch.allclose(filled[:, :, :3].double(), torch.as_tensor(values[:, :3]).expand(3, -1, -1))
    values[0, 1] = np.nan
    with pytest.raises(EvidenceError, match="parts of chunks of 3 steps"):
        model.given(series=sg.missing(values))
    model.save(tmp_path / "model.sg")
    whole = np.random.default_rng(0).normal(size=(2, 6))
    again = sg.load(tmp_path / "model.sg").given(series=whole).sample("rate", num_samples=3, seed=0)
    assert torch.equal(draws, again)
