"""Products by the faster library are those of float32."""

import pytest
import torch

from simgraph.processor import products, tuned
from simgraph.processor.products import fast_products


def precision():
    return torch.backends.mkldnn.matmul.fp32_precision


@pytest.mark.parametrize(("rows", "inner", "columns"), [(16, 16, 16), (1664, 48, 144), (96, 1664, 288)])
def test_products_are_exact_to_float32(rows, inner, columns):
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(rows, inner, generator=generator), torch.randn(columns, inner, generator=generator).T
    with fast_products():
        product = left @ right
    right_one = left.double() @ right.double()
    # Sums of up to 1 664 products, each rounded to 2^-24; factors of bfloat16 would be off by 2^-9.
    assert (product - right_one).abs().max() < 1e-5 * right_one.abs().max()


def test_the_setting_is_on_while_any_context_lasts():
    before = precision()
    first, second = fast_products(), fast_products()
    first.__enter__()
    during = precision()
    second.__enter__()
    first.__exit__(None, None, None)
    assert precision() == during
    second.__exit__(None, None, None)
    assert precision() == before
    assert (during == "bf16") == products._exact()


def test_a_library_that_rounds_is_not_used(monkeypatch):
    monkeypatch.setattr(products, "_ROUNDING", 0.0)
    products._measured.cache_clear()
    before = precision()
    with fast_products():
        assert precision() == before
    products._measured.cache_clear()


def test_settings_are_restored_also_after_an_error():
    def fail():
        with tuned():
            assert torch.get_num_threads() == 1
            raise ZeroDivisionError

    before = precision()
    torch.set_num_threads(2)
    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.get_num_threads() == 2
    assert precision() == before


def test_processors_without_wide_vectors_are_left_alone(monkeypatch):
    products._measured.cache_clear()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    before = precision()
    with fast_products():
        assert precision() == before
    products._measured.cache_clear()
