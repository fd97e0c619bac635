import json
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest

from simgraph.benchmark import calibration, methods, run, summary
from simgraph.benchmark.pictures import plot_draws, plot_scores
from simgraph.benchmark.plan import Plan
from simgraph.benchmark.run import benchmark
from simgraph.benchmark.summary import report
from simgraph.errors import DeclarationError, FileFormatError, MissingExtraError, TrainingError

RNG = np.random.default_rng(0)


@pytest.fixture
def judge(monkeypatch):
    """Stands for the trainings: notes what was trained, and breaks off when told so."""

    def trained(self, task, method, num_simulations, seed):
        if len(judged.calls) == judged.fail_at:
            judged.fail_at = None
            raise KeyboardInterrupt
        judged.calls.append((task.name, num_simulations, seed) if method == "simgraph" else (task.name, method))
        return num_simulations

    def judged(task, method, training, seed, plan, progress):
        score = 0.5 + 100 / training + 0.01 * seed
        stages = {f"{stage}_seconds": 1.5 for stage in ("simulate", "train", "train_cpu", "sample", "judge")}
        figures = {
            "c2st": {"rf": [score + 0.01, score - 0.01]},
            "c2st_mean": {"rf": score},
            "mmd": [0.1, 0.1],
            "mmd_mean": 0.1,
            "validation_loss": 0.5,
            "steps": 30,
            "ended_by": "steps",
            "tokens": 4,
        }
        return figures | stages, RNG.normal(size=(plan.draws, 2))

    def scores(pairs, plan, progress):
        judged.floors += 1
        return {name: [0.49, 0.51] for name in plan.classifiers}

    judged.calls, judged.fail_at, judged.floors = [], None, 0
    monkeypatch.setattr(run, "_scores", scores)
    monkeypatch.setattr(run.Trainings, "_train", trained)
    monkeypatch.setattr(run, "judged", judged)
    return judged


SMALL = Plan(questions=2, draws=50)


def test_runs_go_from_small_budgets_to_large_ones_and_are_all_kept(tmp_path, judge, capsys, monkeypatch):
    monkeypatch.setattr(run, "summarise", lambda *_: None)
    monkeypatch.setattr(run, "save", lambda *_: None)
    runs = benchmark(["two_moons", "sir"], [1_000, 500], range(2), tmp_path, SMALL)
    assert judge.calls == [
        (task, budget, seed) for budget in (500, 1_000) for seed in (0, 1) for task in ("two_moons", "sir")
    ]
    assert json.loads((tmp_path / "benchmark.json").read_text())["runs"] == runs
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[0].startswith(
        "two_moons, 500 simulations, simgraph, seed 0: C2ST (rf) 0.700, floor 0.500, squared MMD 0.1000;"
    )


def test_an_interrupted_benchmark_goes_on_where_it_stopped(tmp_path, judge, monkeypatch):
    monkeypatch.setattr(run, "summarise", lambda *_: None)
    judge.fail_at = 1
    with pytest.raises(KeyboardInterrupt):
        benchmark(["two_moons"], [500], range(2), tmp_path, SMALL)
    assert len(json.loads((tmp_path / "benchmark.json").read_text())["runs"]) == 1
    runs = benchmark(["two_moons"], [500], range(2), tmp_path, SMALL)
    assert [call[2] for call in judge.calls] == [0, 1]
    assert benchmark(["two_moons"], [500], range(2), tmp_path, SMALL) == runs
    assert len(judge.calls) == 2
    # Another plan is another run.
    assert len(benchmark(["two_moons"], [500], [0], tmp_path, replace(SMALL, preset="fast"))) == 3
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_report_has_a_row_for_all_seeds_and_shows_the_pictures(tmp_path, judge):
    benchmark(["two_moons"], [500, 1_000], range(2), tmp_path, SMALL)
    text = (tmp_path / "benchmark.md").read_text()
    # The questions have 0.715 and 0.695 over the seeds: their mean has the standard error 0.010.
    assert (
        "| two_moons | 500 | simgraph (default) | 2 | 2, 50 | 0.705 ± 0.010, 0.500 | - | 0.1000 | - | - | - | 1.5 |"
        in text
    )
    for name in ("c2st_by_budget.png", "c2st_by_seconds.png", "draws_two_moons.png"):
        assert f"]({name})" in text
        picture = (tmp_path / name).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 300_000


