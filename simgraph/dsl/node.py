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

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, overload

from torch.distributions.constraints import Constraint

from simgraph.dsl.axes import Plate
from simgraph.dsl.index import Index
from simgraph.dsl.links import Link, read_depends
from simgraph.dsl.signature import Signature, read_signature
from simgraph.dsl.tokenizer import TokenizerSpec
from simgraph.errors import DeclarationError, where

__all__ = ["Backend", "Kind", "Node", "deterministic", "node"]

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


Decorator = Callable[[Callable[..., Any]], Node]


@overload
def node(function: Callable[..., Any], /) -> Node: ...


@overload
def node(
    *,
    name: str | None = None,
    parents: Mapping[str, str] | None = None,
    shape: int | Sequence[int] | None = None,
    support: Constraint | None = None,
    plates: Plate | Sequence[Plate] = (),
    index: Index | None = None,
    tokenizer: TokenizerSpec | None = None,
    vectorized: bool = False,
    backend: Backend = "numpy",
    depends: Mapping[str, Any] | None = None,
) -> Decorator: ...


def node(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    parents: Mapping[str, str] | None = None,
    shape: int | Sequence[int] | None = None,
    support: Constraint | None = None,
    plates: Plate | Sequence[Plate] = (),
    index: Index | None = None,
    tokenizer: TokenizerSpec | None = None,
    vectorized: bool = False,
    backend: Backend = "numpy",
    depends: Mapping[str, Any] | None = None,
) -> Node | Decorator:
    """Declares a random variable: a distribution node, or a simulator node if it takes ``rng``.

    Args:
        function: The function, when used as a bare decorator.
        name: Name of the variable; the function's name by default.
        parents: Maps parameters to node names where the two differ.
        shape: Event shape of one value of a simulator node, ``()`` by default.
        support: ``torch.distributions.constraints`` object that all values of a simulator node satisfy.
        plates: Plate or plates that repeat the node, outermost first.
        index: Makes the node function-valued: its function has a parameter of the index's name, which holds points,
            and returns one value for each of them, or a distribution over them all. ``shape`` is that of one value.
        tokenizer: How a value becomes tokens: ``Patches(8)`` for images, ``Chunks(10)`` for series; ``Convolution(2)``
            or ``Embedding(network)`` for data that are only ever given. One token for each element by default.
        vectorized: Promises that a simulator takes a leading trace axis on every parent, and returns one.
        backend: ``"torch"`` hands a simulator torch tensors and a ``torch.Generator``.
        depends: Which elements of a parent reach which elements of the node, by parameter: ``"full"``,
            ``"elementwise"``, ``"causal"``, :func:`lagged`, :func:`window`, a boolean array (*event_shape,
            *parent shape) or a function of two indices. Under the node's own name: how its elements depend on
            earlier ones given the parents (``"independent"``, ``lagged(1)``, ...). What is not declared is read from
            the operations of a distribution node's function, and taken to be full for a simulator node.

    Returns:
        The node, or a decorator that makes one.

    Raises:
        DeclarationError: If an option does not fit the kind of node, or the signature cannot be read.

    Example:
        >>> from torch.distributions import Normal
        >>> @node
        ... def theta():
        ...     return Normal(0.0, 1.0)
        >>> @node(shape=(2,))
        ... def x(theta, rng):
        ...     return rng.normal(theta, 1.0, size=2)
        >>> x.parents, x.kind
        (('theta',), 'simulator')
    """

    def declare(function: Callable[..., Any]) -> Node:
        signature = read_signature(function, parents)
        kind: Kind = "simulator" if signature.takes_rng else "distribution"
        event_shape = _event_shape(shape, function)
        if kind == "distribution":
            for option, given in (
                ("shape", shape is not None),
                ("support", support is not None),
                ("vectorized", vectorized),
                ("backend", backend != "numpy"),
            ):
                if given:
                    raise DeclarationError(
                        f"node {_name(function, name)!r} has no rng parameter, so it returns a distribution,"
                        f" and {option}= follows from that.\n  declared at {where(function)}\n"
                        f"  Remove {option}=, or add the parameter rng if the function draws its value itself."
                    )
        elif event_shape is None:
            event_shape = ()
        axes = _axes(plates, index, signature, _name(function, name), where(function))
        return _declare(
            function, name, kind, signature, event_shape, support, axes, vectorized, backend, depends, tokenizer
        )

    return declare if function is None else declare(function)


