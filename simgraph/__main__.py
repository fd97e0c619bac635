"""Runs the command line as ``python -m simgraph``."""

from simgraph.cli import main

main()
