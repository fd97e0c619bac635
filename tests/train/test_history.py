"""The table of a training."""

import pytest

from simgraph.train import History


def row(step, loss):
    return {"step": step, "seconds": 1.5, "learning_rate": 0.01, "training_loss": 2.0, "validation_loss": loss}


def test_a_history_is_a_sequence_of_rows_and_a_table_of_columns():
    history = History([row(10, 3.0), row(20, 2.0)])
    assert len(history) == 2
    assert history[-1] == row(20, 2.0)
    assert list(history) == [row(10, 3.0), row(20, 2.0)]
    assert history["step"] == [10, 20]
    assert history["validation_loss"] == [3.0, 2.0]


def test_appending_returns_a_new_history():
    history = History()
    longer = history.with_row(**row(10, 3.0))
    assert (len(history), len(longer)) == (0, 1)


def test_the_best_is_the_lowest_validation_loss():
    assert History([row(1, 3.0), row(2, 1.0), row(3, 2.0)]).best == 1.0
    assert History().best == float("inf")


def test_a_row_without_a_column_is_refused():
    with pytest.raises(KeyError):
        History([{"step": 1}])


def test_a_history_prints_as_a_table():
    lines = repr(History([row(10, 3.25)])).splitlines()
    assert lines[0].split() == ["step", "seconds", "learning_rate", "training_loss", "validation_loss"]
    assert lines[-1].split() == ["10", "1.5", "1.00e-02", "2.0000", "3.2500"]
