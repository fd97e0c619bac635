"""Decorators that make a node of a function, and what they check before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, overload

from torch.distributions.constraints import Constraint

from simgraph.dsl.axes import Plate
from simgraph.dsl.index import Index
from simgraph.dsl.links import read_depends
from simgraph.dsl.node import Backend, Kind, Node
from simgraph.dsl.signature import Signature, read_signature
from simgraph.dsl.tokenizer import TokenizerSpec
from simgraph.errors import DeclarationError, where

__all__ = ["deterministic", "node"]

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
