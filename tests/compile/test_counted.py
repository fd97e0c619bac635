"""What tokens are told the number of."""

import torch
from curves import smooth
from samples import mixed, plated

from simgraph import Graph, compile, node, plate
from simgraph.compile.counted import counted_kinds
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED


def table_of(graph):
    layout = compile(graph, graph.simulate(20, seed=0, progress=False)).layout
    return layout, counted_kinds(layout)


def test_nothing_is_counted_where_all_numbers_are_fixed():
    for graph in (plated(3), mixed()):
        assert table_of(graph)[1] is None


def test_elements_of_a_plate_count_whether_they_are_observed_or_latent():
    layout, table = table_of(plated((1, 4)))
    assert table.shape == (3, len(layout.widths), 2)
    assert not table[ABSENT].any()
    assert torch.equal(table[OBSERVED], table[LATENT])
    mu, effect, score = (layout.ids[layout.slots(name)] for name in ("mu", "effect", "score"))
    assert not table[LATENT, mu].any()
    assert table[LATENT, effect].unique(dim=0).tolist() == [[1, 0]]
    assert table[LATENT, score].unique(dim=0).tolist() == [[0, 1]]


def test_elements_of_an_event_count_each_by_itself():
    @node(plates=plate("point", (1, 3)), shape=(2,))
    def place(rng):
        return rng.normal(size=2)

    layout, table = table_of(Graph(place))
    assert table[OBSERVED, layout.ids].sum(0).tolist() == [3, 3]


def test_of_functions_only_observed_values_count():
    layout, table = table_of(smooth)
    values = torch.cat([layout.ids[layout.slots(name)] for name in layout.names if layout.index_of(name)]).unique()
    assert len(values) == table.shape[2] > 1
    assert table[OBSERVED].sum() == len(values)
    assert (table[OBSERVED, values].sum(1) == 1).all()
    assert not table[[LATENT, ABSENT]].any()
