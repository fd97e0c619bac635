import sys

import numpy as np
import pytest
import torch

from simgraph import Samples
from simgraph.errors import MissingExtraError, UnknownNameError

ONE = Samples({"a": torch.arange(4.0), "b": torch.arange(8.0).reshape(4, 2)})
MANY = Samples({"a": torch.arange(6.0).reshape(2, 3)}, batched=True)


def test_it_is_a_mapping_of_tensors():
    assert list(ONE) == ["a", "b"]
    assert ONE.num_samples == 4
    assert MANY.num_samples == 3
    assert dict(ONE)["b"].shape == (4, 2)


def test_an_unknown_name_is_suggested():
    with pytest.raises(UnknownNameError, match=r"'c' was not sampled.\n  Sampled: a, b."):
        ONE["c"]


def test_columns_are_flat_and_named_by_element():
    columns = ONE.columns()
    assert list(columns) == ["a", "b[0]", "b[1]"]
    assert columns["b[1]"].tolist() == [1, 3, 5, 7]


def test_columns_of_batches_are_stacked_with_their_number():
    columns = MANY.columns()
    assert columns["batch"].tolist() == [0, 0, 0, 1, 1, 1]
    assert columns["a"].tolist() == [0, 1, 2, 3, 4, 5]


def test_numpy_arrays_by_name():
    assert np.array_equal(ONE.to_numpy()["b"], ONE["b"].numpy())


def test_repr_is_a_short_table():
    text = repr(ONE)
    assert text.splitlines()[0] == "Samples with 4 draws"
    assert "b[1]" in text
    long = repr(Samples({"a": torch.zeros(3, 50)}))
    assert long.endswith("... and 30 more elements")
    assert repr(MANY).startswith("Samples with 3 draws for each of 2 pieces of evidence")


def test_pandas_is_named_when_it_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'simgraph\[pandas\]'"):
        ONE.to_pandas()