def test_a_time_limit_is_shown(tmp_path, judge):
    runs = benchmark(["sir"], [500], [0], tmp_path, replace(SMALL, time_limit=60.0))
    assert "| sir | 500 | simgraph (default, 60 s) | 1 | 2, 50 | 0.700 ± 0.010," in report(runs)


def test_another_method_comes_directly_after(tmp_path, judge, monkeypatch):
    monkeypatch.setattr(run, "check_method", lambda *_: None)
    runs = benchmark(["sir", "two_moons"], [500], [0], tmp_path, SMALL, against=["npe"])
    assert judge.calls == [("sir", 500, 0), ("sir", "npe"), ("two_moons", 500, 0), ("two_moons", "npe")]
    assert [entry["method"] for entry in runs] == ["simgraph", "npe"] * 2
    assert "| sir | 500 | npe | 1 |" in report(runs)


def test_a_method_runs_without_the_plain_training(tmp_path, judge):
    runs = benchmark(["sir"], [500], [0], tmp_path, SMALL, against=["redrawn"], alone=True)
    assert judge.calls == [("sir", "redrawn")]
    assert [entry["method"] for entry in runs] == ["redrawn"]


def test_exact_answers_share_the_training(tmp_path, judge):
    runs = benchmark(["sir"], [500], [0], tmp_path, SMALL, against=["exact"])
    assert judge.calls == [("sir", 500, 0)]
    assert [entry["method"] for entry in runs] == ["simgraph", "exact"]
    assert "| sir | 500 | simgraph (default, exact=True) | 1 |" in report(runs)


def test_tasks_about_one_graph_share_a_training(tmp_path, judge):
    benchmark(["slcp", "slcp_conditionals"], [500, 600], [0], tmp_path, SMALL)
    assert judge.calls == [("slcp", 500, 0), ("slcp", 600, 0)]


def test_the_floor_is_measured_once_for_a_task(tmp_path, judge):
    runs = benchmark(["gaussian_mixture"], [500, 600], range(2), tmp_path, SMALL)
    assert judge.floors == 1
    assert [entry["floor"] for entry in runs] == [{"rf": 0.5}] * 4
    benchmark(["gaussian_mixture"], [500], [0], tmp_path, replace(SMALL, draws=60))
    assert judge.floors == 2


def test_npe_is_refused_where_it_cannot_answer_or_is_not_installed(tmp_path, judge, monkeypatch):
    with pytest.raises(DeclarationError, match="NPE learns one posterior"):
        benchmark(["tree_conditionals"], [500], [0], tmp_path, SMALL, against=["npe"])
    monkeypatch.setattr(methods.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="peers"):
        benchmark(["sir"], [500], [0], tmp_path, SMALL, against=["npe"])
    assert not judge.calls


def test_training_posteriors_most_is_refused_where_any_conditional_is_asked(tmp_path, judge):
    with pytest.raises(DeclarationError, match="'tree_conditionals' asks for other conditionals"):
        benchmark(["tree_conditionals"], [500], [0], tmp_path, SMALL, against=["focused"])
    assert not judge.calls


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the time limit")
@pytest.mark.filterwarnings("ignore:redraw= drew nothing anew")  # in a second
def test_a_training_asks_for_the_posterior_most_and_draws_data_anew(tmp_path, monkeypatch):
    fit = Mock(wraps=methods.fit)
    monkeypatch.setattr(methods, "fit", fit)
    monkeypatch.setattr(calibration, "TRACES", 5)
    plan = Plan(preset="fast", time_limit=1.0, questions=1, draws=100)
    runs = benchmark(["bernoulli_glm"], [200], [0], tmp_path, plan, against=["focused", "redrawn"], progress=False)
    asked = [(call.kwargs.get("queries"), call.kwargs.get("redraw")) for call in fit.call_args_list]
    posterior = [{"given": ["x"], "of": ["offset", "filter"]}]
    assert asked == [(None, None), (posterior, None), (posterior, ["x"])]
    assert [entry["method"] for entry in runs] == ["simgraph", "focused", "redrawn"]
    assert "| simgraph (fast, 1 s, half on posteriors) |" in report(runs)
    assert "| simgraph (fast, 1 s, half on posteriors, redrawn) |" in report(runs)


