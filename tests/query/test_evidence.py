"""Evidence is checked before any work starts, and each message names the node and the mend."""

import numpy as np
import pytest
import torch

import simgraph as sg
from simgraph.errors import EvidenceError, MissingValueError, OutOfRangeWarning, ShapeError, SupportError


def test_shape_error_is_the_one_of_the_language(gaussian_model):
    with pytest.raises(ShapeError) as caught:
        gaussian_model.given(x=np.zeros((3, 4)))
    assert str(caught.value) == (
        "given(x=...) has shape (3, 4); node 'x' has event shape (2,).\n"
        "  Accepted: (2,) for one observation, (B, 2) for B independent ones.\n"
        "  Several i.i.d. draws of one parameter? Declare a plate around 'x'."
    )


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 2, 2), (0, 2)])
def test_other_shapes_are_refused_and_never_broadcast(gaussian_model, shape):
    with pytest.raises(ShapeError, match="has event shape"):
        gaussian_model.given(x=np.zeros(shape))


def test_plates_are_named_in_shape_errors(mixed_model):
    with pytest.raises(ShapeError, match=r"node 'level' has plates \(3,\) and event shape \(\)"):
        mixed_model.given(level=[1.0, 2.0])


def test_two_batch_sizes_are_an_error(mixed_model):
    with pytest.raises(ShapeError, match=r"batches of different sizes: \{'count': 2, 'width': 3\}"):
        mixed_model.given(count=[1, 2], width=[1.1, 1.2, 1.3])
    with pytest.raises(sg.SimgraphError, match="batches of different sizes"):
        mixed_model.given(count=[1, 2]).given(width=[1.1, 1.2, 1.3])


def test_a_bare_nan_names_missing(gaussian_model):
    with pytest.raises(MissingValueError) as caught:
        gaussian_model.given(x=[np.nan, 1.0])
    assert str(caught.value) == (
        "given(x=...) holds 1 NaN.\n  Entries that were not observed are said explicitly: given(x=sg.missing(values))"
    )


@pytest.mark.parametrize(
    ("evidence", "support"),
    [
        ({"width": 3.0}, "(1, 2)"),
        ({"label": [0, 1, 3]}, "{0..2}"),
        ({"label": [0, 1, 0.5]}, "{0..2}"),
        ({"count": -1}, "{0..inf}"),
        ({"shares": [0.5, 0.5, 0.5]}, "simplex"),
        ({"shares": [-0.5, 1.0, 0.5]}, "simplex"),
        ({"place": 2.5}, "(0, 2)"),
        ({"sensor": [np.inf, 0.0]}, "real"),
    ],
)
def test_values_outside_of_the_support_are_refused(mixed_model, evidence, support):
    (name,) = evidence
    with pytest.raises(SupportError) as caught:
        mixed_model.given(evidence)
    assert f"outside of the support of {name!r}, which is {support}" in str(caught.value)


@pytest.mark.parametrize("value", ["a", [1.0, "b"], None, [[1.0], [1.0, 2.0]], 1j])
def test_what_is_no_number_is_refused(gaussian_model, value):
    with pytest.raises(EvidenceError, match=r"not numbers|is no array"):
        gaussian_model.given(x=value)


def test_a_simplex_is_observed_as_a_whole(mixed_model):
    with pytest.raises(EvidenceError, match="only some entries are observed"):
        mixed_model.given(shares=sg.missing([0.5, np.nan, np.nan]))
    mixed_model.given(shares=sg.missing([np.nan, np.nan, np.nan]))


def test_a_value_far_out_is_a_warning_with_its_quantile_or_an_error_on_demand(gaussian_model):
    with pytest.warns(
        OutOfRangeWarning,
        match=r"1 of 2 values of given.x=.... lie above all 360 training values \(quantile 1\); first: x\[1\]",
    ):
        gaussian_model.given(x=[0.0, 100.0])
    with pytest.raises(EvidenceError, match="lie below all 360 training values"):
        gaussian_model.given(x=[-100.0, 0.0], strict=True)


def test_a_usual_value_is_no_warning(gaussian_model):
    gaussian_model.given(x=[0.5, -0.5], strict=True)


def test_tensors_lists_and_numbers_are_all_evidence(mixed_model):
    for value in (1.5, np.float32(1.5), torch.tensor(1.5), torch.tensor(1.5, requires_grad=True), [1.2, 1.5]):
        mixed_model.given(width=value)
    mixed_model.given(label=torch.tensor([0, 1, 2]))
    mixed_model.given(label=[True, False, True])


def test_a_mask_of_missing_must_fit():
    with pytest.raises(ShapeError, match=r"mask of shape \(3,\) for values of shape \(2,\)"):
        sg.missing([1.0, 2.0], mask=[True, False, True])
