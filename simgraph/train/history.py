"""What happened during a training, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from simgraph.text import table

__all__ = ["History"]

COLUMNS = ("step", "seconds", "learning_rate", "training_loss", "validation_loss")


class History(Sequence[dict[str, float]]):
    """Rows of a training, one per evaluation: step, seconds, learning rate, training and validation loss.

    Args:
        rows: The rows.

    Example:
        >>> history = History([dict(step=10, seconds=1.0, learning_rate=0.1, training_loss=2.0, validation_loss=1.5)])
        >>> history["validation_loss"], history.best
        ([1.5], 1.5)
    """

    def __init__(self, rows: Sequence[dict[str, float]] = ()) -> None:
        self.rows = [{column: row[column] for column in COLUMNS} for row in rows]

    def __getitem__(self, key: Any) -> Any:
        """Returns a column for a name, and rows for anything else."""
        return [row[key] for row in self.rows] if isinstance(key, str) else self.rows[key]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self.rows)

    @property
    def best(self) -> float:
        """The lowest validation loss; infinity before the first evaluation."""
        return min(self["validation_loss"], default=float("inf"))

    def columns(self) -> dict[str, list[float]]:
        """Returns the columns by name."""
        return {column: self[column] for column in COLUMNS}

    def with_row(self, **row: float) -> History:
        """Returns the history with a row appended."""
        return History([*self.rows, row])

    def __repr__(self) -> str:
        formats = ("{:.0f}", "{:.1f}", "{:.2e}", "{:.4f}", "{:.4f}")
        cells = [[f.format(row[c]) for f, c in zip(formats, COLUMNS, strict=True)] for row in self.rows]
        return table(COLUMNS, cells)
