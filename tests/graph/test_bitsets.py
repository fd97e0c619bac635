"""Sets of tokens as words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simgraph.graph.bitsets import Groups, Parts, pack, unpack


@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 128, 200])
def test_unpacking_undoes_packing(tokens):
    sets = np.random.default_rng(tokens).random((3, 5, tokens)) < 0.3
    words = pack(sets)
    assert words.shape == (3, 5, -(-tokens // 64))
    assert np.array_equal(unpack(words, tokens), sets)


@given(st.integers(1, 4), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_sets_of_one_label_are_united(batch, count, seed):
    random = np.random.default_rng(seed)
    sets = random.random((batch, count, 70)) < 0.2
    labels = random.integers(0, count, (batch, count))
    united = unpack(Groups(labels).union(pack(sets)), 70)
    for row in range(batch):
        for number in range(count):
            assert np.array_equal(united[row, number], sets[row, labels[row] == labels[row, number]].any(0))


@given(
    st.lists(st.integers(1, 9) | st.integers(60, 70), min_size=1, max_size=8),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
)
def test_parts_are_reduced_as_by_reduceat(lengths, batch, seed):
    random = np.random.default_rng(seed)
    starts = np.cumsum([0, *lengths[:-1]])
    values = random.integers(0, 1000, (batch, sum(lengths), 2))
    for operation in (np.bitwise_or, np.bitwise_and, np.minimum):
        expected = operation.reduceat(values, starts, axis=1)
        assert np.array_equal(Parts(starts, sum(lengths)).reduce(operation, values), expected)
