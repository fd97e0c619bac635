"""Answers: a trained model, questions put to it by name, and their samples."""

from simgraph.query.evidence import Missing, missing
from simgraph.query.flow import Flow
from simgraph.query.model import Model, fit, load
from simgraph.query.query import Query
from simgraph.query.samples import Samples
from simgraph.query.solvers import Heun, Multistep, Sampler

__all__ = ["Flow", "Heun", "Missing", "Model", "Multistep", "Query", "Sampler", "Samples", "fit", "load", "missing"]