@overload
def deterministic(function: Callable[..., Any], /) -> Node: ...


@overload
def deterministic(
    *,
    name: str | None = None,
    parents: Mapping[str, str] | None = None,
    shape: int | Sequence[int] | None = None,
    support: Constraint | None = None,
    plates: Plate | Sequence[Plate] = (),
    index: Index | None = None,
    tokenizer: TokenizerSpec | None = None,
    vectorized: bool = False,
    backend: Backend = "numpy",
    depends: Mapping[str, Any] | None = None,
) -> Decorator: ...


def deterministic(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    parents: Mapping[str, str] | None = None,
    shape: int | Sequence[int] | None = None,
    support: Constraint | None = None,
    plates: Plate | Sequence[Plate] = (),
    index: Index | None = None,
    tokenizer: TokenizerSpec | None = None,
    vectorized: bool = False,
    backend: Backend = "numpy",
    depends: Mapping[str, Any] | None = None,
) -> Node | Decorator:
    """Declares a function of its parents. With ``shape=`` it can be asked for and given like any node.

    Args:
        function: The function, when used as a bare decorator.
        name: Name of the variable; the function's name by default.
        parents: Maps parameters to node names where the two differ.
        shape: Event shape of the value. Without it the value may be any object, and no query names it.
        support: Constraint that all values satisfy; needs ``shape``.
        plates: Plate or plates that repeat the node, outermost first.
        index: Makes the node function-valued; see :func:`node`. Needs ``shape``.
        tokenizer: How a value becomes tokens; see :func:`node`. Needs ``shape``.
        vectorized: Promises a leading trace axis on every parent and on the result, an array. Without ``shape`` the
            array is no variable, but its children see their row of it as they see one: as a tensor or an array.
        backend: ``"torch"`` hands the function torch tensors.
        depends: Which elements of a parent reach which elements of the node; see :func:`node`. Needs ``shape``.

    Returns:
        The node, or a decorator that makes one.

    Raises:
        DeclarationError: If the function takes ``rng``, or an option needs a shape.

    Example:
        >>> @deterministic(shape=())
        ... def total(theta):
        ...     return theta.sum()
        >>> total.kind
        'deterministic'
    """

    def declare(function: Callable[..., Any]) -> Node:
        signature = read_signature(function, parents)
        if signature.takes_rng:
            raise DeclarationError(
                f"deterministic node {_name(function, name)!r} takes rng.\n  declared at {where(function)}\n"
                "  Use @node for a function that draws random numbers."
            )
        if shape is None and (support or index or tokenizer or depends):
            raise DeclarationError(
                f"deterministic node {_name(function, name)!r} needs shape= when support=, index=, tokenizer= or"
                f" depends= is set.\n  declared at {where(function)}"
            )
        event_shape = _event_shape(shape, function)
        axes = _axes(plates, index, signature, _name(function, name), where(function))
        return _declare(
            function,
            name,
            "deterministic",
            signature,
            event_shape,
            support,
            axes,
            vectorized,
            backend,
            depends,
            tokenizer,
        )

    return declare if function is None else declare(function)


