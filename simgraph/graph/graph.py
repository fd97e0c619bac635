"""The declared simulator as a directed acyclic graph of named variables.

A graph factorises the joint law of its nodes, p(v_1, ..., v_n) = prod_i p(v_i | parents(v_i)). It is
immutable: every transformation returns a new one. It does not know which nodes are parameters and
which are data; a query decides that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import networkx as nx

from simgraph.dsl import Index, Node, Plate
from simgraph.errors import UnknownNameError, did_you_mean
from simgraph.graph.validate import validate

if TYPE_CHECKING:
    from torch import Tensor

    from simgraph.traces.store import Traces

__all__ = ["Graph"]


class Graph(Mapping[str, Node]):
    """An immutable directed acyclic graph of named nodes; a mapping from names to nodes.

    Args:
        *nodes: The nodes, in any order. Every parent must be among them.

    Raises:
        GraphError: If names, parents, plates or cycles are wrong; all problems are reported at once.

    Example:
        >>> from torch.distributions import Normal
        >>> from simgraph import node
        >>> @node
        ... def theta():
        ...     return Normal(0.0, 1.0)
        >>> @node
        ... def x(theta):
        ...     return Normal(theta, 0.5)
        >>> Graph(theta, x).roots, Graph(theta, x).leaves
        (('theta',), ('x',))
    """

    def __init__(self, *nodes: Node) -> None:
        validate(nodes)
        self._nodes = {node.name: node for node in nodes}
        edges: nx.DiGraph = nx.DiGraph()
        edges.add_nodes_from(self._nodes)
        edges.add_edges_from((parent, node.name) for node in nodes for parent in node.parents)
        self._edges = edges
        declared = {name: number for number, name in enumerate(self._nodes)}
        self._order = tuple(nx.lexicographical_topological_sort(edges, key=declared.__getitem__))
        self._place = {name: number for number, name in enumerate(self._order)}

    def __getitem__(self, name: str) -> Node:
        try:
            return self._nodes[name]
        except KeyError:
            raise UnknownNameError(
                f"{name!r} is not a node of this graph.\n  {did_you_mean(str(name), self._nodes)}"
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    @property
    def order(self) -> tuple[str, ...]:
        """Names in topological order; ties are broken by the order of declaration."""
        return self._order

    @property
    def variables(self) -> tuple[str, ...]:
        """Names that own values, in topological order: all but opaque deterministic nodes."""
        return tuple(name for name in self._order if not self._nodes[name].is_opaque)

    @property
    def plates(self) -> dict[str, Plate]:
        """Plates and indices by name."""
        return {plate.name: plate for name in self._order for plate in self._nodes[name].plates}

    @property
    def indices(self) -> dict[str, Index]:
        """Indices by name."""
        return {name: axis for name, axis in self.plates.items() if isinstance(axis, Index)}

    @property
    def roots(self) -> tuple[str, ...]:
        """Names of nodes without parents, in topological order."""
        return tuple(name for name in self._order if not self._nodes[name].parents)

    @property
    def leaves(self) -> tuple[str, ...]:
        """Names of nodes without children, in topological order."""
        return tuple(name for name in self._order if not self._edges.out_degree(name))

    def children(self, name: str) -> tuple[str, ...]:
        """Names of the nodes that ask for ``name``, in topological order."""
        self[name]
        return tuple(sorted(self._edges.successors(name), key=self._place.__getitem__))

    def ancestors(self, *names: str) -> frozenset[str]:
        """Names of all nodes above ``names``, without ``names`` unless one is above another."""
        for name in names:
            self[name]
        return frozenset().union(*(nx.ancestors(self._edges, name) for name in names))

    def do(self, /, **values: Any) -> Graph:
        """Returns the graph under the intervention that sets nodes to constants (edges into them are cut).

        Args:
            **values: A constant by name, of the node's full shape, or broadcastable to it.

        Raises:
            UnknownNameError: If a name is not in the graph.

        References:
            Pearl, Causality (2009), section 3.2.3.
        """
        from simgraph.graph.surgery import do

        return do(self, values)

    def replace(self, *nodes: Node) -> Graph:
        """Returns the graph with the nodes of the same names replaced.

        Raises:
            UnknownNameError: If a node of that name is not in the graph.
        """
        from simgraph.graph.surgery import replace

        return replace(self, nodes)

    def include(self, other: Graph, *, prefix: str = "", share: tuple[str, ...] = ()) -> Graph:
        """Returns the graph with all nodes of ``other`` added under prefixed names.

        Args:
            other: The graph to add.
            prefix: Put before each name of a node or plate of ``other``.
            share: Names of ``other`` that are not copied: their children ask this graph's nodes instead.

        Raises:
            DuplicateNameError: If a prefixed name is taken.
            UnknownNameError: If a shared name is missing in one of the two graphs.
        """
        from simgraph.graph.surgery import include

        return include(self, other, prefix=prefix, share=share)

    def prune(self, *names: str) -> Graph:
        """Returns the graph of ``names`` and their ancestors: what is needed to simulate them."""
        from simgraph.graph.surgery import prune

        return prune(self, names)

    def draw(
        self,
        format: Literal["mermaid", "graphviz", "text"] = "mermaid",
        *,
        given: Iterable[str | Node] = (),
        of: Iterable[str | Node] | None = None,
    ) -> str:
        """Draws the graph.

        Args:
            format: ``"mermaid"`` (rendered by GitHub and notebooks), ``"graphviz"`` (DOT source) or ``"text"``.
            given: Nodes that a query observes: they are shaded.
            of: Nodes that it asks for, None for all others: those that are neither are dashed.

        Returns:
            The source of the drawing.

        Raises:
            DeclarationError: If the format is not known.
            UnknownNameError: If a name is not in the graph.
        """
        from simgraph.graph.draw import draw

        return draw(self, format, given, of)

    def simulate(self, num_simulations: int | None = None, **options: Any) -> Traces:
        """Draws traces: joint draws of all nodes, or of those below ``given=`` values.

        See :func:`simgraph.traces.simulate`.
        """
        from simgraph.traces.simulate import simulate

        return simulate(self, num_simulations, **options)

    def log_prob(self, values: Mapping[Any, Any]) -> Tensor:
        """Returns the log density of traces: the sum of log p(v | parents) over all nodes, plates and elements.

        Args:
            values: A value for every variable, by name or node: one trace, or an array (rows, *plate sizes,
                *event_shape) of many; :class:`Traces` are such a mapping. One value beside rows of others is shared.
                Deterministic variables and constants may be left out; a value of theirs that disagrees with their
                function (by more than a millionth) makes its trace impossible.

        Returns:
            A float64 tensor (), or (rows,). Minus infinity where a trace is impossible: outside of a support, or a
            function fails.

        Raises:
            QueryError: If a node is a black box, or a variable has no value.
            UnknownNameError, ShapeError, EvidenceError, MissingValueError: If a value does not fit.

        Example:
            >>> from torch.distributions import Normal
            >>> from simgraph import node
            >>> @node
            ... def theta():
            ...     return Normal(0.0, 1.0)
            >>> @node
            ... def x(theta):
            ...     return Normal(theta, 0.5)
            >>> Graph(theta, x).log_prob({"theta": 0.0, "x": [0.0, 1.0]})
            tensor([-1.1447, -3.1447], dtype=torch.float64)
        """
        from simgraph.traces.density import log_prob

        return log_prob(self, values)

    def __repr__(self) -> str:
        from simgraph.graph.draw import draw

        return draw(self, "text")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from simgraph.graph.draw import as_html, draw

        return {
            "text/plain": repr(self),
            "text/html": as_html(self),
            "text/vnd.mermaid": draw(self, "mermaid"),
        }
