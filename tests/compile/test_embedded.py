"""Data that a network turns into one token, trained with the rest."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Dirichlet, Normal, constraints

import simgraph as sg
from simgraph import Convolution, Embedding, Graph, Settings, index, node, plate
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.compile.probe import Variable
from simgraph.compile.supports import Support
from simgraph.compile.tokenizers import tokenizer_for
from simgraph.errors import DeclarationError, EvidenceError, QueryError, SamplingBiasWarning
from simgraph.simformer import Architecture
from simgraph.testing import check_mask
from simgraph.traces.seeds import torch_stream
from simgraph.train.conditions import Conditions

TINY = Architecture(width=16, depth=2, heads=2)
torch.manual_seed(2)  # networks are drawn as they are declared, whatever was imported before
LINEAR = nn.Linear(20, 3)
INF = np.inf


def fitted(values, spec, kind="interval", low=-INF, high=INF):
    support = Support(kind, np.array(low), np.array(high))
    variable = Variable("data", (), values.shape[1:], support, values.ndim - 1, spec)
    return tokenizer_for(variable).fit(values, np.ones(values.shape, dtype=bool))


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape)


def test_each_element_of_a_vector_has_its_own_scale():
    values = normal(500, 20) * np.logspace(-6, 6, 20) + 3
    seen = fitted(values, Embedding(LINEAR)).standardised(torch.as_tensor(values))
    assert torch.allclose(seen.std(0), torch.ones(20), atol=1e-3)
    assert torch.allclose(seen.mean(0), torch.zeros(20), atol=1e-3)


@pytest.mark.parametrize(
    ("spec", "shape", "channels"),
    [
        (Convolution(1), (16,), None),
        (Convolution(1), (2, 16), 2),
        (Convolution(2), (8, 8), None),
        (Convolution(2), (3, 8, 8), 3),
        (Embedding(nn.Flatten(), structured=True), (3, 8, 8), 3),
        (Embedding(nn.Flatten(), structured=True), (16,), None),
    ],
)
def test_images_and_series_have_one_scale_for_each_channel(spec, shape, channels):
    scales = np.ones(shape)
    scales[..., :3] = 3  # one corner is larger: that stays visible
    if channels:
        scales *= np.logspace(0, 4, channels).reshape(-1, *[1] * (len(shape) - 1))
    values = torch.as_tensor(normal(300, *shape) * scales)
    seen = fitted(values.numpy(), spec).standardised(values)
    assert seen.shape == values.shape
    by_channel = seen.transpose(0, 1).flatten(1) if channels else seen.flatten().unsqueeze(0)
    assert torch.allclose(by_channel.std(1), torch.ones(channels or 1), atol=0.01)
    assert seen[..., :3].std() > 2.5 * seen[..., 3:].std()


def test_counts_and_half_lines_are_mapped_before_the_network_sees_them():
    counts = np.random.default_rng(0).poisson(2000, (200, 4, 4)).astype(float)
    seen = fitted(counts, Convolution(2), "integers", 0.0).standardised(torch.as_tensor(counts))
    assert torch.allclose(seen.std(), torch.tensor(1.0), atol=1e-3)
    sizes = np.exp(4 * normal(200, 20))
    seen = fitted(sizes, Embedding(LINEAR), low=0.0).standardised(torch.as_tensor(sizes))
    assert seen.abs().max() < 5


def test_tokens_are_what_the_network_says():
    values = normal(50, 20)
    tokenizer = fitted(values, Embedding(LINEAR))
    tokens = tokenizer.tokenize(torch.as_tensor(values))
    assert (tokenizer.num_tokens, tokenizer.width, tokens.shape) == (1, 3, (50, 1, 3))
    assert torch.allclose(tokens[:, 0], LINEAR(tokenizer.standardised(torch.as_tensor(values))), atol=1e-6)
    assert tokenizer.detokenize(tokens).isnan().all()


class Second(nn.Module):
    def forward(self, x):
        return x.mean(0, keepdim=True)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Linear(7, 3), "fails at values of shape"),
        (nn.Identity(), None),
        (nn.Unflatten(1, (4, 5)), r"maps values of shape \(3, 20\) to \(3, 4, 5\)"),
        (Second(), r"to \(1, 20\)"),
        (nn.Sequential(LINEAR, nn.BatchNorm1d(3)), "differently when asked again, or beside others"),
        (nn.Sequential(LINEAR, nn.Dropout(0.5)), "differently when asked again"),
    ],
)
def test_a_network_maps_rows_to_features(network, message):
    def declare():
        @node(shape=(20,), tokenizer=Embedding(network))
        def data(rng):
            return rng.normal(size=20)

    if message is None:
        declare()
    else:
        with pytest.raises(DeclarationError, match=message):
            declare()


@pytest.mark.parametrize(
    "wrong",
    [lambda: Embedding(len), lambda: Convolution(3), lambda: Convolution(1, 0), lambda: Convolution(1, 4, (0,))],
)
def test_what_is_no_network_is_refused(wrong):
    with pytest.raises(DeclarationError, match="For example"):
        wrong()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(DeclarationError, match=r"is for \(height, width\)"):

        @node(shape=(20,), tokenizer=Convolution(2))
        def data(rng):
            return None

    @node(tokenizer=Embedding(nn.Identity()))
    def shares():
        return Dirichlet(torch.ones(3))

    with pytest.raises(DeclarationError, match="stand for themselves"):
        sg.compile(Graph(shares))

    @node(tokenizer=Embedding(nn.Identity()))
    def alone():
        return Normal(torch.zeros(3), 1.0)

    with pytest.raises(DeclarationError, match="nothing can be asked for"):
        sg.compile(Graph(alone))
    t = index("t", 0.0, 1.0, num=3)
    with pytest.raises(DeclarationError, match="tokenizer= and index="):

        @node(index=t, shape=(20,), tokenizer=Embedding(LINEAR))
        def path(t, rng):
            return None


@node
def level():
    return Normal(0.0, 1.0)


@node(shape=(20,), vectorized=True, tokenizer=Embedding(nn.Sequential(nn.Linear(20, 8), nn.GELU(), nn.Linear(8, 4))))
def series(level, rng):
    return rng.normal(level[:, None], 2.0, (len(level), 20))


@node(shape=(2, 8, 8), support=constraints.positive, vectorized=True, tokenizer=Convolution(2, 6, (4,)))
def picture(level, rng):
    return np.exp(level[:, None, None, None] + rng.uniform(-2, 2, (len(level), 2, 8, 8)))


graph = Graph(level, series, picture)


@pytest.fixture(scope="module")
def model():
    settings = Settings(steps=400, batch_size=64, architecture=TINY)
    return sg.fit(graph, num_simulations=2000, preset=settings, progress=False)


def test_networks_learn_with_the_rest_and_the_declared_one_stays(model):
    before = graph["series"].tokenizer.network.state_dict()
    after = model.compiled.layout.embedded["series"].network.state_dict()
    assert all((before[key] != after[key]).any() for key in before if "weight" in key)
    traces = graph.simulate(200, seed=7, progress=False)
    traces = traces[np.flatnonzero(np.abs(traces["level"]) < 2)]  # well within what training saw
    # Given twenty values of variance 4, the posterior has precision 1 + 20 / 4 and mean sum / 4 / precision.
    exact = traces["series"].sum(1) / 4 / 6
    draws = model.given(series=traces["series"]).sample("level", num_samples=200, seed=0)
    assert np.corrcoef(draws.mean(1), exact)[0, 1] > 0.9
    assert 6**-0.5 < float(draws.std(1).mean()) < 0.75
    images = model.given(picture=traces["picture"]).sample("level", num_samples=200, seed=0)
    assert np.corrcoef(images.mean(1), traces["level"])[0, 1] > 0.9
    both = model.given(picture=traces["picture"], series=traces["series"]).sample("level", num_samples=200, seed=0)
    assert float(both.std(1).mean()) < float(draws.std(1).mean())


def test_what_has_an_embedding_can_only_be_given(model):
    assert list(model.sample(num_samples=2)) == ["level"]
    values = np.zeros(20)
    for ask in (
        lambda: model.sample("series"),
        lambda: model.given(series=sg.above(0.0)).sample("level"),
        lambda: model.log_prob(series=values),
        lambda: model.given(level=0.3).predict("series"),
        lambda: model.map("series"),
        lambda: model.compiled.states(of=["series"]),
        lambda: sg.fit(graph, num_simulations=20, queries=[{"of": ["series"]}]),
    ):
        with pytest.raises(QueryError, match=r"'series' has the tokenizer Embedding\(Sequential, \d+ weights\)"):
            ask()
    assert list(model.do(picture=np.ones((2, 8, 8))).sample(num_samples=2)) == ["level"]
    with pytest.raises(QueryError, match="every variable that can be asked for is given"):
        model.given(level=0.3).sample()
    values[3] = np.nan
    with pytest.raises(EvidenceError, match=r"observes a part of what Embedding\(Sequential"):
        model.given(series=sg.missing(values))
    assert "level" in repr(model.given(series=np.zeros(20)))


def test_log_prob_given_an_embedding(model):
    grid = torch.linspace(-6, 6, 601)
    density = model.given(series=normal(20)).log_prob(level=grid).exp()
    assert float(density.sum() * 0.02) == pytest.approx(1.0, abs=0.02)


def test_a_model_comes_back_from_a_file_with_its_networks(model, tmp_path):
    model.save(tmp_path / "model.sg")
    again = sg.load(tmp_path / "model.sg", graph)
    evidence = {"series": normal(20), "picture": np.exp(normal(2, 8, 8))}
    first, second = (m.given(evidence).sample("level", num_samples=5, seed=0) for m in (model, again))
    assert torch.equal(first, second)
    with pytest.raises(QueryError, match=r"Load the model with its graph: sg.load\(path, graph\)"):
        sg.load(tmp_path / "model.sg")


def test_convolutions_come_back_without_the_graph(tmp_path):
    settings = Settings(steps=5, batch_size=16, architecture=TINY)
    plain = Graph(level, picture)
    model = sg.fit(plain, num_simulations=50, preset=settings, progress=False)
    model.save(tmp_path / "model.sg")
    image = np.exp(normal(2, 8, 8))
    draws = [
        m.given(picture=image).sample("level", num_samples=5, seed=0) for m in (model, sg.load(tmp_path / "model.sg"))
    ]
    assert torch.equal(*draws)


def test_elements_of_a_plate_share_their_network():
    subject = plate("subject", size=(2, 4))

    @node(plates=subject, shape=(20,), tokenizer=Embedding(LINEAR))
    def reading(level, rng):
        return rng.normal(level, 1.0, 20)

    model = sg.fit(
        Graph(level, reading),
        num_simulations=60,
        preset=Settings(steps=5, batch_size=16, architecture=TINY),
        progress=False,
    )
    readings = normal(3, 20)
    turned = [model.given(reading=r).sample("level", num_samples=5, seed=0) for r in (readings, readings[[2, 0, 1]])]
    assert torch.allclose(*turned, atol=1e-4)


def test_training_never_asks_for_them_and_masks_are_sound():
    compiled = sg.compile(graph)
    states = Conditions(compiled).draw(2000, torch_stream(0, "test"))
    assert (states[:, 0] == LATENT).all()  # there is nothing else to ask for
    assert set(states[:, 1:].unique().tolist()) == {OBSERVED, ABSENT}
    assert compiled.states().tolist() == [LATENT, ABSENT, ABSENT]
    check_mask(compiled, num_queries=10)


def test_lacking_data_are_no_evidence():
    @node(shape=(20,), tokenizer=Embedding(LINEAR))
    def failing(level, rng):
        return np.full(20, np.nan) if level > 1 else rng.normal(level, 1.0, 20)

    settings = Settings(steps=5, batch_size=16, architecture=TINY)
    with pytest.warns(SamplingBiasWarning):
        traces = Graph(level, failing).simulate(100, on_failure="missing", progress=False)
    model = sg.fit(Graph(level, failing), traces, preset=settings, progress=False)
    assert np.isfinite(model.history.best)
