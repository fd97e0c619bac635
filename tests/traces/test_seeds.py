import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simgraph.errors import DeclarationError
from simgraph.traces.seeds import block_seeds, check_seed, integer_seed, numpy_stream, torch_stream

seeds = st.integers(0, 2**63 - 1)


@given(seeds)
def test_seeds_are_kept(seed):
    assert check_seed(seed) == seed
    assert type(check_seed(np.int64(seed))) is int


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, "0", None, True, np.float64(3)])
def test_other_seeds_are_refused(seed):
    with pytest.raises(DeclarationError, match=r"is no seed; use a whole number of 0 or more, below 2\*\*63"):
        check_seed(seed)


def test_streams_are_the_same_again():
    assert numpy_stream(1, "x", 2, 3).random() == numpy_stream(1, "x", 2, 3).random()
    assert torch.rand((), generator=torch_stream(1, "x", 2)) == torch.rand((), generator=torch_stream(1, "x", 2))


def test_streams_differ_in_everything_that_names_them():
    positions = [(), (0,), (1,), (0, 0), (1, 0), (0, 1), (11,)]
    places = [(seed, name, *position) for seed in (0, 1, 11) for name in ("x", "y", "x1") for position in positions]
    assert len({numpy_stream(*place).integers(2**63) for place in places}) == len(places)
    assert len({integer_seed(*place) for place in places}) == len(places)


@given(seeds, st.text(min_size=1, max_size=5), st.integers(0, 10**6))
def test_integer_seeds_fit_torch(seed, name, position):
    assert 0 <= integer_seed(seed, name, position) < 2**63


@given(st.integers(0, 40), st.integers(1, 30), st.integers(0, 12))
def test_seeds_of_blocks_do_not_depend_on_where_a_run_starts_or_ends(first, count, offset):
    whole = block_seeds(3, "x", 0, 0, first + count + offset)
    assert block_seeds(3, "x", 0, first, count) == whole[first : first + count]


def test_seeds_of_blocks_differ():
    found = [seed for s in (0, 1) for n in "xy" for draw in (0, 1) for seed in block_seeds(s, n, draw, 0, 50)]
    assert len({seed % 2**32 for seed in found}) == len(found)  # torch reads the lower 32 bits
    assert all(0 <= seed < 2**63 for seed in found)
