"""Judgement of answers."""

from simgraph.diagnostics.c2st import c2st

__all__ = ["c2st"]
