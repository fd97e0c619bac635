"""What NPE is handed, seen by a stand-in for sbi."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from simgraph.benchmark.methods import METHODS
from simgraph.benchmark.plan import Plan
from simgraph.benchmark.tasks import find_task
from simgraph.errors import DeclarationError


class StandIn:
    """Stands for sbi.inference.NPE: notes what it is handed, and returns zeros."""

    def __init__(self, prior, **options):
        type(self).seen = self
        self.prior = prior
        self.summary = {"best_validation_loss": [1.0], "epochs_trained": [7]}

    def append_simulations(self, theta, x):
        self.theta, self.x = theta, x
        return self

    def train(self):
        return self

    def build_posterior(self):
        def sample(shape, x, show_progress_bars):
            self.given = x
            return torch.zeros(*shape, self.theta.shape[1])

        return SimpleNamespace(sample=sample)


@pytest.fixture
def sbi(monkeypatch):
    package, inference, utils = (ModuleType(name) for name in ("sbi", "sbi.inference", "sbi.utils"))
    inference.NPE, utils.MultipleIndependent = StandIn, list
    for module in (package, inference, utils):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize("name", ["bernoulli_glm", "sir", "slcp", "hmm"])
def test_npe_gets_the_columns_that_references_and_observations_have(sbi, name):
    task = find_task(name)
    traces = task.graph.simulate(20, seed=0, progress=False)
    learned = METHODS["npe"](task, traces, 0, Plan(), False)()
    question = task.question(1)
    draws = learned.answers["npe"](question, 6, 0)
    assert draws.shape == question.reference(6, 0).shape
    assert torch.allclose(StandIn.seen.given, torch.as_tensor(task.observations()[[1]]).float())
    columns = np.concatenate([traces[key].reshape(20, -1) for key in task.parameters], 1)
    assert torch.equal(StandIn.seen.theta, torch.as_tensor(columns).float())
    assert StandIn.seen.x.shape == (20, task.observations().shape[1])
    assert len(StandIn.seen.prior) == columns.shape[1]
    for part, column in zip(StandIn.seen.prior, columns.T, strict=True):
        assert part.support.check(torch.as_tensor(column)).all()
    assert learned.facts["epochs"] == 7


def test_npe_says_which_bounds_it_cannot_take(sbi, monkeypatch):
    task = find_task("sir")
    traces = task.graph.simulate(20, seed=0, progress=False)
    support = SimpleNamespace(low=np.array(1.0), high=np.array(np.inf))
    variable = SimpleNamespace(support=support, shape=())
    layout = SimpleNamespace(tokenizers=dict.fromkeys(task.parameters, SimpleNamespace(variable=variable)))
    monkeypatch.setattr("simgraph.benchmark.npe.compile", lambda *_: SimpleNamespace(layout=layout))
    with pytest.raises(DeclarationError, match="not set up for the bounds 1"):
        METHODS["npe"](task, traces, 0, Plan(), False)
