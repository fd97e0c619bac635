"""Traces: many joint draws of a graph, as named columns.

A column is an array with a leading trace axis. Two things can keep an entry from having a value: it does not
*exist*, because the trace has fewer elements in a plate (``sizes`` tells how many), or it is *missing*, because a
simulation failed (a mask tells which are known). Points at which functions were looked at are columns under the name
of their index.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simgraph import files
from simgraph.errors import FileFormatError, TracesError, UnknownNameError, did_you_mean, listed
from simgraph.text import table
from simgraph.traces.sizes import check_room, existing, stand_in

__all__ = ["Column", "Traces"]


@dataclass(frozen=True)
class Column:
    """The values of one variable in all traces.

    Attributes:
        values: Array (num_simulations, *plate sizes, *event_shape), padded to the largest size.
        present: Boolean array of the same shape: which entries are not missing; ``None`` if none is.
    """

    values: np.ndarray
    present: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.values.dtype.kind != "f" and self.values.dtype != np.int64:
            raise TracesError(f"values hold {self.values.dtype}; they are floats or int64.")
        if self.present is not None and self.present.dtype != bool:
            raise TracesError(f"present holds {self.present.dtype}; it is boolean.")
        if self.present is not None and self.present.shape != self.values.shape:
            raise TracesError(f"present has shape {self.present.shape}; the values have {self.values.shape}.")

    def __getitem__(self, rows: Any) -> Column:
        return Column(self.values[rows], None if self.present is None else self.present[rows])


class Traces(Mapping[str, np.ndarray]):
    """Joint draws of a graph: a mapping from names to arrays (num_simulations, *plate sizes, *event_shape).

    Args:
        columns: Arrays, tensors or :class:`Column` objects by name, all of the same leading size. Entries of
            an array that are NaN are missing.
        plates: Names of the plate axes of each variable, outermost first; none by default.
        sizes: Number of elements of ragged plates in each trace, whole numbers (num_simulations,) by name of the
            plate; arrays are as long as the largest trace, and what lies beyond the size of a trace does not exist.
        sources: Where the traces come from: pairs of a seed and the number of the first trace, with counts.

    Attributes:
        plates, sizes, sources: As given.

    Raises:
        TracesError: If there are no columns, their numbers of traces differ, or sizes do not fit them.

    Example:
        >>> traces = Traces({"theta": np.zeros((5, 2)), "x": np.ones(5)})
        >>> traces.num_simulations, traces["theta"].shape, traces[:3]["x"].shape
        (5, (5, 2), (3,))
    """

    def __init__(
        self,
        columns: Mapping[str, Any],
        *,
        plates: Mapping[str, Sequence[str]] | None = None,
        sizes: Mapping[str, Any] | None = None,
        sources: Sequence[tuple[int, int, int]] = (),
    ) -> None:
        self._columns = {
            name: value if isinstance(value, Column) else _column(name, value) for name, value in columns.items()
        }
        if not self._columns:
            raise TracesError("traces need at least one variable.\n  For example: Traces({'theta': array})")
        counts = {name: len(column.values) for name, column in self._columns.items()}
        if len(set(counts.values())) > 1:
            raise TracesError(f"variables have different numbers of traces: {counts}.")
        self.plates = {name: tuple((plates or {}).get(name, ())) for name in self._columns}
        for name, axes in self.plates.items():
            if len(axes) >= self._columns[name].values.ndim:
                raise TracesError(f"{name!r} has shape {self[name].shape}, too few axes for the plates {listed(axes)}.")
        self.sizes = {name: np.asarray(own) for name, own in (sizes or {}).items()}
        check_room(self.sizes, self.plates, {name: column.values.shape for name, column in self._columns.items()})
        self._columns = {name: self._without_absent(name, column) for name, column in self._columns.items()}
        self.sources = tuple((int(seed), int(start), int(count)) for seed, start, count in sources)

    @property
    def num_simulations(self) -> int:
        """Number of traces."""
        return len(next(iter(self._columns.values())).values)

    def column(self, name: str) -> Column:
        """Returns a variable's values with their masks and index values."""
        try:
            return self._columns[name]
        except KeyError:
            raise UnknownNameError(
                f"{name!r} is not a variable of these traces.\n  {did_you_mean(str(name), self._columns)}"
            ) from None

    def exists(self, name: str) -> np.ndarray:
        """Returns which entries of a variable exist: those within the sizes of its plates; boolean, of its shape."""
        shape, found = self.column(name).values.shape, self._elements(name)
        if found is None:
            return np.ones(shape, dtype=bool)
        return np.array(np.broadcast_to(found.reshape(*found.shape, *[1] * (len(shape) - found.ndim)), shape))

    def present(self, name: str) -> np.ndarray:
        """Returns which entries of a variable have a value: they exist and are not missing; boolean, of its shape."""
        column = self.column(name)
        exists = self.exists(name)
        return exists if column.present is None else exists & column.present

    def missing(self, name: str) -> np.ndarray:
        """Returns which entries of a variable exist but have no value; boolean, of its shape."""
        column = self.column(name)
        return np.zeros(column.values.shape, dtype=bool) if column.present is None else ~column.present

    def trace(self, number: int) -> dict[str, np.ndarray]:
        """Returns the values of one trace by name, each (*plate sizes, *event_shape) as long as this trace's plates."""
        one = self[int(number)]
        found = {}
        for name in one:
            ends = (one.sizes[plate][0] if plate in one.sizes else None for plate in one.plates[name])
            found[name] = np.asarray(one[name][(0, *map(slice, ends))])
        return found

    def filled(self) -> Traces:
        """Returns the traces with all plates at their largest size: new elements repeat the first one."""
        columns = {}
        for name, column in self._columns.items():
            found = self._elements(name)
            known = None if column.present is None else stand_in(column.present, found)
            columns[name] = Column(stand_in(column.values, found), known)
        return Traces(columns, plates=self.plates, sources=self.sources)

    def __getitem__(self, key: Any) -> Any:
        """Returns a variable's array for a name, and the selected traces for anything else."""
        if isinstance(key, str):
            return self.column(key).values
        if isinstance(key, (int, np.integer)) and not -self.num_simulations <= key < self.num_simulations:
            raise IndexError(f"trace {key} is out of range: there are {self.num_simulations}.")
        rows = slice(key, key + 1 or None) if isinstance(key, (int, np.integer)) else key
        sizes = {plate: own[rows] for plate, own in self.sizes.items()}
        return Traces({name: column[rows] for name, column in self._columns.items()}, plates=self.plates, sizes=sizes)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    @staticmethod
    def concatenate(*parts: Traces) -> Traces:
        """Joins traces of one graph.

        Raises:
            TracesError: If variables or shapes differ, or if two parts hold the same simulations.
        """
        if not parts:
            raise TracesError("concatenate needs at least one part.")
        first = parts[0]
        for part in parts[1:]:
            if set(part) != set(first):
                raise TracesError(f"parts have different variables: {listed(first)} and {listed(part)}.")
            for name in first:
                if part[name].shape[1:] != first[name].shape[1:]:
                    raise TracesError(
                        f"{name!r} has shapes {first[name].shape[1:]} and {part[name].shape[1:]} in two parts."
                    )
            if set(part.sizes) != set(first.sizes):
                raise TracesError(f"parts have sizes of different plates: {[*first.sizes]} and {[*part.sizes]}.")
        sizes = {plate: np.concatenate([part.sizes[plate] for part in parts]) for plate in first.sizes}
        _refuse_repeats([source for part in parts for source in part.sources])
        columns = {name: _joined([part.column(name) for part in parts]) for name in first}
        return Traces(columns, plates=first.plates, sizes=sizes, sources=[s for part in parts for s in part.sources])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the traces to one file (safetensors with a JSON manifest), atomically."""
        arrays: dict[str, np.ndarray] = {}
        for name, column in self._columns.items():
            arrays[f"values/{name}"] = column.values
            if column.present is not None:
                arrays[f"present/{name}"] = column.present
        arrays |= {f"sizes/{plate}": own for plate, own in self.sizes.items()}
        names = [{"name": name, "plates": self.plates[name]} for name in self]
        files.write(path, "traces", arrays, {"variables": names, "sources": self.sources})

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Traces:
        """Reads traces that :meth:`save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            FileFormatError: If the file is damaged or holds something else.
        """
        arrays, manifest = files.read(path, "traces")
        try:
            variables = {str(entry["name"]): tuple(map(str, entry["plates"])) for entry in manifest["variables"]}
            columns = {name: Column(arrays[f"values/{name}"], arrays.get(f"present/{name}")) for name in variables}
            sizes = {key.removeprefix("sizes/"): own for key, own in arrays.items() if key.startswith("sizes/")}
            sources = [tuple(source) for source in manifest["sources"]]
            return Traces(columns, plates=variables, sizes=sizes, sources=sources)
        except (KeyError, TypeError, ValueError, OverflowError, TracesError) as error:
            raise FileFormatError(f"{os.fspath(path)} holds traces that do not fit together: {error}") from error

    def __repr__(self) -> str:
        head = ("variable", "shape", "type", "mean", "sd", "min", "max", "missing")
        rows = [_summary(name, self) for name in self._columns]
        sizes = [
            f"plate {plate!r} has {own.min()} to {own.max()} elements" for plate, own in self.sizes.items() if own.size
        ]
        return "\n".join([f"Traces with {self.num_simulations} simulations", table(head, rows), *sizes])

    def _elements(self, name: str) -> np.ndarray | None:
        """Returns which plate elements of a variable exist, boolean (num_simulations, *plate sizes); None if all do."""
        values, axes = self._columns[name].values, self.plates[name]
        return existing(axes, self.sizes, values.shape[1 : 1 + len(axes)], len(values))

    def _without_absent(self, name: str, column: Column) -> Column:
        """Returns a column in which what does not exist is not missing."""
        if column.present is None or not self.sizes:
            return column
        known = column.present | ~self.exists(name)
        return replace(column, present=None if known.all() else known)


def _column(name: str, value: Any) -> Column:
    array = np.asarray(value)
    if array.ndim == 0:
        raise TracesError(f"{name!r} is a single number; a variable needs a leading trace axis.")
    if array.dtype.kind in "iub":
        return Column(array.astype(np.int64))
    if array.dtype.kind != "f":
        raise TracesError(f"{name!r} holds {array.dtype}, not numbers.")
    unknown = np.isnan(array)
    return Column(array, ~unknown) if unknown.any() else Column(array)


def _joined(columns: Sequence[Column]) -> Column:
    values = np.concatenate([column.values for column in columns])
    present = None
    if any(column.present is not None for column in columns):
        full = [np.ones(c.values.shape, dtype=bool) if c.present is None else c.present for c in columns]
        present = np.concatenate(full)
    return Column(values, present)


def _refuse_repeats(sources: Sequence[tuple[int, int, int]]) -> None:
    for number, (seed, start, count) in enumerate(sources):
        for other_seed, other_start, other_count in sources[:number]:
            if seed == other_seed and start < other_start + other_count and other_start < start + count:
                raise TracesError(
                    f"two parts hold the same simulations: seed {seed}, traces from {max(start, other_start)} on.\n"
                    "  Simulate the second part with another seed=, or with start= after the first."
                )


def _summary(name: str, traces: Traces) -> tuple[str, ...]:
    column = traces.column(name)
    values = column.values
    kept = values[traces.present(name)] if traces.sizes or column.present is not None else values.ravel()
    missing = "-" if column.present is None else f"{1 - kept.size / max(1, traces.exists(name).sum()):.1%}"
    shape = "".join(f"{plate}=" for plate in traces.plates[name]) + str(values.shape[1:])
    if not kept.size:
        return name, shape, str(values.dtype), "-", "-", "-", "-", missing
    numbers = (f"{statistic(kept):.4g}" for statistic in (np.mean, np.std, np.min, np.max))
    return name, shape, str(values.dtype), *numbers, missing
