import re

import pytest
from torch.distributions import Normal

from simgraph import Graph, deterministic, node, plate
from simgraph.errors import DeclarationError, UnknownNameError

school = plate("school", 8)


@node
def mu():
    return Normal(0.0, 1.0)


@node(plates=school)
def effect(mu):
    return Normal(mu, 1.0)


@node(plates=school, shape=(2,))
def score(effect, mu, rng):
    return rng.normal(effect, 1.0, size=2)


@deterministic
def summary(score):
    return {"mean": score.mean()}


graph = Graph(score, effect, mu, summary)


def test_text_is_a_table_in_topological_order():
    assert (
        repr(graph)
        == graph.draw("text")
        == (
            "Graph with 4 nodes and 4 edges\n"
            "node     kind           parents     shape\n"
            "mu       distribution   -           (from the distribution)\n"
            "effect   distribution   mu          school=8 × (from the distribution)\n"
            "score    simulator      effect, mu  school=8 × (2,)\n"
            "summary  deterministic  score       (any object)"
        )
    )


def test_mermaid():
    assert graph.draw() == (
        "flowchart TD\n"
        "  mu([mu])\n"
        "  summary[summary]\n"
        "  subgraph school_8 [school_8]\n"
        "    effect([effect])\n"
        "    score[[score]]\n"
        "  end\n"
        "  mu --> effect\n"
        "  effect --> score\n"
        "  mu --> score\n"
        "  score --> summary"
    )


def test_graphviz_has_every_node_and_edge():
    source = graph.draw("graphviz")
    assert set(re.findall(r'"(\w+)" -> "(\w+)"', source)) == {
        ("mu", "effect"), ("mu", "score"), ("effect", "score"), ("score", "summary"),
    }  # fmt: skip
    assert set(re.findall(r'"(\w+)" \[shape', source)) == set(graph)
    assert source.count("{") == source.count("}")
    assert 'label="school_8"' in source


def test_graphviz_keywords_may_be_names():
    keywords = [node(name=name)(lambda: Normal(0.0, 1.0)) for name in ("node", "edge", "graph")]
    assert '"node" [shape=ellipse];' in Graph(*keywords).draw("graphviz")


def test_nested_plates_are_nested():
    inner = node(name="x", plates=[plate("a", 2), plate("b", 3)])(lambda: Normal(0.0, 1.0))
    lines = Graph(inner).draw("mermaid").splitlines()
    assert [line.split()[0] for line in lines] == ["flowchart", "subgraph", "subgraph", "x([x])", "end", "end"]


def test_constants_are_drawn():
    assert "mu{{mu}}" in graph.do(mu=0.0).draw("mermaid")


def test_unknown_formats_are_refused():
    with pytest.raises(DeclarationError) as caught:
        graph.draw("mermayd")
    assert str(caught.value) == (
        "draw(format='mermayd') is not known.\n  Did you mean 'mermaid'? Formats: mermaid, graphviz, text."
    )


def test_notebooks_get_text_html_and_mermaid():
    bundle = graph._repr_mimebundle_()
    assert bundle["text/plain"] == repr(graph)
    assert bundle["text/vnd.mermaid"] == graph.draw("mermaid")
    assert bundle["text/html"].count("<tr>") == 5
    assert "--&gt;" in bundle["text/html"]


def test_observed_nodes_are_shaded_and_those_left_out_are_dashed():
    mermaid = graph.draw("mermaid", given=["score"], of=[mu])
    assert "  classDef observed fill:#c9c9c9,stroke:#333\n  class score observed" in mermaid
    assert mermaid.endswith("  classDef absent fill:none,stroke-dasharray:4 3\n  class effect absent")
    dot = graph.draw("graphviz", given=[score], of=["mu"])
    assert '"score" [shape=box style=filled fillcolor="#c9c9c9"];' in dot
    assert '"effect" [shape=ellipse style=dashed];' in dot
    assert '"mu" [shape=ellipse];' in dot
    rows = [line.split() for line in graph.draw("text", given=["score"]).splitlines()]
    assert [row[-1] for row in rows[2:]] == ["-", "-", "observed", "-"]
    assert "observed" not in graph.draw()


def test_names_in_a_drawing_are_checked():
    with pytest.raises(UnknownNameError, match="'scores' is not a node of this graph"):
        graph.draw(given=["scores"])


def test_a_node_named_end_does_not_end_a_subgraph():
    @node
    def end(mu):
        return Normal(mu, 1.0)

    lines = Graph(mu, end).draw().splitlines()
    assert "  end_([end])" in lines
    assert "  mu --> end_" in lines


def test_one_name_is_not_taken_for_many_letters():
    with pytest.raises(DeclarationError, match=r"draw\(given='mu'\) is one name"):
        graph.draw(given="mu")
