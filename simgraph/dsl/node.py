"""A node is a function: its name is the variable, its required parameters are its parents.

Three kinds of nodes are told apart before anything runs:

* a *distribution node* has no ``rng`` parameter and returns a ``torch.distributions`` object, so its
  density is known;
* a *simulator node* has an ``rng`` parameter and returns a value, by any means;
* a *deterministic node* returns a function of its parents. With ``shape=`` it is a variable like any
  other, without it it may be any object and only hands its parents on to its children.

A fourth, the *constant node*, is made by ``Graph.do`` and never declared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch.distributions.constraints import Constraint

from simgraph.dsl.axes import Plate
from simgraph.dsl.index import Index
from simgraph.dsl.links import Link
from simgraph.dsl.signature import Signature
from simgraph.dsl.tokenizer import TokenizerSpec
from simgraph.errors import where

__all__ = ["Backend", "Kind", "Node"]

Kind = Literal["distribution", "simulator", "deterministic", "constant"]
Backend = Literal["numpy", "torch"]


@dataclass(frozen=True, eq=False)
class Node:
    """A declared variable. Reusable: the same node may stand in any number of graphs.

    Attributes:
        name: The variable.
        function: The plain function, written for one trace (and one plate element).
        kind: How values come about; see the module's docstring.
        signature: The parents and what else the function asks for.
        shape: Event shape of one value; ``None`` if it follows from the distribution, or if the value
            is an object without a shape.
        support: Constraint on the values of a simulator or deterministic node; ``None`` for the reals.
        plates: The axes that repeat the node: plates, outermost first, and its index behind them.
        vectorized: Whether the function takes and returns a leading trace axis.
        backend: Whether a simulator works with NumPy or torch values.
        depends: Declared links, by parameter: which of its elements reach which of the node's.
        within: Declared link of the node's elements to earlier ones of the same event, given the parents.
        tokenizer: How an image becomes tokens; None for one token an element.
    """

    name: str
    function: Callable[..., Any]
    kind: Kind
    signature: Signature
    shape: tuple[int, ...] | None = None
    support: Constraint | None = None
    plates: tuple[Plate, ...] = ()
    vectorized: bool = False
    backend: Backend = "numpy"
    depends: Mapping[str, Link] = field(default_factory=dict)
    within: Link | None = None
    tokenizer: TokenizerSpec | None = None

    @property
    def parents(self) -> tuple[str, ...]:
        """Names of the parents, each once, in the order of the parameters."""
        return tuple(dict.fromkeys(parent for _, parent in self.signature.parents))

    @property
    def plate_shape(self) -> tuple[int, ...]:
        """Sizes of the plates, outermost first; the largest one of a plate whose size varies."""
        return tuple(plate.most for plate in self.plates)

    @property
    def index(self) -> Index | None:
        """The index of a function-valued node."""
        return next((axis for axis in self.plates if isinstance(axis, Index)), None)

    @property
    def is_opaque(self) -> bool:
        """Whether the node owns no values: a deterministic node without a shape."""
        return self.kind == "deterministic" and self.shape is None

    @property
    def where(self) -> str:
        """Where the function was declared, as ``file:line``."""
        return where(self.function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the plain function."""
        return self.function(*args, **kwargs)

    def renamed(self, names: Mapping[str, str]) -> Node:
        """Returns the node with its own name and its parents' names replaced where ``names`` has them."""
        parents = tuple((parameter, names.get(parent, parent)) for parameter, parent in self.signature.parents)
        return replace(self, name=names.get(self.name, self.name), signature=replace(self.signature, parents=parents))

    def __repr__(self) -> str:
        details = [f"{self.name}({', '.join(self.parents)})", self.kind]
        if self.shape is not None:
            details.append(f"shape={self.shape}")
        for kind, axes in (("plates", [p for p in self.plates if p != self.index]), ("index", [self.index])):
            if any(axes):
                details.append(f"{kind}=" + ", ".join(axis.name for axis in axes if axis))
        if self.depends or self.within is not None:
            own = {} if self.within is None else {self.name: self.within}
            details.append(f"depends={ {**self.depends, **own} }")
        return f"<node {' '.join(details)}>"
