import json
from dataclasses import replace

import pytest
import torch

import simgraph as sg
from simgraph.benchmark import derived_masks
from simgraph.benchmark.derived_masks import compare, end_of, full
from simgraph.benchmark.gaussian_linear import gaussian_linear
from simgraph.benchmark.tasks import find_task
from simgraph.compile.masks import ABSENT
from simgraph.errors import TrainingError
from simgraph.simformer import Architecture
from simgraph.train import History, Settings
from simgraph.train.conditions import Conditions

SMALL = Settings(batch_size=32, architecture=Architecture(width=8, depth=2, heads=2, widening=1))


@pytest.fixture(scope="module")
def compiled():
    return sg.compile(gaussian_linear, gaussian_linear.simulate(50, seed=0, progress=False))


def test_in_the_full_mask_every_present_token_reads_every_other(compiled):
    states = torch.randint(3, (20, 20), generator=torch.Generator().manual_seed(0))
    states[:, 0] = 1  # a question asks for something
    masks = full(compiled).rule.edge_mask(states, 4)
    present = states != ABSENT
    both = present[:, :, None] & present[:, None, :]
    assert masks[both].all()


def test_both_masks_are_asked_the_same_questions(compiled):
    drawn = [Conditions(arm).draw(200, torch.Generator().manual_seed(0)) for arm in (compiled, full(compiled))]
    assert (drawn[0] == drawn[1]).all()


def rows(*losses, seconds=1.0, every=10):
    return History(
        [
            {
                "step": every * number,
                "seconds": seconds * number,
                "learning_rate": 0.1,
                "training_loss": 1.0,
                "validation_loss": loss,
            }
            for number, loss in enumerate(losses, start=1)
        ]
    )


def test_what_ended_a_training_is_told():
    settings = Settings(steps=1_000, patience=2)
    assert end_of(rows(3, 2, 1), settings, time_limit=3) == "time"
    assert end_of(rows(3, 4, 5), settings, time_limit=10) == "patience"
    assert end_of(rows(3, 2, 1), replace(settings, steps=30), time_limit=10) == "steps"
    assert end_of(rows(3, 4, 5), replace(settings, steps=30), time_limit=10) == "steps"
    for history in (rows(3, 2, 1), History()):
        with pytest.raises(TrainingError, match="interrupted or broke off; its run is not kept"):
            end_of(history, settings, time_limit=10)


@pytest.fixture
def judge(monkeypatch):
    """Stands for the trainings: notes which mask was trained, and fails when told so."""

    def judged(task, compiled, traces, settings, seed, time_limit, count, progress):
        question = task.question(0)
        pairs = int(compiled.edge_mask(given=tuple(question.evidence), of=tuple(question.latent)).sum())
        if len(judged.pairs) == judged.fail_at:
            judged.fail_at = None
            raise KeyboardInterrupt
        judged.pairs.append(pairs)
        mean = 0.6 if pairs < 400 else 0.7
        return {
            "c2st": [mean - 0.05, mean + 0.05],
            "c2st_mean": mean,
            "c2st_draws": 100,
            "validation_loss": 0.5,
            "steps": 30 if pairs < 400 else 20,
            "ended_by": "time",
            "train_seconds": time_limit,
            "cpu_seconds": 4.0,
            "sample_seconds": 1.0,
            "tokens": 20,
            "pairs": pairs,
        }

    judged.pairs, judged.fail_at = [], None
    monkeypatch.setattr(derived_masks, "judged", judged)
    return judged


def test_masks_take_turns_at_being_first(tmp_path, judge):
    runs = compare(tmp_path, ["gaussian_linear", "slcp"], [20], 5.0, [0])
    assert [(run["task"], run["mask"]) for run in runs] == [
        ("gaussian_linear", "derived"),
        ("gaussian_linear", "full"),
        ("slcp", "full"),
        ("slcp", "derived"),
    ]
    assert judge.pairs == [40, 400, 169, 121]


def test_an_interrupted_command_goes_on_where_it_stopped(tmp_path, judge):
    judge.fail_at = 1
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path, ["gaussian_linear"], [20], 5.0, [0, 1])
    assert len(json.loads((tmp_path / "derived_masks.json").read_text())["runs"]) == 1
    runs = compare(tmp_path, ["gaussian_linear"], [20], 5.0, [0, 1])
    assert len(judge.pairs) == len(runs) == 4
    assert compare(tmp_path, ["gaussian_linear"], [20], 5.0, [0, 1]) == runs
    assert len(judge.pairs) == 4
    # Another time limit is another run.
    assert len(compare(tmp_path, ["gaussian_linear"], [20], 6.0, [0])) == 6
    assert len(list(tmp_path.iterdir())) == 2  # no temporary file is left


def test_the_table_shows_the_runs_and_their_differences(tmp_path, judge):
    compare(tmp_path, ["gaussian_linear"], [20], 5.0, [0])
    text = (tmp_path / "derived_masks.md").read_text()
    assert (
        f"| gaussian_linear | 20 | 0 | 5 | derived | 30 | 4 | time | {judge.pairs[0]} | 0.5000 | 0.550 0.650 | 0.600 |"
        in text
    )
    assert "| gaussian_linear | 20 | 0 | 5 | full | 20 | 4 | time | 400 | 0.5000 | 0.650 0.750 | 0.700 |" in text
    assert "| gaussian_linear | 20 | 0 | 5 | -0.100 -0.100 | -0.100 | +0.0000 | 1.50 |" in text


def test_the_command_line_reaches_the_comparison(tmp_path, judge):
    line = [str(tmp_path), "--tasks", "gaussian_linear", "--budgets", "20", "--seconds", "5", "--seeds", "3"]
    derived_masks.main(line)
    runs = json.loads((tmp_path / "derived_masks.json").read_text())["runs"]
    assert [derived_masks.key_of(run) for run in runs] == [
        ("gaussian_linear", 20, "derived", 3, 5.0),
        ("gaussian_linear", 20, "full", 3, 5.0),
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the time limit of 1 s ended")
def test_two_short_trainings_end_to_end(tmp_path, monkeypatch):
    task = find_task("gaussian_linear")
    monkeypatch.setattr(derived_masks, "find_task", lambda _: replace(task, observed=lambda _: task.observations()[:1]))
    runs = compare(tmp_path, ["gaussian_linear"], [300], 1.0, [0], settings=SMALL, draws=100, progress=False)
    assert [run["mask"] for run in runs] == ["derived", "full"]
    for run in runs:
        assert len(run["c2st"]) == 1
        assert 0.3 < run["c2st_mean"] <= 1
        assert run["c2st_draws"] == 100
        assert run["ended_by"] == "patience" or run["train_seconds"] >= 1.0
        assert run["steps"] > 0
    assert runs[0]["pairs"] < runs[1]["pairs"] == 400
    assert "Derived minus full" in (tmp_path / "derived_masks.md").read_text()
