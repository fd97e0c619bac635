"""Node element -> token slot.

A layout lists the tokens of a graph in order: variables in topological order, plate elements outside,
event elements inside. Elements of a plate share the identifiers of their event elements, because they
are exchangeable; which of them belong together is kept as plate coordinates.

A plate whose size varies has slots for its largest size; a trace, or a query, has a part of them. ``Tokens`` is a
batch of token values, with masks that say which tokens *exist* in each row, and which have a value (a failed
simulation leaves tokens that exist without one). A token of a function also has a *place*: the point at which the
function was looked at. The function as a whole has a *hidden* slot behind all tokens, which no query ever holds; in the
masks it is absent, above its values and above all that calls it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from simgraph.compile.elements import Elements
from simgraph.compile.embedded import EmbeddedToken
from simgraph.compile.tokenizer import Tokenizer
from simgraph.dsl import Index, Plate
from simgraph.traces import Traces

__all__ = ["Layout", "Tokens"]


@dataclass(frozen=True)
class Tokens:
    """A batch of token values.

    Attributes:
        values: Float tensor (batch, tokens, width); features beyond a token's own width are zero.
        present: Boolean tensor (batch, tokens): which tokens have a value.
        places: Float tensor (batch, tokens, coordinates) of points in (-1, 1), zero for tokens that have none; or None.
        exists: Boolean tensor (batch, tokens): which tokens the row has at all; None if it has all of them.
        raw: What embedding networks see, (batch, *plate sizes, *event_shape) for each variable that has one, in the
            order of the layout; its ``values`` are zero until a network fills them.
        scores: Float tensor (batch, tokens, 3): what the graph knows of the law about each value, in training; or None.
    """

    values: Tensor
    present: Tensor
    places: Tensor | None = None
    exists: Tensor | None = None
    raw: tuple[Tensor, ...] = ()
    scores: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def whole(self) -> bool:
        """Whether all tokens that exist have a value."""
        return bool((self.present if self.exists is None else self.present | ~self.exists).all())

    def __getitem__(self, rows: Tensor | slice) -> Tokens:
        parts = (self.places, self.exists, self.scores)
        places, exists, scores = (None if part is None else part[rows] for part in parts)
        raw = tuple(part[rows] for part in self.raw)
        return Tokens(self.values[rows], self.present[rows], places, exists, raw, scores)


class Layout:
    """The tokens of a graph, in order.

    Args:
        tokenizers: Tokenizers by variable, in topological order.
        plates: Plate names of each variable, outermost first.
        ragged: Plates and indices whose size varies, by name; their variables have the largest size.
        indices: Indices by name.
        joining: Names of the plates that the network is told the elements of. By default all but each index of a single
            function with one token a point: there, points tell the tokens apart.

    Attributes:
        tokens: The tokens in order, each a pair (name, index of its element in the variable's array).
        ids: Long tensor (tokens,): identifier of each token, shared over plate elements.
        coordinates: Long tensor (plates, tokens): element number in each plate, -1 outside of it.
        widths: Long tensor (identifiers,): number of features.
        classes: Long tensor (identifiers,): number of categories, 0 for continuous tokens.
        variables: Long tensor (tokens,): number of each token's variable.
        askable: Boolean tensor (tokens,): which tokens can be latent; those of an embedding cannot.
        hidden: Number of hidden slots, one for each function and element of its plates.
    """

    def __init__(
        self,
        tokenizers: Mapping[str, Tokenizer],
        plates: Mapping[str, Sequence[str]],
        ragged: Mapping[str, Plate] | None = None,
        indices: Mapping[str, Index] | None = None,
        joining: Sequence[str] | None = None,
    ) -> None:
        self.tokenizers = dict(tokenizers)
        self.ragged = dict(ragged or {})
        self.indices = dict(indices or {})
        self.plates = {name: tuple(plates[name]) for name in tokenizers}
        self.plate_names = tuple(dict.fromkeys(plate for name in tokenizers for plate in self.plates[name]))
        self.tokens: list[tuple[str, tuple[int, ...]]] = []
        self._slices: dict[str, slice] = {}
        ids: list[int] = []
        variables: list[int] = []
        coordinates: list[list[int]] = []
        widths: list[int] = []
        classes: list[int] = []
        for name, tokenizer in self.tokenizers.items():
            first, begin = len(widths), len(self.tokens)
            for element in np.ndindex(*tokenizer.variable.plate_shape):
                place = dict(zip(self.plates[name], element, strict=True))
                for number, position in enumerate(np.ndindex(*tokenizer.token_shape)):
                    self.tokens.append((name, element + position))
                    ids.append(first + number)
                    coordinates.append([place.get(plate, -1) for plate in self.plate_names])
            self._slices[name] = slice(begin, len(self.tokens))
            variables += [len(self._slices) - 1] * (len(self.tokens) - begin)
            widths += [tokenizer.width] * tokenizer.num_tokens
            classes += [tokenizer.classes] * tokenizer.num_tokens
        self._hidden: dict[str, np.ndarray] = {}
        self.hidden = 0
        for name, tokenizer in self.tokenizers.items():
            if self.index_of(name) is not None:
                shape = tokenizer.variable.plate_shape[:-1]
                count = int(np.prod(shape))
                numbers = len(self.tokens) + self.hidden + np.arange(count)
                self._hidden[name] = numbers.reshape(shape)
                self.hidden += count
        self.variables = torch.tensor(variables, dtype=torch.long)
        self.askable = torch.tensor([tokenizer.askable for tokenizer in self.tokenizers.values()])[self.variables]
        self.ids = torch.tensor(ids, dtype=torch.long)
        self.coordinates = torch.tensor(coordinates, dtype=torch.long).reshape(len(ids), -1).T
        told = [plate for plate in self.plate_names if not self._is_line(plate)] if joining is None else joining
        self.joining = tuple(told)
        self.widths = torch.tensor(widths, dtype=torch.long)
        self.classes = torch.tensor(classes, dtype=torch.long)

    def _is_line(self, plate: str) -> bool:
        """Tells whether a plate is an index each of whose elements is one token."""
        inside = [name for name, plates in self.plates.items() if plate in plates]
        alone = len(inside) == 1 and self.plates[inside[0]] == (plate,) and self.tokenizers[inside[0]].num_tokens == 1
        return plate in self.indices and alone

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def names(self) -> tuple[str, ...]:
        """Variables in order."""
        return tuple(self.tokenizers)

    @property
    def told_coordinates(self) -> torch.Tensor:
        """The coordinates that the network is told, (joining plates, tokens)."""
        return self.coordinates[[self.plate_names.index(plate) for plate in self.joining]]

    @property
    def width(self) -> int:
        """Number of features of the widest token."""
        return int(self.widths.max())

    def sized(self, sizes: Mapping[str, int]) -> Layout:
        """Returns the layout in which some ragged plates have one size; it has the tokens of :meth:`within`."""
        tokenizers = {}
        for name, tokenizer in self.tokenizers.items():
            old = zip(self.plates[name], tokenizer.variable.plate_shape, strict=True)
            shape = tuple(sizes.get(plate, size) for plate, size in old)
            tokenizers[name] = replace(tokenizer, variable=replace(tokenizer.variable, plate_shape=shape)).at(None)
        rest = {name: plate for name, plate in self.ragged.items() if name not in sizes}
        return Layout(tokenizers, self.plates, rest, self.indices, self.joining)

    def fitted(self, tokenizers: Mapping[str, Tokenizer]) -> Layout:
        """Returns the same layout with other tokenizers of the same variables."""
        return Layout(tokenizers, self.plates, self.ragged, self.indices, self.joining)

    def at(self, points: Mapping[str, np.ndarray]) -> Layout:
        """Returns the layout where functions are looked at.

        Args:
            points: Points ([rows,] points, coordinates) by name of the index, as many as the layout has.
        """
        if not self.indices:
            return self
        tokenizers = dict(self.tokenizers)
        for name, tokenizer in self.tokenizers.items():
            index = self.index_of(name)
            if index is not None:
                tokenizers[name] = tokenizer.at(self.along(name, points[index.name]))
        return self.fitted(tokenizers)

    def can_have_course(self, name: str) -> bool:
        """Whether a variable is a function of one coordinate whose values have tokens of their own."""
        index = self.index_of(name)
        return index is not None and index.dims == 1 and isinstance(self.tokenizers[name], Elements)

    def along(self, name: str, points: np.ndarray) -> np.ndarray:
        """Arranges the first coordinate of points, from -1 to 1, along the axes in front of a function's events.

        Args:
            name: The function.
            points: Points ([rows,] points, coordinates) of its index.
        """
        first = self.indices[self.plates[name][-1]].unit(points)[..., 0]
        return first.reshape(*first.shape[:-1], *[1] * (len(self.plates[name]) - 1), first.shape[-1])

    def index_of(self, name: str) -> Index | None:
        """Returns the index of a function-valued variable, None of any other one."""
        return self.indices.get(self.plates[name][-1]) if self.plates[name] else None

    def hidden_slots(self, name: str) -> np.ndarray:
        """Returns the hidden slot of a function for each element of its plates, (*plate sizes)."""
        return self._hidden[name]

    @property
    def coordinates_of_points(self) -> int:
        """Number of coordinates of the points of indices: the largest; 0 if there are none."""
        return max((index.dims for index in self.indices.values()), default=0)

    def places(self, points: Mapping[str, np.ndarray]) -> Tensor:
        """Returns the place of each token, float (rows, tokens, coordinates); zero for tokens that have none.

        Args:
            points: Points (rows, points, coordinates) by name of the index, as many as the layout has.
        """
        rows = max((len(own) for own in points.values()), default=1)
        found = torch.zeros(rows, len(self), self.coordinates_of_points)
        for name, own in points.items():
            unit = torch.from_numpy(self.indices[name].unit(own)).float()
            number = self.coordinates[self.plate_names.index(name)]
            here = number >= 0
            found[:, here, : unit.shape[-1]] = unit[:, number[here]]
        return found

    def within(self, sizes: Mapping[str, int | np.ndarray]) -> Tensor:
        """Returns which tokens exist where plates have these sizes: boolean (tokens,), or (batch, tokens)."""
        found = torch.ones(len(self), dtype=torch.bool)
        for plate, size in sizes.items():
            inside = self.coordinates[self.plate_names.index(plate)] < torch.as_tensor(size).unsqueeze(-1)
            found = found & inside
        return found

    def hidden_within(self, sizes: Mapping[str, int]) -> Tensor:
        """Returns which hidden slots exist where plates have these sizes, boolean (hidden,)."""
        found = [torch.zeros(0, dtype=torch.bool)]
        for name, slots in self._hidden.items():
            inside = np.ones(slots.shape, dtype=bool)
            for axis, plate in enumerate(self.plates[name][:-1]):
                inside[(slice(None),) * axis + (slice(sizes.get(plate, slots.shape[axis]), None),)] = False
            found.append(torch.from_numpy(inside.ravel()))
        return torch.cat(found)

    def spans(self, name: str) -> list[str]:
        """Returns the sizes of a variable's plates as a person would write them: ``8``, or ``4..16``."""
        sizes = zip(self.plates[name], self.tokenizers[name].variable.plate_shape, strict=True)
        return [self.ragged[plate].span if plate in self.ragged else str(size) for plate, size in sizes]

    def shape_text(self, name: str) -> str:
        """Returns the shape of a variable as a person would write it: ``(4..16, 2)`` in a plate of 4 to 16 elements."""
        sizes = [*self.spans(name), *map(str, self.tokenizers[name].variable.event_shape)]
        return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"

    def slots(self, name: str) -> slice:
        """Returns the slots of a variable's tokens."""
        return self._slices[name]

    @property
    def canonical(self) -> tuple[int, ...]:
        """The tokens in an order that does not depend on the order of declaration: by name and index."""
        return tuple(sorted(range(len(self)), key=lambda slot: self.tokens[slot]))

    @property
    def order(self) -> tuple[int, ...]:
        """All slots in an order that does not depend on that of declaration; the hidden ones last."""
        hidden = [slot for name in sorted(self._hidden) for slot in self._hidden[name].ravel().tolist()]
        return (*self.canonical, *hidden)

    def element_slots(self, name: str) -> np.ndarray:
        """Returns the slot of the token that holds each element of a variable, (*plate sizes, *event_shape)."""
        tokenizer, plates = self.tokenizers[name], self.tokenizers[name].variable.plate_shape
        count = np.arange(np.prod(plates, dtype=int)).reshape((*plates, *[1] * len(tokenizer.variable.event_shape)))
        return np.asarray(self.slots(name).start + tokenizer.num_tokens * count + tokenizer.owners())

    def token_mask(self, name: str, elements: np.ndarray | Tensor) -> Tensor:
        """Maps a mask over a variable's elements (..., *plate sizes, *event_shape) to one over its tokens."""
        tokenizer = self.tokenizers[name]
        mask = torch.as_tensor(elements, dtype=torch.bool)
        lead = mask.shape[: mask.dim() - len(tokenizer.variable.shape)]
        return tokenizer.present(mask).reshape(*lead, -1)

    def label(self, slot: int) -> str:
        """Returns a token's name as a person would write it, for example ``theta[0]``."""
        name, element = self.tokens[slot]
        return f"{name}[{', '.join(map(str, element))}]" if element else name

    def tokenize(self, name: str, values: np.ndarray | Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Maps values (batch, *plate sizes, *event_shape) to tokens (batch, tokens of the variable, width)."""
        tokenizer = self.tokenizers[name]
        clean = _numbers(values)
        tokens = tokenizer.tokenize(clean, generator)
        tokens = tokens.reshape(len(clean), -1, tokenizer.width)
        return torch.nn.functional.pad(tokens, (0, self.width - tokenizer.width))

    def detokenize(self, name: str, tokens: Tensor) -> Tensor:
        """Maps tokens (batch, tokens of the variable, width) to float64 values in the support."""
        return self.tokenizers[name].detokenize(self._elements(name, tokens))

    def log_scale(self, name: str, values: np.ndarray | Tensor) -> Tensor:
        """Returns log |det d token / d value| of values (batch, *plate sizes, *event_shape): (batch, tokens)."""
        values = torch.as_tensor(values, dtype=torch.float64)
        return self.tokenizers[name].log_scale(values).reshape(len(values), -1)

    def _elements(self, name: str, tokens: Tensor) -> Tensor:
        """Arranges tokens (batch, tokens of the variable, width) as (batch, *plate sizes, num_tokens, own width)."""
        tokenizer = self.tokenizers[name]
        own = tokens[..., : tokenizer.width]
        return own.reshape(len(own), *tokenizer.variable.plate_shape, tokenizer.num_tokens, tokenizer.width)

    def leaked(self, tokens: Tensor) -> Tensor:
        """Tells which tokens (batch, tokens, width) leaked through an edge of their support: (batch, tokens)."""
        parts = [
            tokenizer.leaked(self._elements(name, tokens[:, self.slots(name)])).reshape(len(tokens), -1)
            for name, tokenizer in self.tokenizers.items()
        ]
        return torch.cat(parts, 1)

    @property
    def embedded(self) -> dict[str, EmbeddedToken]:
        """Tokenizers of the variables that have an embedding network."""
        return {name: own for name, own in self.tokenizers.items() if isinstance(own, EmbeddedToken)}

    def tokenize_traces(self, traces: Traces, generator: torch.Generator | None = None) -> Tokens:
        """Maps whole traces to tokens; missing entries become tokens without a value."""
        embedded, points = self.embedded, self.points_in(traces)
        there = self.at(points)
        raw = tuple(own.standardised(_numbers(traces[name])) for name, own in embedded.items())
        values = [
            torch.zeros(len(traces[name]), own.stop - own.start, self.width)
            if name in embedded
            else there.tokenize(name, traces[name], generator)
            for name, own in self._slices.items()
        ]
        present = [self.token_mask(name, traces.present(name)) for name in self.names]
        together = torch.cat(present, 1)
        exists = self.within({plate: traces.sizes[plate] for plate in self.ragged}) if self.ragged else None
        places = self.places(points) if points else None
        return Tokens(torch.cat(values, 1) * together.unsqueeze(-1), together, places, exists, raw)

    def points_in(self, traces: Traces) -> dict[str, np.ndarray]:
        """Returns the points (traces, points, coordinates) of each index by name, anything where a trace has none."""
        return {name: index.coordinates(np.nan_to_num(traces[name])) for name, index in self.indices.items()}


def _numbers(values: np.ndarray | Tensor) -> Tensor:
    """Returns float64 values, 0 where there is none."""
    return torch.nan_to_num(torch.as_tensor(values, dtype=torch.float64))
