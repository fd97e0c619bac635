"""Coverage and log scores: right answers pass, wrong ones are told by as much as they are wrong."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch.distributions import Normal

from simgraph import Graph, node
from simgraph.benchmark import calibration
from simgraph.benchmark.calibration import coverage, fresh, log_scores
from simgraph.benchmark.conditionals import Conditionals
from simgraph.benchmark.learned import Learned
from simgraph.benchmark.tasks import find_task
from simgraph.errors import DeclarationError

CLOSED_FORMS = ("gaussian_linear", "gaussian_linear_uniform", "gaussian_mixture")


def right(task, widening=1.0):
    """Answers by the exact posterior, whose draws are moved away from their mean."""

    def answer(question, count, seed):
        draws = task.exact(question.evidence["x"], count, 1_000 + seed)
        return draws.mean(0) + widening * (draws - draws.mean(0))

    return answer


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_right_answers_cover_as_often_as_they_say(name):
    task = find_task(name)
    found = coverage(task, right(task), fresh(task, 200))
    for share, (mean, error) in found.items():
        assert abs(mean - float(share)) < 3 * error
        assert 0 < error < 0.04


@pytest.mark.parametrize(("widening", "sign"), [(0.7, -1), (1.5, 1)])
def test_narrow_answers_cover_too_little_and_wide_ones_too_much(widening, sign):
    task = find_task("gaussian_linear")
    for share, (mean, error) in coverage(task, right(task, widening), fresh(task, 200)).items():
        assert sign * (mean - float(share)) > 5 * error


def test_ranks_are_counted_exactly():
    # All truths have one rank among the 39 draws: 9 is below the middle half of forty, 10 in it.
    task = find_task("gaussian_linear")
    traces = fresh(task, 20)

    def ranked(below):
        def answer(question, count, seed):
            assert count == 39
            return np.repeat([traces["theta"][seed] - 1, traces["theta"][seed] + 1], [below, count - below], 0)

        return {share: mean for share, (mean, _) in coverage(task, answer, traces).items()}

    for below, expected in [
        (9, (0, 1)),
        (10, (1, 1)),
        (29, (1, 1)),
        (30, (0, 1)),
        (2, (0, 1)),
        (1, (0, 0)),
        (38, (0, 0)),
    ]:
        assert ranked(below) == dict(zip(("0.5", "0.9"), expected, strict=True))


@node
def a():
    return Normal(torch.zeros(()), 1.0)


@node
def b(a):
    return Normal(a, 1.0)


def test_conditionals_are_asked_about_what_is_left():
    task = Conditionals("pair", Graph(a, b), ("a",), draws=None, questions=1)
    asked = set()

    def answer(question, count, seed):
        rng, given = (
            np.random.default_rng(seed),
            {name: float(value.values) for name, value in question.evidence.items()},
        )
        asked.add((tuple(given), tuple(question.latent)))
        values = {}
        for name, prior_sd in (("a", 1.0), ("b", 2**0.5)):
            other = "b" if name == "a" else "a"
            if other in given:
                centre, sd = (given["b"] / 2, 0.5**0.5) if name == "a" else (given["a"], 1.0)
            else:
                centre, sd = 0.0, prior_sd
            values[name] = centre + sd * rng.normal(size=count)
        return question.columns(values)

    for share, (mean, error) in coverage(task, answer, fresh(task, 200)).items():
        assert abs(mean - float(share)) < 3 * error
    assert asked == {((), ("a", "b")), (("b",), ("a",)), (("a",), ("b",))}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_scores_tell_how_much_is_lost(name):
    task = find_task(name)
    traces = fresh(task, 200)

    def exact(data, parameters):
        return task.log_prob(parameters["theta"], data["x"])

    scores = log_scores(task, exact, traces)
    assert scores["lost"] == [0.0, 0.0]
    assert scores["found"][0] == pytest.approx(task.log_prob(traces["theta"], traces["x"]).mean())
    assert log_scores(task, lambda *both: exact(*both) - 0.5, traces)["lost"] == pytest.approx([0.5, 0.0])

    def blind(data, parameters):
        found = exact(data, parameters)
        found[[3, 5]] = -np.inf
        return found

    assert log_scores(task, blind, traces)["ruled_out"] == 2
    assert np.isfinite(log_scores(task, blind, traces)["found"]).all()


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms_are_the_graph_s_own_density_up_to_a_constant(name):
    task = find_task(name)
    traces, count = fresh(task, 3), 50
    for x in traces["x"]:
        theta = task.exact(x, count, 1)
        values = {"theta": theta, "x": np.repeat(x[None], count, 0)}
        if "c" in task.graph:
            each = [task.graph.log_prob({**values, "c": np.full(count, category)}) for category in (0, 1)]
            joint = logsumexp(np.stack(each), 0)
        else:
            joint = np.asarray(task.graph.log_prob(values))
        difference = task.log_prob(theta, values["x"]) - joint
        assert np.ptp(difference) < 1e-3
        assert np.ptp(joint) > 1


@pytest.mark.parametrize("centre", [[0.3, -4.0], [9.95, -10.4]])
def test_the_mixture_s_density_has_mass_one(centre):
    # Trapezoids in coordinates that crowd around the observation, where the narrow part lies.
    task, line = find_task("gaussian_mixture"), np.sinh(np.linspace(-6, 6, 1201)) / 40
    axes = [np.unique(np.clip(middle + line, -10, 10)) for middle in centre]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    density = np.exp(task.log_prob(grid.reshape(-1, 2), np.array([centre]))).reshape(grid.shape[:2])
    mass = np.trapezoid(np.trapezoid(density, axes[1], axis=1), axes[0])
    assert mass == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("name", "end"), [("gaussian_linear", 3), ("gaussian_linear_uniform", 1)])
def test_densities_have_mass_one_in_each_number(name, end):
    line = np.linspace(-end, end, 8001)
    log_prob = find_task(name).log_prob
    for centre in (-1.8, 0.1, 1.2):
        assert np.trapezoid(np.exp(log_prob(line[:, None], np.array([[centre]]))), line) == pytest.approx(1, abs=1e-5)


def test_methods_that_take_long_are_left_out(monkeypatch):
    monkeypatch.setattr(calibration, "TRACES", 10)
    task = find_task("gaussian_linear")
    learned = Learned({"quick": right(task), "slow": right(task)}, {"quick": lambda data, _: np.zeros(10)}, {})
    found = calibration.calibration(task, learned, "quick")
    assert set(found) == {"coverage", "log_score", "calibrate_seconds"}
    assert found["log_score"]["found"] == [0.0, 0.0]
    assert calibration.calibration(task, learned, "slow") == {}


def test_answers_to_fresh_traces_have_no_right_draws():
    task = find_task("slcp")
    traces = task.graph.simulate(2, seed=0, progress=False)
    question = task.about({name: traces[name][1] for name in traces}, 1)
    assert np.array_equal(question.evidence["x"], traces["x"][1])
    with pytest.raises(DeclarationError, match="no right draws are known"):
        question.reference(1, 0)
