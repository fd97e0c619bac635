"""A graph with everything that training needs: tokens, supports, tokenizers and the mask rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from simgraph.compile.explain import explain, mask_text
from simgraph.compile.functions import seen, with_points
from simgraph.compile.laws import Readings, law_of
from simgraph.compile.layout import Layout
from simgraph.compile.links import LinkOrigin, families, link_origins
from simgraph.compile.lint import Finding, lint
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED, Form, MaskRule
from simgraph.compile.names import Names, as_names, check_askable, name_of
from simgraph.compile.probe import probe
from simgraph.compile.ragged import at_both_ends, check_sizes
from simgraph.compile.tokenizer import Tokenizer
from simgraph.compile.tokenizers import tokenizer_for
from simgraph.dsl import Node
from simgraph.errors import DeclarationError, QueryError, ShapeError, TracesError, UnknownNameError, did_you_mean
from simgraph.graph import Graph
from simgraph.graph.dependence import Families
from simgraph.graph.ragged import largest, ragged_plates, sized, stacked
from simgraph.traces import Traces

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "DEFAULT_DEPTH",
    "Compiled",
    "compile",
    "default_depth",
]

DEFAULT_DEPTH = 6
"""Attention layers of the default network, for graphs of few tokens."""

_FEW, _SHALLOW = 32, 4

_PROBE = 32
"""Traces that are simulated to learn shapes and supports when none are handed over."""


def compile(graph: Graph, traces: Traces | None = None, *, observed: Form = "relay", seed: int = 0) -> Compiled:
    """Compiles a graph: finds shapes and supports, lays out the tokens and derives the mask rule.

    Args:
        graph: The graph.
        traces: Traces of the graph; a few are simulated if there are none.
        observed: What observed tokens read: ``"relay"`` (learns faster) or ``"cached"`` (samples faster when
            most tokens are observed); see :mod:`simgraph.compile.masks`.
        seed: Seed of the traces that are simulated.

    Returns:
        The compiled graph. Its tokenizers are fitted by training.

    Raises:
        TracesError: If the traces do not hold the graph's variables.
        SupportError: If a support has no tokenizer.

    Example:
        >>> from torch.distributions import Normal
        >>> from simgraph import Graph, node
        >>> @node
        ... def theta():
        ...     return Normal(0.0, 1.0)
        >>> @node
        ... def x(theta):
        ...     return Normal(theta, 0.5)
        >>> compile(Graph(theta, x)).tokens
        [('theta', ()), ('x', ())]
    """
    if not isinstance(graph, Graph):
        raise DeclarationError(f"compile(...) takes a Graph, not {graph!r}.\n  For example: compile(Graph(theta, x))")
    if observed not in ("relay", "cached"):
        raise DeclarationError(f"observed={observed!r} is not known; choose 'relay' or 'cached'.")
    if not graph.variables:
        raise DeclarationError("the graph has no variables: every node is an object without a shape.")
    traces = graph.simulate(_PROBE, seed=seed) if traces is None else traces
    for name in graph.indices:
        if name not in traces:
            raise TracesError(
                f"the traces do not tell the points of the index {name!r}.\n"
                "  Simulate them with this graph: graph.simulate(...)"
            )
    declared = graph
    # Traces that were simulated at points of the user's have as many of them, whatever the index declares.
    graph = sized(graph, {name: traces[name].shape[1] for name in graph.indices if name not in traces.sizes})
    ragged = ragged_plates(graph)
    check_sizes(ragged, traces)
    # A plate whose size varies is the plate of its largest size, of which a trace has a part.
    whole, filled = largest(graph), traces.filled()
    variables = probe(whole, filled)
    if any(stacked(graph, name) for name in graph):
        variables = at_both_ends(graph, ragged, filled, variables)
    plates = {name: [plate.name for plate in graph[name].plates] for name in variables}
    tokenizers = {name: tokenizer_for(variable) for name, variable in variables.items()}
    layout = Layout(tokenizers, plates, ragged, graph.indices)
    if not layout.askable.any():
        raise DeclarationError(
            "every variable has an embedding, so that nothing can be asked for.\n  Leave tokenizer= of one of them out."
        )
    readings: Readings = {}
    laws = {name: law_of(whole, name, variables, filled, readings) for name in layout.names}
    law = families(whole, layout, laws)
    rule = MaskRule(law, observed, layout.order)
    return Compiled(layout, seen(law, layout), rule, link_origins(whole, layout, laws), declared)


@dataclass(frozen=True)
class Compiled:
    """A compiled graph.

    Attributes:
        layout: The tokens.
        families: The factorisation of their joint law.
        rule: Derives edge masks, from a factorisation that holds functions as a whole, too.
        links: How each link is known.
        graph: The graph that was compiled; None for a model that was loaded without it.
    """

    layout: Layout
    families: Families
    rule: MaskRule
    links: tuple[LinkOrigin, ...] = ()
    graph: Graph | None = None

    @property
    def tokens(self) -> list[tuple[str, tuple[int, ...]]]:
        """The tokens in order, each a pair (name, index of its element)."""
        return list(self.layout.tokens)

    @cached_property
    def drawn_from(self) -> Tensor:
        """Which variable is drawn from which other one: boolean (variables, variables), in the order of the names."""
        variable, count = self.layout.variables, len(self.layout.names)
        child, slot = self.families.drawn_from(variable, count).nonzero().T
        found = torch.zeros(count, count, dtype=torch.bool)
        found[child, variable[slot]] = True
        return found & ~torch.eye(count, dtype=torch.bool)

    @cached_property
    def parents(self) -> dict[str, list[str]]:
        """The variables that each variable is drawn from, by name, both in topological order."""
        names, table = self.layout.names, self.drawn_from.tolist()
        return {
            child: [name for name, link in zip(names, row, strict=True) if link]
            for child, row in zip(names, table, strict=True)
        }

    def fit(self, traces: Traces) -> Compiled:
        """Returns the compiled graph with its tokenizers fitted to traces.

        Raises:
            TracesError: If the traces do not tell the sizes of plates whose size varies.
        """
        check_sizes(self.layout.ragged, traces)
        layout, points = self.layout, self.layout.points_in(traces)
        fitted = {
            name: tokenizer.fit(traces[name], traces.present(name)) for name, tokenizer in layout.tokenizers.items()
        }
        for name, tokenizer in fitted.items():
            if layout.can_have_course(name):
                where = layout.along(name, points[layout.plates[name][-1]])
                fitted[name] = tokenizer.along(traces[name], traces.present(name), where)
        return replace(self, layout=layout.fitted(fitted))

    def at(self, points: Mapping[str, np.ndarray]) -> Compiled:
        """Returns the compiled graph where its functions are looked at; see :meth:`Layout.at`."""
        return replace(self, layout=self.layout.at(points))

    def embedding(self, networks: Mapping[str, nn.Module]) -> Compiled:
        """Returns the compiled graph with other embedding networks, by name of the variable."""
        tokenizers: dict[str, Tokenizer] = dict(self.layout.tokenizers)
        for name, network in networks.items():
            tokenizers[name] = replace(self.layout.embedded[name], network=network)
        return replace(self, layout=self.layout.fitted(tokenizers))

    def sized(self, sizes: Mapping[str, int]) -> Compiled:
        """Returns the compiled graph in which some plates whose size varies have one size, and indices so many points.

        Args:
            sizes: Sizes by name of plates, each within the plate's range; numbers of points by name of indices.
        """
        if not sizes:
            return self
        plates = {name: size for name, size in sizes.items() if name not in self.layout.indices}
        layout, rule = self.layout, self.rule
        if plates:
            slots = torch.cat([layout.within(plates), layout.hidden_within(plates)])
            rule, layout = rule.among(slots), layout.sized(plates)
        if len(plates) < len(sizes):
            old, layout = layout, layout.sized({name: size for name, size in sizes.items() if name not in plates})
            rule = MaskRule(with_points(rule.families, old, layout), rule.form, layout.order)
        graph = None if self.graph is None else sized(self.graph, sizes)
        return Compiled(layout, seen(rule.families, layout), rule, self.links, graph)

    def states(self, given: Names | Mapping[Any, Any] = (), of: Names | None = None) -> Tensor:
        """Returns the condition state of each token in a query.

        Args:
            given: Names that are observed, or a mapping from names to boolean masks over their elements.
            of: Names that are asked for; None for everything that is not given and can be asked for.

        Returns:
            Integer tensor (tokens,).

        Raises:
            UnknownNameError: If a name is not in the graph.
            QueryError: If a name is wholly given and asked for, or has an embedding and is asked for.
            ShapeError: If a mask does not have the shape of its variable.
        """
        given, of = as_names(given, "given"), None if of is None else as_names(of, "of")
        everything = torch.where(self.layout.askable, LATENT, ABSENT)
        states = everything if of is None else torch.full_like(everything, ABSENT)
        asked = [] if of is None else [self._known(name) for name in of]
        check_askable(self.layout, asked)
        for name in asked:
            states[self.layout.slots(name)] = LATENT
        for key in given:
            name = self._known(key)
            if isinstance(given, Mapping):
                states[self.layout.slots(name)][self._elements(name, given[key])] = OBSERVED
            else:
                states[self.layout.slots(name)] = OBSERVED
            if name in asked and bool((states[self.layout.slots(name)] == OBSERVED).all()):
                raise QueryError(f"{name!r} is both given and asked for.\n  Leave it out of one of the two.")
        return states

    def edge_mask(
        self, given: Names | Mapping[Any, Any] = (), of: Names | None = None, depth: int | None = None
    ) -> Tensor:
        """Returns M_E of a query: boolean (tokens, tokens); entry (i, j): token i may attend to token j.

        Args:
            given: Names that are observed, or a mapping from names to boolean masks over their elements.
            of: Names that are asked for; None for everything that is not given. Others are absent.
            depth: Number of attention layers; None for the default network's.

        Raises:
            As :meth:`states`.
        """
        return self.rule.edge_mask(self.states(given, of)[None], self._depth(depth))[0]

    def dependencies(self, given: Names | Mapping[Any, Any] = (), of: Names | None = None) -> Tensor:
        """Returns D of a query: boolean (tokens, tokens); entry (i, j): the score of latent token i may
        depend on token j. Rows of other tokens are empty.
        """
        return self.rule.dependencies(self.states(given, of)[None])[0]

    def explain(self, given: Names | Mapping[Any, Any] = (), of: Names | None = None, depth: int | None = None) -> str:
        """Returns tables of the tokens, their supports and links, and the mask of a query, as text.

        The table of links tells how each is known: ``declared`` by ``depends=``, ``traced`` in the operations of
        the function, or ``assumed`` to be full, and why. Arguments are those of :meth:`edge_mask`; the mask is that
        of the joint by default.
        """
        text = explain(self.layout, self.families, self.links, self.rule.form)
        return f"{text}\n\n{mask_text(self.layout, *self._masks(given, of, depth))}"

    def lint(self, depth: int | None = None) -> list[Finding]:
        """Looks for likely mistakes; simulates a few traces.

        It finds nodes that nothing uses or connects, parents that a node asks for without using them, more tokens
        than a step handles cheaply, and questions in which tokens lie farther apart than the network is deep.

        Args:
            depth: Number of attention layers; None for the default network's.

        Returns:
            Findings; each prints what, where, why and how to mend it.
        """
        return lint(self, self._depth(depth))

    def plot_mask(
        self, given: Names | Mapping[Any, Any] = (), of: Names | None = None, depth: int | None = None
    ) -> Figure:
        """Draws M_E of a query in matplotlib, shortcuts marked; arguments as for :meth:`edge_mask`."""
        from simgraph.plots.mask import plot_mask

        return plot_mask(self.layout, *self._masks(given, of, depth))

    def _masks(
        self, given: Names | Mapping[Any, Any], of: Names | None, depth: int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the mask of a query, which of its entries are shortcuts, and the states."""
        states = self.states(given, of)
        mask = self.rule.edge_mask(states[None], self._depth(depth))[0]
        return mask, mask & ~self.rule.local_mask(states[None])[0], states

    def _depth(self, depth: int | None) -> int:
        if depth is None:
            return default_depth(len(self.layout))
        if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
            raise QueryError(f"depth={depth!r} is not a whole number of 1 or more.")
        return depth

    def _known(self, key: str | Node) -> str:
        name = name_of(key)
        if name not in self.layout.tokenizers:
            raise UnknownNameError(
                f"{name!r} is not a variable of this model.\n  {did_you_mean(name, self.layout.names)}"
            )
        return name

    def _elements(self, name: str, mask: Any) -> Tensor:
        array = np.asarray(mask)
        if array.dtype != bool:
            raise QueryError(
                f"given={{{name!r}: ...}} tells by True and False which elements are observed, and takes no values.\n"
                f"  For all of them write given=[{name!r}]; values belong to model.given({name}=...)."
            )
        shape = self.layout.tokenizers[name].variable.shape
        if array.shape != shape:
            raise ShapeError(f"the mask of {name!r} has shape {array.shape}; its values have {shape}.")
        tokens = self.layout.token_mask(name, array[None])[0]
        hit = np.unique(self.layout.element_slots(name)[array])
        for slot in hit.tolist():
            if not tokens[slot - self.layout.slots(name).start]:
                raise QueryError(
                    f"the mask gives a part of {self.layout.label(slot)!r}, whose elements are one token.\n"
                    "  Give all of its elements or none."
                )
        return tokens

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{name}: {s.stop - s.start}" for name, s in ((n, self.layout.slots(n)) for n in self.layout.names)
        )
        return f"<Compiled graph with {len(self.layout)} tokens ({counts}), observed={self.rule.form!r}>"


def default_depth(tokens: int) -> int:
    """Returns the attention layers of the default network of a graph: fewer where it has many tokens."""
    return DEFAULT_DEPTH if tokens <= _FEW else _SHALLOW
