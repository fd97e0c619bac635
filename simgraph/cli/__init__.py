"""The command line: inspect, simulate, fit, sample, demo, benchmark."""

from __future__ import annotations

import sys

from simgraph.errors import MissingExtraError, SimgraphError

__all__ = ["main"]


def main() -> None:
    """Runs the command line."""
    try:
        import typer
    except ImportError:
        print(MissingExtraError("typer", "cli", "the command line"), file=sys.stderr)
        raise SystemExit(1) from None
    from simgraph.cli.commands import COMMANDS

    app = typer.Typer(
        help="Declare a simulator as a graph, train once, ask any conditional by name.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for name, command in COMMANDS.items():
        app.command(name=name)(command)
    try:
        app()
    except (SimgraphError, FileNotFoundError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
