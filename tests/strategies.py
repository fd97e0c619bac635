"""Random questions put to random graphs, and oracles for the answers that use networkx alone.

A ``Question`` is a law over tokens, written twice (as families and as a directed acyclic graph), with a
condition state for each token. Tokens of one family are fully connected in the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import networkx as nx
import torch
from hypothesis import strategies as st

from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.graph.dependence import Families


@dataclass(frozen=True)
class Question:
    families: Families
    dag: nx.DiGraph
    states: torch.Tensor

    @property
    def tokens(self):
        return range(len(self.states))

    def where(self, state):
        return {i for i in self.tokens if int(self.states[i]) == state}

    @property
    def latent(self):
        return self.where(LATENT)

    @property
    def observed(self):
        return self.where(OBSERVED)

    @property
    def present(self):
        return self.latent | self.observed

    def depends(self):
        """D by d-separation in the graph with a noisy copy ("y", i) of every latent i (MASKS.md, T2)."""
        noisy = self.dag.copy()
        noisy.add_edges_from((i, ("y", i)) for i in self.latent)
        found = {}
        for i in self.latent:
            rest = {("y", k) for k in self.latent - {i}}
            apart = {
                j: nx.is_d_separator(noisy, {("y", i)}, {("y", j)}, (rest - {("y", j)}) | self.observed)
                for j in self.latent - {i}
            }
            apart |= {o: nx.is_d_separator(noisy, {("y", i)}, {o}, rest | (self.observed - {o})) for o in self.observed}
            found[i] = {i} | {j for j, separated in apart.items() if not separated}
        return found

    def blanket(self, i):
        """Present tokens that are not d-separated from i by all other present tokens."""
        others = self.present - {i}
        return {j for j in others if not nx.is_d_separator(self.dag, {i}, {j}, others - {j})}


def rows(matrix, of):
    """A boolean matrix as sets of columns, for some of its rows."""
    return {i: set(matrix[i].nonzero().flatten().tolist()) for i in of}


def single_families(dag):
    """One family per token."""
    size = len(dag)
    parents = torch.zeros(size, size, dtype=torch.bool)
    for i, j in dag.edges:
        parents[j, i] = True
    return Families(torch.eye(size, dtype=torch.bool), parents)


@st.composite
def laws(draw, most=8, joint=True):
    """Families and an equivalent graph, of up to ``most`` tokens in a random order."""
    # Coins come from one seed: drawing each of them through hypothesis would take most of the time.
    random = Random(draw(st.integers(0, 2**32 - 1)))
    size = random.randint(2, most)
    order = random.sample(range(size), size)
    groups: list[list[int]] = []
    for token in order:
        if joint and groups and len(groups[-1]) < 3 and random.random() < 0.2:
            groups[-1].append(token)
        else:
            groups.append([token])
    members = torch.zeros(len(groups), size, dtype=torch.bool)
    parents = torch.zeros(len(groups), size, dtype=torch.bool)
    dag = nx.DiGraph()
    dag.add_nodes_from(range(size))
    density = random.choice([0.2, 0.4, 0.6])
    before: list[int] = []
    for number, group in enumerate(groups):
        chosen = [p for p in before if random.random() < density]
        members[number, group] = True
        parents[number, chosen] = True
        dag.add_edges_from((p, c) for p in chosen for c in group)
        dag.add_edges_from((a, b) for k, b in enumerate(group) for a in group[:k])
        before += group
    return Families(members, parents), dag


@st.composite
def questions(draw, most=8, joint=True):
    """A law and a condition state for each of its tokens."""
    families, dag = draw(laws(most, joint))
    random = Random(draw(st.integers(0, 2**32 - 1)))
    states = random.choices([LATENT, OBSERVED, ABSENT], [5, 3, 2], k=len(dag))
    return Question(families, dag, torch.tensor(states))
