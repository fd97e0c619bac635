"""The program that measures exact answers."""

import re

import simgraph as sg
from simgraph.benchmark import exact
from simgraph.benchmark.tasks import find_task
from tests.samples import TINY


def test_a_measurement_of_a_hardly_trained_model():
    task = find_task("tree_conditionals")
    model = sg.fit(task.graph, num_simulations=200, preset=TINY, progress=False)
    found = exact.measure(task, model, questions=2, draws=200)
    assert found["draws"] == 200
    assert [len(found[key]) for key in ("c2st", "plain", "floor", "ess", "seconds", "notes")] == [2] * 6
    assert found["log_evidence"][0] is None  # nothing is given in the first question
    assert isinstance(found["log_evidence"][1], float)
    # 400 guesses have a standard error of 0.025, and the network of a dozen steps knows next to nothing.
    assert max(found["c2st"]) < 0.6 < max(found["plain"])
    own = {"train_seconds": 1.0, "machine": {"cores": 2}, **found}
    text = exact.report({"tasks": {"tree_conditionals": own}})
    (row,) = re.findall(r"\| tree_conditionals \| 2 \| 1 \| 0\.\d{3} \| 0\.\d{3} ± 0\.018 \|.*", text)
    assert row.count("|") == 11


def test_its_tasks_can_be_answered_exactly():
    for name in exact.TASKS:
        graph = find_task(name).graph
        assert "simulator" not in {graph[node].kind for node in graph}, name
