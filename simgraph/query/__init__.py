"""Answers: a trained model, questions put to it by name, and their samples."""

from simgraph.query.check import Check
from simgraph.query.evidence import Missing, missing
from simgraph.query.flow import Flow
from simgraph.query.intervals import Interval, above, below, between
from simgraph.query.intervene import Intervention
from simgraph.query.methods import Guided, Rejection, Splitting
from simgraph.query.model import Model, fit, load
from simgraph.query.query import Query
from simgraph.query.ragged import RaggedQuery
from simgraph.query.restrictions import constraint, where
from simgraph.query.samples import Samples
from simgraph.query.solvers import Heun, Multistep, Sampler

__all__ = [
    "Check",
    "Flow",
    "Guided",
    "Heun",
    "Interval",
    "Intervention",
    "Missing",
    "Model",
    "Multistep",
    "Query",
    "RaggedQuery",
    "Rejection",
    "Sampler",
    "Samples",
    "Splitting",
    "above",
    "below",
    "between",
    "constraint",
    "fit",
    "load",
    "missing",
    "where",
]
