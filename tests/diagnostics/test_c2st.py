import numpy as np
import pytest

from simgraph.diagnostics import c2st
from simgraph.errors import DeclarationError, ShapeError

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(500, 2)), RNG.normal(size=(500, 2))


@pytest.mark.parametrize("classifier", ["mlp", "rf"])
def test_equal_laws_are_not_told_apart(classifier):
    # The accuracy of guessing on 1 000 points has standard error 0.016.
    assert c2st(A, B, classifier=classifier) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("classifier", ["mlp", "rf"])
def test_different_laws_are_told_apart(classifier):
    assert c2st(A, B + 5, classifier=classifier) > 0.99


def test_scales_do_not_matter():
    assert c2st(A * [1e9, 1e-9], (B + 3) * [1e9, 1e-9]) > 0.9


def test_one_dimension_may_be_flat_and_a_constant_one_is_no_trouble():
    assert c2st(A[:, 0], B[:, 0]) == pytest.approx(0.5, abs=0.07)
    assert c2st(np.c_[A, np.ones(500)], np.c_[B, np.ones(500)], classifier="rf") == pytest.approx(0.5, abs=0.07)


def test_wrong_arguments_are_named():
    with pytest.raises(ShapeError, match="not of 2 and 1"):
        c2st(A, B[:, :1])
    with pytest.raises(DeclarationError, match="choose 'mlp' or 'rf'"):
        c2st(A, B, classifier="svm")
