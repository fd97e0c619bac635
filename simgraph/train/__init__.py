"""Learning: condition states, the training loop, and what it returns."""

from simgraph.train.conditions import Conditions
from simgraph.train.fit import Trained, train
from simgraph.train.history import History
from simgraph.train.settings import PRESETS, Settings

__all__ = ["PRESETS", "Conditions", "History", "Settings", "Trained", "train"]
