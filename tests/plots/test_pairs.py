import re

import numpy as np
import pytest
import torch

from simgraph import Samples
from simgraph.errors import QueryError, ShapeError, UnknownNameError
from simgraph.plots.pairs import plot_pairs

draws = torch.arange(30.0).reshape(10, 3) % 7
PLAIN = Samples({"theta": draws, "count": torch.arange(10) % 3})
BATCH = Samples({"theta": torch.stack([draws, draws + 100])}, batched=True)


def panels(figure):
    """Returns the panels by (row, column)."""
    found = {}
    for axes in figure.axes:
        place = axes.get_subplotspec()
        found[place.rowspan.start, place.colspan.start] = axes
    return found


def test_histograms_are_on_the_diagonal_and_scatters_below():
    found = panels(PLAIN.plot())
    assert set(found) == {(row, column) for row in range(4) for column in range(row + 1)}
    assert all(bool(axes.patches) == (row == column) for (row, column), axes in found.items())
    points = np.asarray(found[3, 1].collections[0].get_offsets())
    assert (points == np.stack([draws[:, 1], PLAIN["count"]], 1)).all(), "column 1 across, row 3 up"
    assert [found[3, column].get_xlabel() for column in range(4)] == ["theta[0]", "theta[1]", "theta[2]", "count"]
    assert [found[row, 0].get_ylabel() for row in range(4)] == ["", "theta[1]", "theta[2]", "count"]


def test_names_choose_variables_and_elements_in_their_order():
    found = panels(PLAIN.plot("count", "theta[2]"))
    assert [found[1, column].get_xlabel() for column in range(2)] == ["count", "theta[2]"]
    assert len(panels(PLAIN.plot("theta", "theta[0]"))) == 6, "an element that is named twice is drawn once"


def test_whole_numbers_have_a_bin_each():
    bars = panels(PLAIN.plot("count"))[0, 0].patches[0].get_path().vertices
    assert sorted(set(bars[:, 0])) == [-0.5, 0.5, 1.5, 2.5]
    assert bars[:, 1].max() == 4, "of ten draws 0, 1, 2, 0, ... four are 0"


def test_the_truth_is_a_line_in_the_panels_of_its_elements():
    figure = PLAIN.plot("theta", truth={"theta": [3.0, np.nan, 50.0]})
    found = panels(figure)
    crossed = {place: [line.get_xydata()[0].tolist() for line in axes.lines] for place, axes in found.items()}
    # A vertical line starts at (its value, 0), a horizontal one at (0, its value); theta[1] is NaN, without a line.
    assert crossed == {
        (0, 0): [[3, 0]],
        (1, 0): [[3, 0]],
        (1, 1): [],
        (2, 0): [[0, 50], [3, 0]],
        (2, 1): [[0, 50]],
        (2, 2): [[50, 0]],
    }
    assert found[2, 2].get_xlim()[1] > 50, "a truth far from all draws is in the picture"


def test_of_many_elements_the_first_eight_are_drawn_and_the_title_says_so():
    figure = Samples({"a": torch.zeros(3, 9)}).plot()
    assert len(figure.axes) == 8 * 9 / 2
    assert figure.get_suptitle() == "the first 8 of 9 elements"
    assert PLAIN.plot().get_suptitle() == ""


def test_one_piece_of_evidence_is_drawn():
    low, high = (BATCH.plot("theta[0]", batch=piece).axes[0].get_xlim() for piece in range(2))
    assert (np.array(high) - np.array(low)).tolist() == pytest.approx([100, 100])
    single = Samples({"theta": draws[None]}, batched=True)
    assert single.plot().axes[0].get_xlim() == pytest.approx(low), "of one piece there is no choice"


def test_a_figure_can_be_written(tmp_path):
    PLAIN.plot(truth={"count": 1}).savefig(tmp_path / "pairs.png")
    assert (tmp_path / "pairs.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("samples", "names", "options", "error", "message"),
    [
        (PLAIN, ["thetta"], {}, UnknownNameError, "'thetta' was not sampled.\n  Did you mean 'theta'? Sampled: theta"),
        (PLAIN, ["theta[3]"], {}, UnknownNameError, "'theta[3]' was not sampled.\n  Did you mean 'theta["),
        (PLAIN, [], {"truth": {"mu": 0}}, UnknownNameError, "'mu' was not sampled.\n  Sampled: count, theta."),
        (
            PLAIN,
            [],
            {"truth": {"theta": [0.0, 1.0]}},
            ShapeError,
            "plot(truth=...) has the shape (2,) for 'theta', which has the shape (3,).",
        ),
        (
            BATCH,
            [],
            {},
            QueryError,
            "the samples answer 2 pieces of evidence; a figure shows one.\n  Choose it: samples.plot(batch=0)",
        ),
        (BATCH, [], {"batch": 2}, QueryError, "batch=2 is no piece of evidence; they are numbered from 0 to 1."),
        (BATCH, [], {"batch": True}, QueryError, "batch=True is no piece of evidence"),
        (PLAIN, [], {"batch": 1}, QueryError, "batch=1 is no piece of evidence; they are numbered from 0 to 0."),
    ],
)
def test_what_cannot_be_drawn_is_refused(samples, names, options, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        plot_pairs(samples, names, **options)
