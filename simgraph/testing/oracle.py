"""What a mask has to let through and to keep out, by d-separation alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import networkx as nx
from torch import Tensor

from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.graph.dependence import Families

__all__ = ["Question", "assert_sound", "assert_tight", "heard"]


@dataclass(frozen=True)
class Question:
    """A law over tokens and the condition state of each of them.

    Attributes:
        families: The law.
        states: Condition states (tokens,).
    """

    families: Families
    states: Tensor

    def __repr__(self) -> str:
        letters = "".join("-?!"[int(state)] for state in self.states)
        return f"<Question to {len(self.states)} tokens: {letters} (- absent, ? latent, ! observed)>"

    @property
    def tokens(self) -> range:
        """The tokens."""
        return range(len(self.states))

    @property
    def latent(self) -> set[int]:
        """The latent tokens."""
        return self._where(LATENT)

    @property
    def observed(self) -> set[int]:
        """The observed tokens."""
        return self._where(OBSERVED)

    @property
    def absent(self) -> set[int]:
        """The absent tokens."""
        return self._where(ABSENT)

    @property
    def present(self) -> set[int]:
        """The tokens that are not absent."""
        return self.latent | self.observed

    def with_states(self, states: dict[int, int]) -> Question:
        """Returns the question with some tokens in other states."""
        changed = self.states.clone()
        for token, state in states.items():
            changed[token] = state
        return replace(self, states=changed)

    @cached_property
    def dag(self) -> nx.DiGraph:
        """The law as a directed acyclic graph; tokens of one family are fully connected in it."""
        dag = nx.DiGraph()
        dag.add_nodes_from(self.tokens)
        for members, parents in zip(self.families.members, self.families.parents, strict=True):
            group = members.nonzero().flatten().tolist()
            dag.add_edges_from((parent, child) for parent in parents.nonzero().flatten().tolist() for child in group)
            dag.add_edges_from((a, b) for place, b in enumerate(group) for a in group[:place])
        return dag

    @cached_property
    def noisy(self) -> nx.DiGraph:
        """The directed graph with a noisy copy ("y", i) below each latent token i."""
        noisy = self.dag.copy()
        noisy.add_edges_from((i, ("y", i)) for i in self.latent)
        return noisy

    def depends_on(self, i: int, j: int) -> bool:
        """Tells by d-separation whether the score of latent token i depends on token j."""
        copies = {("y", k) for k in self.latent} - {("y", i)}
        if j in self.latent:
            return i == j or not nx.is_d_separator(
                self.noisy, {("y", i)}, {("y", j)}, (copies - {("y", j)}) | self.observed
            )
        return j in self.observed and not nx.is_d_separator(self.noisy, {("y", i)}, {j}, copies | (self.observed - {j}))

    @cached_property
    def depends(self) -> dict[int, set[int]]:
        """D by d-separation: for each latent token the tokens that its score depends on, itself included."""
        return {i: {j for j in self.tokens if self.depends_on(i, j)} for i in self.latent}

    def blanket(self, i: int) -> set[int]:
        """Returns the present tokens that all other present tokens leave dependent on token i."""
        others = self.present - {i}
        return {j for j in others if not nx.is_d_separator(self.dag, {i}, {j}, others - {j})}

    def _where(self, state: int) -> set[int]:
        return {token for token in self.tokens if int(self.states[token]) == state}


def heard(mask: Tensor, tokens: Iterable[int], depth: int | None = None) -> dict[int, set[int]]:
    """Returns, for some tokens, those whose values reach them through so many layers of attention.

    Args:
        mask: Boolean tensor (tokens, tokens).
        tokens: The tokens.
        depth: Number of layers; None for any number.
    """
    graph = nx.from_numpy_array(mask.numpy(), create_using=nx.DiGraph)
    return {token: set(nx.single_source_shortest_path_length(graph, token, cutoff=depth)) for token in tokens}


def assert_sound(question: Question, mask: Tensor, depth: int, name: Callable[[int], str] = str) -> None:
    """Asserts that each latent token hears of every token that its score depends on, within ``depth`` layers.

    Args:
        question: The question that the mask is for.
        mask: Boolean tensor (tokens, tokens).
        depth: Number of attention layers.
        name: Names a token in the message.
    """
    for i, found in heard(mask, question.latent, depth).items():
        missed = question.depends[i] - found
        assert not missed, f"within {depth} layers {name(i)} never hears of {', '.join(map(name, sorted(missed)))}"


def assert_tight(question: Question, mask: Tensor, name: Callable[[int], str] = str) -> None:
    """Asserts that no latent token hears of a token that its score does not depend on, however deep the network.

    Args:
        question: The question that the mask is for.
        mask: Boolean tensor (tokens, tokens).
        name: Names a token in the message.
    """
    for i, found in heard(mask, question.latent).items():
        leaked = found - question.depends[i]
        assert not leaked, f"{name(i)} hears of {', '.join(map(name, sorted(leaked)))}, which tells it nothing"
