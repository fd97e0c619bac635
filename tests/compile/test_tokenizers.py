"""Values to tokens and back."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simgraph.compile.probe import Variable
from simgraph.compile.supports import Support
from simgraph.compile.tokenizers import MAX_CLASSES, tokenizer_for

INF = np.inf


def variable(event_shape=(), kind="interval", low=-INF, high=INF, plate_shape=()):
    support = Support(kind, np.asarray(low, dtype=float), np.asarray(high, dtype=float))
    return Variable("v", plate_shape, event_shape, support, support.event_dim)


def fitted(values, present=None, **options):
    values = np.asarray(values, dtype=float)
    plates = len(options.get("plate_shape", ()))
    plain = tokenizer_for(variable(values.shape[1 + plates :], **options))
    return plain.fit(values, np.ones(values.shape, dtype=bool) if present is None else present)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def tensor(values):
    return torch.as_tensor(np.asarray(values), dtype=torch.float64)


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (normal(500, 3), {}),
        (np.exp(normal(500)), {"low": 0.0}),
        (np.random.default_rng(0).uniform(-2, 5, (500, 2)), {"low": -2.0, "high": 5.0}),
        (-np.exp(normal(500)), {"high": 0.0}),
        (np.random.default_rng(1).standard_t(2, (500, 2)), {}),
        (np.stack([normal(500), np.exp(normal(500))], 1), {"low": [-INF, 0.0], "high": [INF, INF]}),
        (np.random.default_rng(0).dirichlet(np.ones(4), 500), {"kind": "simplex", "low": 0.0, "high": 1.0}),
        (np.random.default_rng(0).poisson(9, 500), {"kind": "integers", "low": 0.0}),
        (np.random.default_rng(0).integers(3, 8, (500, 2)), {"kind": "integers", "low": 3.0, "high": 7.0}),
        (np.random.default_rng(0).integers(0, 100, 500), {"kind": "integers", "low": 0.0, "high": 99.0}),
        (normal(500, 4, 2), {"plate_shape": (4,)}),
    ],
)
def test_detokenize_inverts_tokenize(values, options):
    tokenizer = fitted(values, **options)
    tokens = tokenizer.tokenize(tensor(values))
    assert tokens.dtype == torch.float32
    assert tokens.shape[-2:] == (tokenizer.num_tokens, tokenizer.width)
    back = tokenizer.detokenize(tokens)
    assert back.shape == values.shape
    # Tokens are single precision numbers of about unit size.
    assert torch.allclose(back, tensor(values), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"low": 0.0, "high": 1.0}, {"low": 0.0}])
def test_tokens_have_mean_zero_and_unit_variance(options):
    tokens = fitted(np.random.default_rng(0).uniform(0, 1, 2000), **options).tokenize(
        tensor(np.random.default_rng(0).uniform(0, 1, 2000))
    )
    assert abs(float(tokens.mean())) < 1e-5
    assert float(tokens.std()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (normal(500, 3) * [1.0, 1e-3, 50.0], {}),
        (np.exp(normal(500)), {"low": 0.0}),
        (np.random.default_rng(0).uniform(-2, 5, (500, 2)), {"low": -2.0, "high": 5.0}),
        (-np.exp(normal(500)), {"high": 0.0}),
        (np.random.default_rng(1).standard_t(2, (500, 2)), {}),
        (np.stack([normal(500), np.exp(normal(500))], 1), {"low": [-INF, 0.0], "high": [INF, INF]}),
        (normal(500, 4, 2), {"plate_shape": (4,)}),
    ],
)
def test_the_log_scale_is_the_slope_of_tokens(values, options):
    tokenizer = fitted(values, **options)
    values = tensor(values[:20])
    step = 1e-6 * values.abs().clamp_min(1e-3)
    # In double precision: tokens themselves are rounded to single precision.
    shape, exact = tokenizer.variable.event_shape, tokenizer._tokens
    slope = (exact(values + step) - exact(values - step)) / (2 * step).reshape(*values.shape[: -len(shape) or None], -1)
    # Central differences: the third derivative times step^2, and rounding 1e-16 / 1e-6.
    assert torch.allclose(tokenizer.log_scale(values), slope.log(), atol=1e-5)


def test_the_log_scale_of_a_simplex_is_that_of_all_coordinates_but_the_last():
    values = np.random.default_rng(0).dirichlet(np.ones(4), 500)
    tokenizer = fitted(values, kind="simplex", low=0.0, high=1.0)

    def token(first):
        whole = torch.cat([first, 1 - first.sum(-1, keepdim=True)])
        return (tokenizer.variable.support.unconstrain(whole) - tokenizer._tensor("mean")) / tokenizer._tensor("sd")

    for row in tensor(values[:5]):
        expected = torch.linalg.slogdet(torch.autograd.functional.jacobian(token, row[:-1]))[1]
        assert torch.allclose(tokenizer.log_scale(row), expected, atol=1e-8)


def test_categories_have_probabilities_and_no_scale():
    tokenizer = fitted(np.arange(4), kind="integers", low=0, high=3)
    assert tokenizer.log_scale(tensor([0.0, 3.0])).tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize(("low", "high"), [(0.0, INF), (0.0, 99.0)])
def test_cells_of_counts_border_one_another_and_cover_everything(low, high):
    values = np.random.default_rng(0).poisson(9, 500)
    tokenizer = fitted(values, kind="integers", low=low, high=high)
    counts = tensor(np.arange(0, 100))
    cells, middle = tokenizer.cells(counts).squeeze(-2), tokenizer.tokenize(counts).flatten()
    assert torch.equal(cells[:-1, 1], cells[1:, 0])
    assert ((cells[:, 0] < middle) & (middle < cells[:, 1])).all()
    assert cells[0, 0] == -INF
    assert cells[-1, 1].isinf() == np.isfinite(high)


def test_elements_of_very_different_scales_are_standardised_one_by_one():
    values = normal(1000, 3) * [1e-9, 1.0, 1e9] + [0.0, 5.0, 1e12]
    tokenizer = fitted(values)
    tokens = tokenizer.tokenize(tensor(values))
    assert torch.allclose(tokens.squeeze(-1).std(0), torch.ones(3), atol=1e-3)
    error = (tokenizer.detokenize(tokens) - tensor(values)).abs()
    assert (error < 1e-5 * torch.tensor([1e-9, 1.0, 1e9])).all()


@pytest.mark.parametrize("constant", [0.0, 0.1, -3.7e8, 1e-300])
def test_constants_come_back_exactly_whatever_the_token(constant):
    values = np.stack([np.full(200, constant), normal(200)], 1)
    tokenizer = fitted(values)
    tokens = tokenizer.tokenize(tensor(values))
    assert not tokens[:, 0].any()
    assert (tokenizer.detokenize(tokens + 3.0)[:, 0] == constant).all()


@pytest.mark.parametrize("seed", range(3))
def test_heavy_tails_become_tokens_of_moderate_size(seed):
    values = np.random.default_rng(seed).standard_cauchy(5000)
    tokenizer = fitted(values)
    tokens = tokenizer.tokenize(tensor(values))
    assert float(tokens.abs().max()) < 15
    assert 0.2 < float(tokens.quantile(0.75) - tokens.quantile(0.25)) < 3
    assert torch.allclose(tokenizer.detokenize(tokens), tensor(values), rtol=1e-4, atol=1e-5)


def test_light_tails_stay_linear():
    values = normal(5000)
    tokens = fitted(values).tokenize(tensor([-4.0, 0.0, 4.0])).flatten()
    assert float(tokens[2] - tokens[1]) == pytest.approx(float(tokens[1] - tokens[0]), rel=1e-5)


@given(st.integers(-50, 50), st.integers(2, 8))
def test_categories_may_start_anywhere(low, classes):
    values = low + np.arange(classes)
    tokenizer = fitted(values, kind="integers", low=low, high=low + classes - 1)
    tokens = tokenizer.tokenize(tensor(values))
    assert (tokenizer.kind, tokenizer.classes, tokenizer.width) == ("categories", classes, classes)
    assert tokenizer.detokenize(tokens).tolist() == values.tolist()
    assert tokens.squeeze(1).argmax(-1).tolist() == list(range(classes))


def test_codes_of_categories_are_centred_and_equally_far_apart():
    codes = tokenizer_for(variable(kind="integers", low=0, high=4)).codes()
    distance = torch.cdist(codes, codes)[~torch.eye(5, dtype=torch.bool)]
    assert torch.allclose(codes.sum(0), torch.zeros(5), atol=1e-6)
    assert torch.allclose(distance, distance[0].expand_as(distance))
    assert float(codes.square().mean()) == pytest.approx(1 - 1 / 5)


def test_few_whole_numbers_are_categories_and_many_are_counts():
    assert tokenizer_for(variable(kind="integers", low=1, high=MAX_CLASSES)).kind == "categories"
    assert tokenizer_for(variable(kind="integers", low=0, high=MAX_CLASSES)).kind == "elements"
    assert tokenizer_for(variable(kind="integers", low=0, high=INF)).kind == "elements"


def test_counts_survive_noise_on_the_token_and_stay_whole():
    values = np.random.default_rng(0).poisson(20.0, 1000)
    tokenizer = fitted(values, kind="integers", low=0)
    tokens = tokenizer.tokenize(tensor(values))
    assert torch.equal(tokenizer.detokenize(tokens), tensor(values))
    wild = tokenizer.detokenize(5 * torch.randn(500, 1, 1, generator=torch.Generator().manual_seed(0)))
    assert (wild >= 0).all()
    assert torch.equal(wild, wild.round())


def test_dequantised_counts_fill_their_cells_and_come_back():
    values = np.random.default_rng(0).poisson(3.0, 2000)
    tokenizer = fitted(values, kind="integers", low=0)
    generator = torch.Generator().manual_seed(0)
    first = tokenizer.tokenize(tensor(values), generator)
    second = tokenizer.tokenize(tensor(values), generator)
    assert not torch.equal(first, second)
    assert torch.equal(tokenizer.detokenize(first), tensor(values))
    # Some spread within each cell, none across: tokens are ordered as the counts are.
    order = np.argsort(first.flatten().numpy())
    assert (np.diff(values[order]) >= 0).all()


def test_a_count_that_never_changes_comes_back_whatever_the_token():
    tokenizer = fitted(np.zeros(100), kind="integers", low=0)
    assert not tokenizer.detokenize(torch.tensor([-30.0, 0.0, 30.0]).reshape(3, 1, 1)).any()


@pytest.mark.parametrize("high", [INF, 1e6])
def test_counts_that_are_nearly_always_equal_become_tokens_of_unit_size(high):
    values = np.zeros(2000)
    values[:3] = 1
    tokenizer = fitted(values, kind="integers", low=0, high=high)
    tokens = tokenizer.tokenize(tensor(values), torch.Generator().manual_seed(1))
    assert 0.8 < tokens.std() < 1.2
    assert tokens.abs().max() < 10
    assert torch.equal(tokenizer.detokenize(tokens), tensor(values))


@pytest.mark.parametrize(("low", "high"), [(0.0, 99.0), (-40.0, 40.0)])
def test_bounded_counts_never_leave_their_bounds(low, high):
    values = np.random.default_rng(0).integers(low, high + 1, 500)
    tokenizer = fitted(values, kind="integers", low=low, high=high)
    out = tokenizer.detokenize(torch.tensor([-1e6, -9.0, 0.0, 9.0, 1e6]).reshape(5, 1, 1))
    assert ((out >= low) & (out <= high)).all()
    assert torch.equal(tokenizer.detokenize(tokenizer.tokenize(tensor([low, high]))), tensor([low, high]))


@pytest.mark.parametrize(
    "options", [{}, {"low": 0.0}, {"low": 0.0, "high": 1.0}, {"low": [-INF, 0.0], "high": [0.5, 2.0]}]
)
def test_tokens_of_any_size_detokenize_into_the_support(options):
    values = np.random.default_rng(0).uniform(0.01, 0.49, (300, 2))
    tokenizer = fitted(values, **options)
    out = tokenizer.detokenize(torch.tensor([-1e6, -50.0, 50.0, 1e6])[:, None, None].expand(4, 2, 1))
    assert not out.isnan().any()
    assert tokenizer.variable.support.contains(out.numpy()).all()


def test_a_simplex_is_one_token_per_vector():
    values = np.random.default_rng(0).dirichlet(np.ones(3), (400, 5))
    tokenizer = fitted(values, kind="simplex", low=0.0, high=1.0)
    assert (tokenizer.token_shape, tokenizer.num_tokens, tokenizer.width) == ((5,), 5, 2)
    tokens = tokenizer.tokenize(tensor(values))
    assert torch.allclose(tokenizer.detokenize(tokens), tensor(values), atol=1e-5)
    assert torch.allclose(tokenizer.detokenize(9 * tokens).sum(-1), torch.ones(400, 5).double())


@pytest.mark.parametrize("options", [{}, {"low": 0.0}, {"kind": "integers", "low": 0.0}])
def test_missing_entries_do_not_count_in_the_statistics(options):
    values = np.random.default_rng(0).poisson(30.0, (300, 2)).astype(float)
    present = np.random.default_rng(1).random((300, 2)) < 0.6
    spoilt = np.where(present, values, np.nan)
    statistics = fitted(spoilt, present, **options).statistics
    tolerance = 1e-2 if options.get("kind") == "integers" else 1e-6  # counts are spread over their cells at random
    for column in range(2):
        alone = fitted(values[present[:, column], column], **options).statistics
        for key, value in alone.items():
            assert statistics[key][column] == pytest.approx(float(value[0]), rel=tolerance)


def test_missing_vectors_do_not_count_in_the_statistics_of_a_simplex():
    values = np.random.default_rng(0).dirichlet(np.ones(3), 300)
    present = np.random.default_rng(1).random((300, 3)) < 0.8
    whole = present.all(-1)
    options = {"kind": "simplex", "low": 0.0, "high": 1.0}
    partial = fitted(np.where(present, values, np.nan), present, **options).statistics
    assert {k: v.tolist() for k, v in partial.items()} == {
        k: v.tolist() for k, v in fitted(values[whole], **options).statistics.items()
    }


@pytest.mark.parametrize("options", [{}, {"kind": "simplex", "low": 0.0, "high": 1.0}])
def test_a_variable_that_is_never_present_still_gets_finite_statistics(options):
    tokenizer = fitted(np.full((20, 3), np.nan), np.zeros((20, 3), dtype=bool), **options)
    assert all(np.isfinite(value).all() for value in tokenizer.statistics.values())
    assert tokenizer.detokenize(torch.zeros(1, tokenizer.num_tokens, tokenizer.width)).isfinite().all()


def test_statistics_are_pooled_over_plates_but_not_over_events():
    values = normal(400, 5, 2) * [1.0, 100.0]
    pooled = fitted(values, plate_shape=(5,)).statistics
    flat = fitted(values.reshape(-1, 2)).statistics
    assert {k: v.tolist() for k, v in pooled.items()} == {k: v.tolist() for k, v in flat.items()}
    assert pooled["scale"][1] > 50 * pooled["scale"][0]


def test_a_token_exists_if_all_its_entries_do():
    scalar = tokenizer_for(variable((2,)))
    assert scalar.present(torch.tensor([[True, False]])).tolist() == [[True, False]]
    simplex = tokenizer_for(variable((2, 3), kind="simplex", low=0.0, high=1.0))
    present = torch.tensor([[[True, True, True], [True, False, True]]])
    assert simplex.present(present).tolist() == [[True, False]]
