r"""Property tests of masks, for the graphs of this project and for users' own.

The oracle is d-separation, asked of networkx alone: in the directed graph over tokens, with a noisy copy
:math:`y_i` below each latent token i, the score of i depends on j iff :math:`y_i` is not d-separated from
:math:`y_j` (or from :math:`x_j`, if j is observed) by all other noisy copies and observed tokens.

Three lines test a graph at random queries::

    from simgraph.testing import check_mask

    def test_masks():
        check_mask(my_graph)

The strategies are for hypothesis: ``@given(questions())`` draws random laws with random condition states,
``@given(questions(of=compiled))`` random condition states of one graph, ``@given(graphs())`` random programs.
"""

from simgraph.errors import MissingExtraError

try:
    import hypothesis  # noqa: F401
except ImportError as error:  # pragma: no cover
    raise MissingExtraError("hypothesis", "test", "testing masks") from error

from simgraph.testing.check import assert_order_invariant, check_mask
from simgraph.testing.oracle import Question, assert_sound, assert_tight, heard
from simgraph.testing.strategies import graphs, laws, questions

__all__ = [
    "Question",
    "assert_order_invariant",
    "assert_sound",
    "assert_tight",
    "check_mask",
    "graphs",
    "heard",
    "laws",
    "questions",
]
