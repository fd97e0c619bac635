r"""Which noised variable depends on which: the exact dependency sets of a joint score.

A graph over tokens is given by its *families*: a family is a set of member tokens, which may depend on
one another, together with their parent tokens. In one query each token is observed, latent or absent.
With :math:`P` the present tokens and :math:`an(P)` them and their ancestors,

* :math:`\hat H` is the moral graph of the families that meet :math:`an(P)`, with absent tokens
  eliminated (their neighbours are joined), so that :math:`i - j` in it iff :math:`x_i` and :math:`x_j` are
  not d-separated by the other present tokens;
* :math:`K_i` is the component of latent token :math:`i` in :math:`\hat H` without the observed tokens,
  and its dependency set is :math:`D(i) = T_{K_i} \cup B_{K_i}`: the latents of the component and the
  observed tokens that border it. The score of token :math:`i` is a function of the tokens in :math:`D(i)`
  alone, and for a faithful law it depends on all of them.

Everything here works on batches of queries: shapes are (batch, tokens, tokens), and reachability is
computed by squaring boolean matrices.

References:
    Lauritzen, Graphical Models (1996), sections 2.1.1 and 3.2.1 (moral graph, ancestral sets).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Families", "closure", "compose", "dependencies", "project"]


@dataclass(frozen=True)
class Families:
    """The factorisation of a joint law over tokens.

    Attributes:
        members: Boolean tensor (families, tokens); each token is a member of exactly one family.
        parents: Boolean tensor (families, tokens).
    """

    members: Tensor
    parents: Tensor

    @property
    def whole(self) -> Tensor:
        """Members and parents together, boolean (families, tokens)."""
        return self.members | self.parents

    def needed(self, present: Tensor) -> Tensor:
        """Tells which families hold a present token or an ancestor of one.

        Args:
            present: Boolean tensor (batch, tokens).

        Returns:
            Boolean tensor (batch, families).
        """
        above = compose(self.parents, self.members.T)
        return compose(compose(present, self.members.T), closure(above))


def compose(first: Tensor, second: Tensor) -> Tensor:
    """Composes two boolean relations: entry (i, k) holds if some j has (i, j) and (j, k)."""
    return torch.matmul(first.float(), second.float()) > 0


def closure(relation: Tensor) -> Tensor:
    """Returns the reflexive transitive closure of boolean relations (..., n, n)."""
    size = relation.shape[-1]
    reach = relation | torch.eye(size, dtype=torch.bool)
    length = 1
    while length < size - 1:
        reach, length = compose(reach, reach), 2 * length
    return reach


def project(families: Families, present: Tensor) -> Tensor:
    r"""Returns :math:`\hat H`, the conditional dependence graph of the present tokens.

    Args:
        families: The factorisation.
        present: Boolean tensor (batch, tokens).

    Returns:
        Symmetric boolean tensor (batch, tokens, tokens) without diagonal; rows of absent tokens are empty.
    """
    whole = families.whole.float()
    needed = families.needed(present).float()
    moral = torch.matmul((whole[None] * needed[:, :, None]).transpose(1, 2), whole) > 0
    absent = ~present
    if absent.any():
        through = moral & absent[:, None, :]
        inside = closure(moral & absent[:, None, :] & absent[:, :, None])
        moral = moral | compose(compose(through, inside), through.transpose(1, 2))
    both = present[:, None, :] & present[:, :, None]
    return moral & both & ~torch.eye(present.shape[1], dtype=torch.bool)


def dependencies(adjacency: Tensor, observed: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    r"""Returns the components of the latent tokens and their dependency sets.

    Args:
        adjacency: :math:`\hat H` (batch, tokens, tokens), as :func:`project` returns it.
        observed: Boolean tensor (batch, tokens).
        present: Boolean tensor (batch, tokens).

    Returns:
        ``component``: boolean (batch, tokens, tokens), entry (i, j): latents i and j share a component;
        ``depends``: boolean (batch, tokens, tokens), entry (i, j): j is in D(i), for latent i.
    """
    latent = present & ~observed
    among = adjacency & latent[:, None, :] & latent[:, :, None]
    component = closure(among) & latent[:, :, None]
    border = compose(component, adjacency) & (observed & present)[:, None, :]
    return component, component | border
