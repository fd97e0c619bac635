"""Images as tokens of patches."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal, constraints

import simgraph as sg
from simgraph import Graph, Patches, Settings, deterministic, node
from simgraph.compile.probe import Variable
from simgraph.compile.supports import Support
from simgraph.compile.tokenizers import tokenizer_for
from simgraph.errors import DeclarationError, EvidenceError
from simgraph.simformer import Architecture
from simgraph.testing import check_mask

INF = np.inf


def fitted(values, size, low=-INF, high=INF):
    support = Support("interval", np.array(low), np.array(high))
    variable = Variable("image", (), values.shape[1:], support, values.ndim - 1, Patches(size))
    return tokenizer_for(variable).fit(values, np.ones(values.shape, dtype=bool))


@pytest.mark.parametrize(
    ("shape", "size", "grid"),
    [((4, 6), 2, (2, 3)), ((3, 4, 6), (4, 3), (1, 2)), ((1, 4, 4), 1, (4, 4)), ((2, 4, 4), 4, (1, 1))],
)
@pytest.mark.parametrize(("low", "high"), [(-INF, INF), (0.0, 1.0), (0.0, INF)])
def test_detokenize_inverts_tokenize(shape, size, grid, low, high):
    values = torch.as_tensor(np.random.default_rng(0).uniform(0.05, 0.95, (20, *shape)))
    tokenizer = fitted(values.numpy(), size, low, high)
    assert tokenizer.token_shape == grid
    tokens = tokenizer.tokenize(values)
    assert tokens.shape == (20, grid[0] * grid[1], tokenizer.width)
    assert abs(tokens.mean()) < 0.1
    assert abs(tokens.std() - 1) < 0.1
    assert torch.allclose(tokenizer.detokenize(tokens), values, atol=1e-5)


def test_a_patch_holds_neighbouring_pixels_of_all_channels():
    values = np.random.default_rng(0).normal(size=(5, 2, 4, 6))
    tokenizer = fitted(values, (2, 3))
    owners = tokenizer.owners()
    assert owners.shape == (2, 4, 6)
    assert np.array_equal(owners[0], owners[1])
    assert owners[0].tolist() == [[0] * 3 + [1] * 3] * 2 + [[2] * 3 + [3] * 3] * 2
    changed = values.copy()
    changed[:, :, :2, 3:] += 1
    before, after = (tokenizer.tokenize(torch.as_tensor(v)) for v in (values, changed))
    assert ((before != after).any(-1).any(0) == torch.tensor([False, True, False, False])).all()


def test_the_scale_is_the_log_determinant():
    values = np.random.default_rng(0).uniform(0.1, 0.9, (30, 4, 4))
    tokenizer = fitted(values, 2, 0.0, 1.0)
    one = torch.as_tensor(values[:1])
    jacobian = torch.autograd.functional.jacobian(lambda v: tokenizer.tokenize(v).double().flatten(), one).reshape(
        16, 16
    )
    assert torch.allclose(jacobian.slogdet()[1], tokenizer.log_scale(one).sum(), atol=1e-3)


def test_patches_are_whole():
    present = torch.ones(1, 4, 4, dtype=torch.bool)
    present[0, 0, 0] = False
    assert fitted(np.random.default_rng(0).normal(size=(5, 4, 4)), 2).present(present).tolist() == [
        [False] + [True] * 3
    ]


@pytest.mark.parametrize("size", [0, True, (2,), (2, 2, 2), "8", 2.0, (2, -1)])
def test_sizes_are_whole_numbers(size):
    with pytest.raises(DeclarationError, match="the size of a patch"):
        Patches(size)


def test_what_is_no_even_image_is_refused():
    with pytest.raises(DeclarationError, match="does not cut evenly"):

        @node(shape=(1, 30, 32), tokenizer=Patches(8))
        def image(rng):
            return None

    with pytest.raises(DeclarationError, match=r"it is sg.Patches\(...\), sg.Chunks"):

        @node(shape=(4, 4), tokenizer=8)
        def other(rng):
            return None

    @node(tokenizer=Patches(2))
    def vector():
        return Normal(torch.zeros(4), 1.0)

    with pytest.raises(DeclarationError, match="does not cut evenly"):
        sg.compile(Graph(vector))

    @node(shape=(4, 4), support=constraints.boolean, tokenizer=Patches(2))
    def pixels(rng):
        return rng.integers(0, 2, (4, 4))

    with pytest.raises(DeclarationError, match="Patches hold real numbers"):
        sg.compile(Graph(pixels))


@node
def level():
    return Normal(0.0, 1.0)


@node(shape=(1, 4, 4), tokenizer=Patches(2))
def picture(level, rng):
    return rng.normal(level, 0.1, (1, 4, 4))


@deterministic(shape=(2, 2), tokenizer=Patches((1, 2)))
def small(picture):
    return picture[0].reshape(2, 2, 2, 2).mean((1, 3))


graph = Graph(level, picture, small)


@pytest.fixture(scope="module")
def model():
    tiny = Settings(steps=10, batch_size=16, architecture=Architecture(width=16, depth=2, heads=2))
    return sg.fit(graph, num_simulations=100, preset=tiny, progress=False)


def test_patches_are_given_drawn_saved_and_masked(model, tmp_path):
    compiled = model.compiled
    assert len(compiled.layout) == 1 + 4 + 2
    assert compiled.layout.width == 4
    assert compiled.tokens[1] == ("picture", (0, 0))
    image = np.random.default_rng(0).normal(size=(1, 4, 4))
    draws = model.given(picture=image).sample("level", num_samples=3, seed=0)
    assert draws.shape == (3,)
    assert model.given(level=0.3).sample("picture", num_samples=3).shape == (3, 1, 4, 4)
    half = image.copy()
    half[:, :2] = np.nan
    filled = model.given(picture=sg.missing(half)).sample("picture", num_samples=3)
    assert torch.allclose(filled[:, :, 2:].double(), torch.as_tensor(image[:, 2:]).expand(3, -1, -1, -1))
    model.save(tmp_path / "model.sg")
    again = sg.load(tmp_path / "model.sg").given(picture=image).sample("level", num_samples=3, seed=0)
    assert torch.equal(draws, again)
    check_mask(compiled, num_queries=10)


def test_parts_of_patches_are_refused(model):
    holed = np.zeros((1, 4, 4))
    holed[0, 0, 0] = np.nan
    with pytest.raises(EvidenceError, match="parts of patches of 2 x 2 pixels"):
        model.given(picture=sg.missing(holed))
