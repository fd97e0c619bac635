"""Judgement of answers."""

from simgraph.diagnostics.c2st import c2st
from simgraph.diagnostics.mmd import mmd

__all__ = ["c2st", "mmd"]
