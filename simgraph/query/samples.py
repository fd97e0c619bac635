"""Named draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from simgraph.errors import MissingExtraError, UnknownNameError, did_you_mean
from simgraph.text import table

__all__ = ["Samples"]


class Samples(Mapping[str, Tensor]):
    """Draws by name: a mapping from names to tensors ([batch,] num_samples, *event_shape).

    Args:
        values: Tensors by name.
        batched: Whether the first axis runs over pieces of evidence.
        outside: Share of draws outside of the bounds that their own parents set, by name, where there are any.

    Example:
        >>> import torch
        >>> samples = Samples({"theta": torch.zeros(100, 2)})
        >>> samples["theta"].shape, samples.num_samples
        (torch.Size([100, 2]), 100)
    """

    def __init__(
        self, values: Mapping[str, Tensor], *, batched: bool = False, outside: Mapping[str, float] | None = None
    ) -> None:
        self._values = dict(values)
        self.batched = batched
        self.outside = dict(outside or {})

    @property
    def num_samples(self) -> int:
        """Number of draws for each piece of evidence."""
        return next(iter(self._values.values())).shape[1 if self.batched else 0]

    def __getitem__(self, name: str) -> Tensor:
        try:
            return self._values[name]
        except KeyError:
            raise UnknownNameError(
                f"{name!r} was not sampled.\n  {did_you_mean(str(name), self._values, 'Sampled')}"
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def to_numpy(self) -> dict[str, np.ndarray]:
        """Returns NumPy arrays by name."""
        return {name: value.numpy() for name, value in self._values.items()}

    def columns(self) -> dict[str, np.ndarray]:
        """Returns one flat column per element, for example ``theta[0]``; batches are stacked and numbered."""
        found: dict[str, np.ndarray] = {}
        lead = 2 if self.batched else 1
        for name, value in self._values.items():
            array = value.numpy()
            if self.batched:
                found.setdefault("batch", np.repeat(np.arange(array.shape[0]), array.shape[1]))
            for element in np.ndindex(*array.shape[lead:]):
                label = f"{name}[{', '.join(map(str, element))}]" if element else name
                found[label] = array[(slice(None),) * lead + element].ravel()
        return found

    def to_pandas(self) -> Any:
        """Returns a data frame with one column per element.

        Raises:
            MissingExtraError: If pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise MissingExtraError("pandas", "pandas", "Samples.to_pandas()") from None
        return pandas.DataFrame(self.columns())

    def __repr__(self) -> str:
        head = ("", "mean", "sd", "5%", "50%", "95%")
        columns = self.columns()
        if self.batched:
            columns.pop("batch")
        rows = [(name, *_summary(column)) for name, column in list(columns.items())[:_MOST]]
        more = len(columns) - len(rows)
        batch = f" for each of {next(iter(self.values())).shape[0]} pieces of evidence" if self.batched else ""
        tail = f"\n... and {more} more elements" if more else ""
        for name, share in self.outside.items():
            tail += f"\n{share:.1%} of the draws of {name!r} lie outside of the bounds that their parents set"
        return f"Samples with {self.num_samples} draws{batch}\n{table(head, rows)}{tail}"


_MOST = 20
"""Rows of the printed table."""


def _summary(column: np.ndarray) -> list[str]:
    low, median, high = np.quantile(column, [0.05, 0.5, 0.95])
    return [f"{number:.4g}" for number in (column.mean(), column.std(), low, median, high)]
