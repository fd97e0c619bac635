"""Which tokenizer a variable has."""

from __future__ import annotations

import torch

from simgraph.compile.categories import Categories
from simgraph.compile.elements import Elements
from simgraph.compile.embedded import EmbeddedToken
from simgraph.compile.pieces import PieceTokens
from simgraph.compile.probe import Variable
from simgraph.compile.simplex import Simplex
from simgraph.compile.tokenizer import Tokenizer
from simgraph.dsl import Embedding, Pieces
from simgraph.errors import DeclarationError

__all__ = ["MAX_CLASSES", "tokenizer_for"]

MAX_CLASSES = 32
"""Up to so many whole numbers are categories with a token of one number each; more are counted."""


def tokenizer_for(variable: Variable) -> Tokenizer:
    """Chooses the tokenizer of a variable: the declared one, or by its support; not fitted yet.

    Raises:
        DeclarationError: If values cannot become tokens as declared.
    """
    support = variable.support
    if isinstance(variable.tokenizer, Pieces):
        return _cut(variable, variable.tokenizer)
    if isinstance(variable.tokenizer, Embedding):
        return _embedded(variable, variable.tokenizer)
    if support.kind == "simplex":
        return Simplex(variable, {})
    if support.kind == "integers":
        classes = support.high.max() - support.low.min() + 1
        if classes <= MAX_CLASSES:
            return Categories(variable, {})
    return Elements(variable, {})


def _cut(variable: Variable, pieces: Pieces) -> Tokenizer:
    if variable.support.kind != "interval":
        raise DeclarationError(
            f"node {variable.name!r} has the support {variable.support}, and tokenizer={pieces}.\n"
            f"  {type(pieces).__name__} hold real numbers: leave tokenizer= out."
        )
    pieces.check(variable.event_shape, variable.name)
    return PieceTokens(variable, {})


def _embedded(variable: Variable, spec: Embedding) -> Tokenizer:
    if variable.support.kind == "simplex":
        raise DeclarationError(
            f"node {variable.name!r} has the support {variable.support}, and tokenizer={spec}.\n"
            "  Embeddings are for numbers that stand for themselves: leave tokenizer= out."
        )
    spec.check(variable.event_shape, variable.name)
    network = spec.build(variable.event_shape).eval().requires_grad_(False)
    with torch.no_grad():
        features = network(torch.zeros(1, *variable.event_shape)).shape[1]
    return EmbeddedToken(variable, {}, network, features)