def _declare(
    function: Callable[..., Any],
    name: str | None,
    kind: Kind,
    signature: Signature,
    shape: tuple[int, ...] | None,
    support: Constraint | None,
    axes: tuple[Plate, ...],
    vectorized: bool,
    backend: Backend,
    depends: Mapping[str, Any] | None,
    tokenizer: TokenizerSpec | None,
) -> Node:
    label = _name(function, name)
    if not isinstance(label, str) or not label.isidentifier():
        raise DeclarationError(
            f"a node needs a name that is a Python identifier, not {label!r}.\n  declared at {where(function)}\n"
            "  Name it: node(name='z1')(function)"
        )
    if support is not None and not isinstance(support, Constraint):
        raise DeclarationError(
            f"support= of node {label!r} is {support!r}, which is no torch.distributions.constraints object.\n"
            f"  declared at {where(function)}\n  For example: support=constraints.positive"
        )
    if tokenizer is not None and not isinstance(tokenizer, TokenizerSpec):
        raise DeclarationError(
            f"tokenizer= of node {label!r} is {tokenizer!r}; it is sg.Patches(...), sg.Chunks(...),"
            " sg.Convolution(...), sg.Embedding(...), or left out.\n"
            f"  declared at {where(function)}"
        )
    if tokenizer is not None and shape is not None:
        tokenizer.check(shape, label)
    if backend not in ("numpy", "torch"):
        raise DeclarationError(f"backend= of node {label!r} is {backend!r}; it is 'numpy' or 'torch'.")
    points = axes[-1] if axes and isinstance(axes[-1], Index) else None
    if tokenizer is not None and points is not None:
        raise DeclarationError(
            f"node {label!r} has tokenizer= and index=: each point of a function is a token of its own.\n"
            f"  declared at {where(function)}\n  Leave one of the two out."
        )
    if points is not None:
        if depends:
            raise DeclarationError(
                f"depends= of node {label!r}: values of a function are linked by its index.\n"
                f"  declared at {where(function)}\n  Leave depends= out."
            )
        parents = tuple(pair for pair in signature.parents if pair[1] != points.name)
        signature = replace(signature, parents=parents)
    links, within = read_depends(
        label, [name for name, _ in signature.parents], {} if depends is None else depends, where(function)
    )
    return Node(label, function, kind, signature, shape, support, axes, vectorized, backend, links, within, tokenizer)


def _axes(
    plates: Plate | Sequence[Plate], index: Index | None, signature: Signature, label: Any, declared_at: str
) -> tuple[Plate, ...]:
    """Returns the plates of a node, and its index behind them."""
    axes = tuple(plates) if isinstance(plates, (list, tuple)) else (plates,)
    for axis in axes:
        if isinstance(axis, Index):
            raise DeclarationError(
                f"plates= of node {label!r} holds an index.\n  declared at {declared_at}\n"
                f"  Declare a function of it with index={axis.name}; it has one index."
            )
        if not isinstance(axis, Plate):
            raise DeclarationError(
                f"plates= of node {label!r} holds {axis!r}, which is no plate.\n  declared at {declared_at}\n"
                "  Declare one: school = plate('school', 8)"
            )
    if len({axis.name for axis in axes}) < len(axes):
        raise DeclarationError(f"node {label!r} names a plate twice.\n  declared at {declared_at}")
    if index is None:
        return axes
    if not isinstance(index, Index):
        raise DeclarationError(
            f"index= of node {label!r} is {index!r}, which is no index.\n  declared at {declared_at}\n"
            "  Declare one: t = sg.index('t', 0, 10, num=(5, 20))"
        )
    if index.name not in dict(signature.parents):
        raise DeclarationError(
            f"node {label!r} has the index {index.name!r}, and no parameter of that name.\n"
            f"  declared at {declared_at}\n"
            f"  Its function takes the points where it is evaluated: def {label}(..., {index.name})"
        )
    return *axes, index


def _name(function: Callable[..., Any], name: str | None) -> str:
    return name if name is not None else getattr(function, "__name__", repr(function))


def _event_shape(shape: int | Sequence[int] | None, function: Callable[..., Any]) -> tuple[int, ...] | None:
    if shape is None:
        return None
    sizes = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    if not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes):
        raise DeclarationError(
            f"shape={shape!r} is no event shape; each size is a whole number of 1 or more.\n"
            f"  declared at {where(function)}\n  Use shape=() for a scalar, shape=(3,) for a vector."
        )
    return sizes