def test_draws_are_pictured_for_the_largest_budget(tmp_path, judge):
    benchmark(["sir"], [1_000], [0], tmp_path, SMALL)
    before = (tmp_path / "draws_sir.png").stat().st_mtime_ns
    benchmark(["sir"], [500], [0], tmp_path, SMALL)
    assert (tmp_path / "draws_sir.png").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ["two_mons"]}, "'two_mons' is no task of the benchmark.\n  Did you mean 'two_moons'?"),
        ({"budgets": [0]}, "a number of simulations below 1"),
        ({"alone": True}, "needs a task, a method, a budget and a seed at least"),
        ({"seeds": []}, "needs a task, a method, a budget and a seed at least"),
        ({"plan": Plan(questions=6)}, "'sir' has 5 questions, not 6"),
        ({"plan": Plan(draws=3_000)}, "'sir' has 5000 reference draws for each observation; that is not enough for 2"),
        (
            {"names": ["two_moons"], "against": ["exact"]},
            "exact answers need densities; task 'two_moons' has black boxes: x.",
        ),
        ({"against": ["nep"]}, "against='nep' is no method.\n  Did you mean 'npe'?"),
    ],
)
def test_what_cannot_be_run_is_refused_before_the_first_training(tmp_path, judge, arguments, message):
    with pytest.raises(DeclarationError) as caught:
        benchmark(**{"names": ["sir"], "budgets": [500], "seeds": [0], "folder": tmp_path, "plan": SMALL} | arguments)
    assert message in str(caught.value)
    assert not judge.calls


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"classifiers": ("rf", "svm")}, "choose of 'rf' and 'mlp'"),
        ({"preset": "fats"}, "Did you mean 'fast'"),
        ({"time_limit": 0}, "no positive number of seconds"),
        ({"questions": 0}, "questions=0"),
        ({"draws": 1}, "draws=1 is too few"),
    ],
)
def test_plans_check_themselves(option, message):
    with pytest.raises(DeclarationError, match=message):
        Plan(**option)


def test_a_foreign_file_is_not_written_over(tmp_path, judge):
    (tmp_path / "benchmark.json").write_text("[1, 2")
    with pytest.raises(FileFormatError, match="holds no runs of the benchmark"):
        benchmark(["sir"], [500], [0], tmp_path, SMALL)
    assert (tmp_path / "benchmark.json").read_text() == "[1, 2"


@pytest.mark.filterwarnings("ignore:the time limit of 0.3 s ended")
def test_an_interrupted_training_is_not_kept(tmp_path, monkeypatch):
    def stopped(*_):
        raise TrainingError("the training was interrupted or broke off; its run is not kept.")

    monkeypatch.setattr(methods, "end_of", stopped)
    with pytest.raises(TrainingError):
        benchmark(
            ["gaussian_mixture"], [100], [0], tmp_path, replace(SMALL, preset="fast", time_limit=0.3), progress=False
        )
    assert not (tmp_path / "benchmark.json").exists()


def test_pictures_of_draws_show_all_numbers_in_pairs():
    for dimensions, panels in ((2, 1), (5, 3), (10, 5)):
        draws = RNG.normal(size=(30, dimensions))
        figure = plot_draws(draws, draws, "title")
        assert len(figure.axes) == 2 * panels
        assert figure.axes[2 * panels - 1].get_ylabel() == f"number {dimensions}"


