"""Parameter names -> parents.

A node function states its edges in its signature: every parameter without a default is a parent,
except for ``rng`` and ``workdir``, which the library provides.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simgraph.errors import DeclarationError, listed, where

__all__ = ["PROVIDED", "Signature", "read_signature"]

PROVIDED = ("rng", "workdir")
"""Parameters that the library fills in; they are never parents."""


@dataclass(frozen=True)
class Signature:
    """What a node function asks for.

    Attributes:
        parents: Pairs (parameter, name of the parent node), in the order of the parameters.
        positional: The parameters that can only be passed by position.
        takes_rng: Whether the function asks for a random number generator.
        takes_workdir: Whether the function asks for a temporary folder.
    """

    parents: tuple[tuple[str, str], ...]
    positional: tuple[str, ...]
    takes_rng: bool
    takes_workdir: bool

    def call(self, function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
        """Calls ``function`` with ``values`` given by parameter name."""
        if not self.positional:
            return function(**values)
        args = [values[parameter] for parameter in self.positional]
        kwargs = {parameter: value for parameter, value in values.items() if parameter not in self.positional}
        return function(*args, **kwargs)


def read_signature(function: Callable[..., Any], parents: Mapping[str, str] | None = None) -> Signature:
    """Reads the parents of a node function from its parameters.

    Args:
        function: Any callable: a function, a lambda, a ``functools.partial``, a class, a callable object.
        parents: Maps parameters to node names where the two differ; may name parameters with a
            default, which then become parents, and parameters behind ``**kwargs``.

    Returns:
        The signature.

    Raises:
        DeclarationError: If the signature cannot be read, has ``*args`` or ``**kwargs`` that nothing
            names, or if ``parents`` names a parameter that does not exist.
    """
    renamed = dict(parents or {})
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        if parents is None:
            raise DeclarationError(
                f"the parameters of {function!r} cannot be read.\n"
                "  Name them: node(name=..., parents={'parameter': 'node'})(function), or wrap it in a def."
            ) from None
        return Signature(tuple(renamed.items()), (), takes_rng=False, takes_workdir=False)

    found: list[tuple[str, str]] = []
    positional: list[str] = []
    variadic = None
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            variadic = parameter
            continue
        required = parameter.default is parameter.empty
        if not (required or name in PROVIDED or name in renamed):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            positional.append(name)
        if name not in PROVIDED:
            found.append((name, renamed.pop(name, name)))

    if variadic is not None and variadic.kind is variadic.VAR_KEYWORD and renamed:
        found.extend(renamed.items())
        renamed, variadic = {}, None
    if renamed:
        raise DeclarationError(
            f"parents= maps parameters that the function does not have: {listed(renamed)}.\n"
            f"  declared at {where(function)}\n  Parameters of the function: {listed(parameters)}."
        )
    if variadic is not None and parents is None:
        raise DeclarationError(
            f"a node function cannot have the parameter '{variadic}': its parents would be unknown.\n"
            f"  declared at {where(function)}\n  Name each parent as a parameter of its own."
        )
    return Signature(
        parents=tuple(found),
        positional=tuple(positional),
        takes_rng="rng" in parameters,
        takes_workdir="workdir" in parameters,
    )
