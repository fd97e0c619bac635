"""All forms of attention agree."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from simgraph.simformer import attention
from simgraph.simformer.attention import FEW, SHARED, SHORT, attend, attend_shared, barrier, project

BATCH, HEADS, FEATURES = 5, 2, 4
WIDTH = HEADS * FEATURES


def parts(queries, keys):
    """Query, key and value, (tokens, batch, width)."""
    generator = torch.Generator().manual_seed(queries + 100 * keys)
    return [
        torch.randn(count, BATCH, WIDTH, generator=generator, dtype=torch.float64, requires_grad=True)
        for count in (queries, keys, keys)
    ]


def biases(queries, keys):
    """Bias and mask by name."""
    generator = torch.Generator().manual_seed(7)

    def mask(count):
        allowed = torch.rand(count, queries, keys, generator=generator) < 0.5
        allowed[..., 0] = True
        return allowed

    def real():
        return torch.randn(HEADS, queries, keys, generator=generator, dtype=torch.float64)

    return {
        "none": (None, None),
        "one mask": (None, mask(1)),
        "masks": (None, mask(BATCH)),
        "bias": (real(), None),
        "bias and mask": (real(), mask(BATCH)),
        "bias and one mask": (real(), mask(1)),
    }


def barred(mask, shared=0):
    return None if mask is None else barrier(mask, torch.float64, mask.shape[2] - shared, shared)


def mine(query, key, value, heads, bias=None, mask=None, factors=None):
    return attend(query, key, value, heads, bias, barred(mask), factors)


def reference(query, key, value, heads, bias=None, mask=None):
    q, k, v = (part.unflatten(2, (heads, -1)).permute(1, 2, 0, 3) for part in (query, key, value))
    total = torch.zeros(BATCH, heads, len(query), len(key), dtype=q.dtype)
    if bias is not None:
        total = total + bias
    if mask is not None:
        total = total.masked_fill(~mask.unsqueeze(1), float("-inf"))
    return scaled_dot_product_attention(q, k, v, attn_mask=total).permute(2, 0, 1, 3).flatten(2)


@pytest.mark.parametrize(
    ("queries", "keys"),
    [(1, 1), (3, 3), (2, FEW), (FEW, FEW), (FEW + 1, FEW + 1), (3, FEW + 4), (2, FEW + 12), (2, SHORT + 1)],
)
@pytest.mark.parametrize("name", ["none", "one mask", "masks", "bias", "bias and mask", "bias and one mask"])
def test_attention_agrees_with_torch_in_values_and_gradients(queries, keys, name):
    bias, mask = biases(queries, keys)[name]
    results = []
    for function in (mine, reference):
        inputs = parts(queries, keys)
        out = function(*inputs, HEADS, bias, mask)
        assert out.shape == (queries, BATCH, WIDTH)
        (out * torch.arange(out.numel()).reshape(out.shape).cos()).sum().backward()
        results.append([out, *(part.grad for part in inputs)])
    for found, expected in zip(*results, strict=True):
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        assert torch.allclose(mine(*inputs, HEADS, bias, mask), results[1][0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("queries", "shared"), [(1, 1), (3, 2), (FEW, SHARED), (3, SHARED + 1), (FEW + 1, 2)])
@pytest.mark.parametrize("name", ["none", "one mask", "masks", "bias", "bias and mask", "bias and one mask"])
def test_shared_keys_are_those_of_every_row(queries, shared, name):
    bias, mask = biases(queries, shared + queries)[name]
    inputs = *parts(queries, queries), *(part[:, :1].detach().requires_grad_() for part in parts(queries, shared)[1:])
    query, key, value, *known = inputs

    def spread(old, new):
        return torch.cat([old.expand(-1, BATCH, -1), new])

    found = attend_shared(query, (key, value), tuple(known), HEADS, bias, barred(mask, shared))
    expected = reference(query, spread(known[0], key), spread(known[1], value), HEADS, bias, mask)
    slopes = [torch.autograd.grad(out.sin().sum(), inputs) for out in (found, expected)]
    for own, other in zip((found, *slopes[0]), (expected, *slopes[1]), strict=True):
        assert torch.allclose(own, other, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        drawn = attend_shared(query, (key, value), tuple(known), HEADS, bias, barred(mask, shared))
    assert torch.allclose(drawn, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("keys", [4, FEW + 2, FEW + 10, SHORT + 2])
def test_large_logits_stay_finite(keys):
    query, key, value = parts(2, keys)
    out = attend(1e4 * query, key, value, HEADS)
    out.sum().backward()
    assert torch.allclose(out, reference(1e4 * query, key, value, HEADS))
    assert query.grad.isfinite().all()


@pytest.mark.parametrize("keys", [3, FEW + 2])
def test_derivatives_of_derivatives_are_right(keys):
    inputs = [part.detach().requires_grad_() for part in parts(2, keys)]
    bias, mask = biases(2, keys)["bias and mask"]
    assert torch.autograd.gradgradcheck(lambda *x: attend(*x, HEADS, bias, barred(mask)), inputs)


@pytest.mark.parametrize("keys", [3, FEW + 2, SHORT + 2])
def test_gradients_reach_a_bias(keys):
    bias = torch.zeros(HEADS, 3, keys, dtype=torch.float64, requires_grad=True)
    attend(*parts(3, keys), HEADS, bias)[..., 0].sum().backward()
    assert bias.grad.abs().sum() > 0


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["none", "bias and mask"])
@pytest.mark.parametrize("keys", [FEW, FEW + 2, SHORT + 3])
def test_a_bias_may_come_as_two_factors(name, training, keys):
    bias, mask = biases(3, keys)[name]
    generator = torch.Generator().manual_seed(1)
    left, right = (
        torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((BATCH, HEADS, 3, 2), (BATCH, keys, 2))
    )
    product = left @ right.mT.unsqueeze(1)
    whole = product if bias is None else product + bias
    with torch.set_grad_enabled(training):
        found = mine(*parts(3, keys), HEADS, bias, mask, (left, right))
        expected = reference(*parts(3, keys), HEADS, whole, mask)
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)
    if training:
        slopes = [torch.autograd.grad(out.sin().sum(), (left, right), retain_graph=True) for out in (found, expected)]
        for own, other in zip(*slopes, strict=True):
            assert torch.allclose(own, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("keys", [4, FEW + 2, SHORT + 1])
@pytest.mark.parametrize("training", [True, False])
def test_masked_keys_change_nothing_at_all(keys, training):
    query, key, value = (part.detach() for part in parts(2, keys))
    mask = torch.ones(1, 2, keys, dtype=torch.bool)
    mask[:, 0, 1] = False
    with torch.set_grad_enabled(training):
        before = mine(query, key, value, HEADS, None, mask)
        key[1], value[1] = 1e3, -1e3
        after = mine(query, key, value, HEADS, None, mask)
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])


@pytest.mark.parametrize(("keys", "shared"), [(3, 0), (3, SHARED), (3, SHARED + 1), (FEW + 2, 0)])
def test_projections_are_matrix_products(keys, shared):
    x, weight = torch.randn(keys, BATCH, WIDTH), torch.randn(3 * WIDTH, WIDTH)
    for own, expected in zip(project(weight, x, keys, shared), (x @ weight.T).chunk(3, -1), strict=True):
        assert torch.allclose(own, expected, atol=1e-5)


def test_the_forms_are_really_three_and_a_learned_bias_is_never_left_to_torch(monkeypatch):
    called = []
    for name in ("_few", "_short", "_long"):
        monkeypatch.setattr(attention, name, lambda *a, name=name: called.append(name) or reference(*a[:6]))
    attend(*parts(2, FEW), HEADS)
    attend(*parts(2, SHORT), HEADS)
    attend(*parts(2, SHORT + 1), HEADS)
    attend(*parts(2, SHORT + 1), HEADS, torch.zeros(HEADS, 2, SHORT + 1, requires_grad=True))
    assert called == ["_few", "_short", "_long", "_short"]


@pytest.mark.parametrize(
    ("own", "shared", "few"), [(FEW, SHARED, True), (FEW + 1, SHARED, False), (FEW, SHARED + 1, False)]
)
def test_few_keys_beside_shared_ones_have_a_form_of_their_own(monkeypatch, own, shared, few):
    called = []
    monkeypatch.setattr(attention, "_few_shared", lambda *a: called.append(a))
    attend_shared(*parts(1, own)[:1], parts(1, own)[1:], [part[:, :1] for part in parts(1, shared)[1:]], HEADS)
    assert bool(called) == few