def test_pictures_of_scores_join_the_means():
    panels = {"sir": {"npe": [(500, 0.7), (500, 0.8), (1_000, 0.6)]}, "hmm": {"simgraph": [(500, 0.6)]}}
    figure = plot_scores(panels, "simulations")
    assert [panel.get_title() for panel in figure.axes] == ["hmm", "sir"]
    means, points = figure.axes[1].lines[:2]
    assert points.get_ydata().tolist() == [0.7, 0.8, 0.6]
    assert means.get_ydata().tolist() == pytest.approx([0.75, 0.6])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["npe", "simgraph"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the time limit of 1 s ended")
def test_a_short_benchmark_end_to_end(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(calibration, "TRACES", 5)
    plan = Plan(preset="fast", time_limit=1.0, questions=1, draws=100)
    [found] = benchmark(["bernoulli_glm"], [200], [3], tmp_path, plan, progress=False)
    assert 0.3 < found["floor"]["rf"] < 0.7
    assert 0.3 < found["c2st_mean"]["rf"] <= 1
    assert len(found["c2st"]["rf"]) == len(found["mmd"]) == 1
    assert found["seed"] == 3
    assert found["tokens"] == 20
    assert found["ended_by"] in ("time", "patience")
    assert set(found["coverage"]) == {"0.5", "0.9"}
    assert np.isfinite(found["log_score"]["found"]).all()
    assert " | {:.3f} ± {:.3f} | ".format(*found["coverage"]["0.9"]) in (tmp_path / "benchmark.md").read_text()
    assert all(found[f"{stage}_seconds"] > 0 for stage in ("simulate", "train", "sample", "judge"))
    assert "bernoulli_glm, 200 simulations, simgraph, seed 3: C2ST" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {
        "benchmark.json",
        "benchmark.md",
        "c2st_by_budget.png",
        "c2st_by_seconds.png",
        "draws_bernoulli_glm.png",
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the time limit of 1 s ended")
def test_conditionals_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "TRACES", 5)
    plan = Plan(preset="fast", time_limit=1.0, classifiers=("rf", "mlp"), questions=5, draws=40)
    [found] = benchmark(["slcp_conditionals"], [200], [0], tmp_path, plan, progress=False)
    assert all(len(found["c2st"][name]) == 5 for name in ("rf", "mlp"))
    assert 0 < found["coverage"]["0.9"][0] <= 1
    assert "log_score" not in found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of sbi
def test_npe_learns_from_the_same_traces(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "TRACES", 5)
    pytest.importorskip("sbi")
    plan = Plan(preset="fast", time_limit=1.0, questions=1, draws=100)
    ours, theirs = benchmark(["sir"], [200], [0], tmp_path, plan, against=["npe"], progress=False)
    assert (ours["method"], theirs["method"]) == ("simgraph", "npe")
    assert 0.3 < theirs["c2st_mean"]["rf"] <= 1
    assert theirs["train_seconds"] > 0
    for found in (ours, theirs):
        assert np.isfinite(found["log_score"]["found"]).all()


def test_a_line_of_the_pictures_joins_what_was_asked_alike(tmp_path, monkeypatch):
    def a(method, num_simulations, classifiers=("rf",), **plan):
        own = dict.fromkeys(("preset", "time_limit")) if method == "npe" else {"preset": "default", "time_limit": 345.0}
        asked = {"questions": None, "draws": 2500, "classifiers": list(classifiers)} | own | plan
        scores = {"c2st_mean": dict.fromkeys(classifiers, 0.6), "train_seconds": 1.0}
        return {"task": "slcp", "method": method, "num_simulations": num_simulations} | asked | scores

    def lines_of(*runs, picture=0):
        found = []
        monkeypatch.setattr(summary, "plot_scores", lambda panels, _: found.append(panels["slcp"]))
        summary.summarise(tmp_path, runs)
        return {name: len(points) for name, points in found[picture].items()}

    monkeypatch.setattr(summary, "save", lambda *_: None)
    monkeypatch.setattr(summary, "report", lambda *_: "")
    ours = a("simgraph", 1_000), a("simgraph", 10_000, ("rf", "mlp"))
    assert lines_of(*ours) == {"simgraph": 2}
    assert lines_of(*ours, a("npe", 1_000)) == {"simgraph": 2, "npe": 1}
    assert set(lines_of(*ours, a("simgraph", 1_000, ("mlp",)))) == {
        "simgraph, classifiers rf",
        "simgraph, classifiers mlp",
    }
    shorter = *ours, a("simgraph", 10_000, time_limit=60.0)
    assert set(lines_of(*shorter)) == {"simgraph, time limit 345.0", "simgraph, time limit 60.0"}
    # Against seconds, trainings of different lengths are one line, and budgets are lines of their own.
    by_seconds = lines_of(*shorter, picture=1)
    assert by_seconds == {"simgraph, simulations 1000": 1, "simgraph, simulations 10000": 2}
    assert set(lines_of(*ours, a("simgraph", 1_000, questions=3))) == {"simgraph", "simgraph, questions 3"}
