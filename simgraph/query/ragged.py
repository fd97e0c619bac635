"""Ragged batches: pieces of evidence whose plates or points differ, handed over as a list and answered by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from simgraph.compile.layout import Layout
from simgraph.compile.names import name_of
from simgraph.dsl import Curve, Node
from simgraph.errors import QueryError, ShapeError
from simgraph.query.evidence import Missing
from simgraph.query.intervals import Interval
from simgraph.traces.seeds import check_seed, integer_seed

if TYPE_CHECKING:
    from simgraph.query.query import Query

__all__ = ["RaggedQuery", "pieces_of"]


class RaggedQuery(Sequence["Query"]):
    """Questions about several pieces of evidence, whose plates may differ in size: a sequence of queries.

    Made by ``given`` from a list with one array for each piece. Every answer is a list with one entry for each piece.

    Args:
        queries: One query for each piece of evidence.
    """

    def __init__(self, queries: Sequence[Query]) -> None:
        self._queries = tuple(queries)

    @overload
    def __getitem__(self, key: int) -> Query: ...

    @overload
    def __getitem__(self, key: slice) -> RaggedQuery: ...

    def __getitem__(self, key: int | slice) -> Query | RaggedQuery:
        return RaggedQuery(self._queries[key]) if isinstance(key, slice) else self._queries[key]

    def __iter__(self) -> Iterator[Query]:
        return iter(self._queries)

    def __len__(self) -> int:
        return len(self._queries)

    def sample(self, *names: str | Node | Iterable[str | Node], seed: int | None = None, **options: Any) -> Any:
        """Draws for each piece of evidence; see :meth:`Query.sample`."""
        return self._asked("sample", names, seed, options)

    def check(self, *names: str | Node | Iterable[str | Node], seed: int | None = None, **options: Any) -> Any:
        """Holds the answer for each piece against the corrected one, in a list; see :meth:`Query.check`."""
        return self._asked("check", names, seed, options)

    def predict(self, *names: str | Node | Iterable[str | Node], seed: int | None = None, **options: Any) -> Any:
        """Draws replicates for each piece of evidence; see :meth:`Query.predict`."""
        return self._asked("predict", names, seed, options)

    def map(self, *names: str | Node | Iterable[str | Node], seed: int | None = None, **options: Any) -> Any:
        """Returns the most likely values for each piece of evidence; see :meth:`Query.map`."""
        return self._asked("map", names, seed, options)

    def log_prob(self, values: Mapping[str | Node, Any] | None = None, /, **options: Any) -> Any:
        """Returns log densities for each piece of evidence; see :meth:`Query.log_prob`.

        Values are lists with one entry for each piece, in the order of the evidence.

        Raises:
            ShapeError: If a value is no such list.
        """
        rest = {option: options.pop(option) for option in ("at", "sampler") if option in options}
        named: dict[Any, Any] = {**(values or {}), **options}
        for name, value in named.items():
            if not isinstance(value, (list, tuple)) or len(value) != len(self):
                raise ShapeError(
                    f"log_prob({name_of(name)}=...) answers {len(self)} pieces of evidence.\n"
                    f"  Hand over a list of {len(self)} values, one for each piece."
                )
        return [
            query.log_prob({name: value[number] for name, value in named.items()}, **rest)
            for number, query in enumerate(self)
        ]

    def given(self, /, *conditions: Any, strict: bool = False, **values: Any) -> RaggedQuery:
        """Attaches evidence that all pieces share; see :meth:`Query.given`."""
        found = []
        for query in self:
            more = query.given(*conditions, strict=strict, **values)
            if isinstance(more, RaggedQuery) or more.batched:
                raise QueryError(
                    "given(...) has a batch of evidence beside a list of pieces.\n"
                    "  Hand over all evidence of the pieces in one call of given(...)."
                )
            found.append(more)
        return RaggedQuery(found)

    def _asked(self, call: str, names: tuple[Any, ...], seed: int | None, options: Mapping[str, Any]) -> list[Any]:
        seeds = [None] * len(self) if seed is None else _seeds(seed, len(self))
        return [getattr(query, call)(*names, seed=own, **options) for query, own in zip(self, seeds, strict=True)]

    def __repr__(self) -> str:
        return f"<{len(self)} queries, the first: {self[0]!r}>"


def pieces_of(layout: Layout, named: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Splits evidence into pieces, if a variable in a ragged plate has a list of them.

    Args:
        layout: The tokens; its ragged plates have no size yet.
        named: Evidence by name.

    Returns:
        Evidence by name for each piece; None if there is no such list.

    Raises:
        ShapeError: If lists and batches have different numbers of pieces.
    """
    lists = [name for name, value in named.items() if _is_list(layout, name, value)]
    if not lists:
        return None
    counts = {name: len(named[name]) for name in lists}
    batches = {name: value for name, value in named.items() if name not in lists and _is_batch(layout, name, value)}
    counts |= {name: len(_array(value)) for name, value in batches.items()}
    if len(set(counts.values())) > 1:
        raise ShapeError(
            f"given(...) has different numbers of pieces: {counts}.\n"
            "  Pieces belong together; give every name that has several the same number of them."
        )
    return [
        {name: _piece(value, number) if name in counts else value for name, value in named.items()}
        for number in range(counts[lists[0]])
    ]


def _is_list(layout: Layout, name: str, value: Any) -> bool:
    """Tells whether a value is a list of whole pieces of a variable in a ragged plate, or of curves."""
    if not isinstance(value, (list, tuple)) or not value:
        return False
    if layout.index_of(name) is not None:
        return all(isinstance(item, Curve) for item in value)
    own = len(layout.tokenizers[name].variable.shape)
    return any(plate in layout.ragged for plate in layout.plates[name]) and all(_ndim(item) == own for item in value)


def _is_batch(layout: Layout, name: str, value: Any) -> bool:
    return not isinstance(value, (Interval, Curve)) and _ndim(value) == len(layout.tokenizers[name].variable.shape) + 1


def _array(value: Any) -> Any:
    return value.values if isinstance(value, Missing) else value


def _ndim(value: Any) -> int:
    try:
        return int(np.ndim(_array(value)))
    except ValueError:  # lists within lists of different lengths
        return -1


def _piece(value: Any, number: int) -> Any:
    if isinstance(value, Missing):
        return Missing(value.values[number], value.observed[number])
    return value[number]


def _seeds(seed: int, count: int) -> list[int]:
    return [integer_seed(check_seed(seed), "piece", number) for number in range(count)]
