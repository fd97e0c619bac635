"""Both ways of attention agree."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from simgraph.simformer import attention
from simgraph.simformer.attention import FEW, attend

BATCH, HEADS, FEATURES = 5, 2, 4


def parts(queries, keys):
    """Query, key and value, (heads, features, tokens, batch)."""
    generator = torch.Generator().manual_seed(queries + 100 * keys)
    return [
        torch.randn(HEADS, FEATURES, count, BATCH, generator=generator, dtype=torch.float64, requires_grad=True)
        for count in (queries, keys, keys)
    ]


def biases(queries, keys):
    generator = torch.Generator().manual_seed(7)

    def mask(*lead):
        allowed = torch.rand(*lead, queries, keys, generator=generator) < 0.5
        allowed[..., 0] = True
        return allowed

    def real(*lead):
        return torch.randn(*lead, queries, keys, generator=generator, dtype=torch.float64)

    return {
        "none": None,
        "one mask": mask(1, 1),
        "masks": mask(BATCH, 1),
        "bias by head": real(1, HEADS),
        "bias and mask": real(1, HEADS).masked_fill(~mask(BATCH, 1), float("-inf")),
    }


def reference(query, key, value, bias):
    q, k, v = (part.permute(3, 0, 2, 1) for part in (query, key, value))
    return scaled_dot_product_attention(q, k, v, attn_mask=bias).permute(1, 3, 2, 0)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (3, 3), (2, FEW), (FEW, FEW), (FEW + 1, FEW + 1), (3, FEW + 4)])
@pytest.mark.parametrize("name", ["none", "one mask", "masks", "bias by head", "bias and mask"])
def test_attention_agrees_with_torch_in_values_and_gradients(queries, keys, name):
    bias = biases(queries, keys)[name]
    results = []
    for function in (attend, reference):
        inputs = parts(queries, keys)
        out = function(*inputs, bias)
        assert out.shape == (HEADS, FEATURES, queries, BATCH)
        (out * torch.arange(out.numel()).reshape(out.shape).cos()).sum().backward()
        results.append([out, *(part.grad for part in inputs)])
    for mine, expected in zip(*results, strict=True):
        assert torch.allclose(mine, expected, rtol=1e-10, atol=1e-12)


def test_gradients_reach_a_float_bias():
    for keys in (3, FEW + 2):
        bias = torch.zeros(1, HEADS, 3, keys, dtype=torch.float64, requires_grad=True)
        attend(*parts(3, keys), bias)[:, 0].sum().backward()
        assert bias.grad.abs().sum() > 0


def test_masked_keys_change_nothing_at_all():
    for keys in (4, FEW + 2):
        query, key, value = (part.detach() for part in parts(2, keys))
        mask = torch.ones(1, 1, 2, keys, dtype=torch.bool)
        mask[..., 0, 1] = False
        before = attend(query, key, value, mask)
        key[:, :, 1], value[:, :, 1] = 1e3, -1e3
        after = attend(query, key, value, mask)
        assert torch.equal(before[:, :, 0], after[:, :, 0])
        assert not torch.equal(before[:, :, 1], after[:, :, 1])


def test_the_two_ways_are_really_two(monkeypatch):
    called = []
    monkeypatch.setattr(attention, "_few", lambda *a: called.append(1) or reference(*a))
    attend(*parts(2, FEW), None)
    attend(*parts(2, FEW + 1), None)
    assert len(called) == 1
