"""Tiny trainings."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from samples import TINY, mixed, pair, plated
from torch.distributions import Normal

from simgraph import Graph, Traces, compile, node
from simgraph.benchmark.pace import prepare
from simgraph.errors import SimgraphWarning, TrainingError
from simgraph.simformer import Architecture
from simgraph.traces import Column
from simgraph.train import Settings, train
from simgraph.train.gradients import Workers
from simgraph.train.levels import Levels
from simgraph.train.run import Run, Validation, _averaged

COLUMNS = ["step", "seconds", "learning_rate", "training_loss", "validation_loss"]


def tiny(graph, traces=None, count=60, **options):
    settings = dataclasses.replace(TINY, **{k: v for k, v in options.items() if hasattr(TINY, k)})
    others = {k: v for k, v in options.items() if not hasattr(TINY, k)}
    traces = graph.simulate(count, seed=0, progress=False) if traces is None else traces
    return train(compile(graph, traces), traces, settings, progress=False, **others)


def weights(trained):
    return trained.denoiser.state_dict()


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_history_has_a_row_per_evaluation():
    history = tiny(pair()).history
    assert history["step"] == [3, 6, 9, 12]
    assert list(history[0]) == COLUMNS
    assert all(math.isfinite(value) for row in history for value in row.values())
    assert history["seconds"] == sorted(history["seconds"])
    assert history["learning_rate"][-1] < history["learning_rate"][0]


def test_weights_decay_as_the_settings_say():
    strong, none = (tiny(pair(), weight_decay=decay).denoiser.network.matrices() for decay in (50.0, 0.0))
    assert all(float(one.norm()) < 0.5 * float(other.norm()) for one, other in zip(strong, none, strict=True))


def test_training_lowers_the_loss():
    history = tiny(plated(), count=1000, steps=100, batch_size=64, matrix_lr=0.03, vector_lr=0.03).history
    assert history["validation_loss"][-1] < 0.95  # that of an untrained network is 1


@pytest.mark.filterwarnings("ignore:the time limit of 1 s ended")  # on a busy machine
def test_the_limit_of_the_settings_ends_a_training_with_all_its_evaluations_and_a_word_overrides_it():
    history = tiny(pair(), steps=100_000, evaluations=5, patience=100, time_limit=1.0).history
    assert 4 <= len(history) <= 5
    assert history["seconds"][-1] < 10
    settings = dataclasses.replace(TINY, steps=8, time_limit=1e-9)
    traces = pair().simulate(60, seed=0, progress=False)
    run = train(compile(pair(), traces), traces, Settings.of(settings, 1e9), progress=False)
    assert run.history["step"][-1] == 8


def test_averages_reach_back_over_a_share_of_the_steps_whenever_training_ends():
    average, decay = torch.zeros(1), 0.1
    for count in range(400):
        _averaged(decay, [average], [torch.tensor([float(count)])], torch.tensor(count))
    # Weights that grow as n^(1 / share - 1) average to 1 / (1 + share) of the last value.
    assert float(average) == pytest.approx(399 / (1 + decay), rel=0.01)


def test_a_training_moves_its_levels_to_narrow_laws():
    @node
    def fixed():
        return Normal(0.0, 1.0)

    @node
    def nearly(fixed):
        return Normal(fixed, 0.01)

    graph = Graph(fixed, nearly)
    traces = graph.simulate(4000, seed=0, progress=False)
    compiled = compile(graph, traces)
    settings = dataclasses.replace(TINY, steps=150, batch_size=64, architecture=Architecture(16, 2, 2))
    with pytest.MonkeyPatch.context() as patch:
        followed = []
        patch.setattr(Levels, "follow", lambda self, sigma, error: followed.append((sigma, error)))
        train(compiled, traces, settings, progress=False)
    assert len(followed) == settings.evaluations
    sigma, error = followed[-1]
    low, high = (float(error[part].mean()) for part in (sigma < 0.01, sigma > 1))
    # Noise that is far weaker than a law cannot be removed, and far stronger noise can, which is soon learned.
    assert low > 0.8
    assert high < 0.6


def test_training_is_a_function_of_the_seed():
    graph = mixed()
    traces = graph.simulate(60, seed=0, progress=False)
    first, again, other = (tiny(graph, traces, seed=seed) for seed in (3, 3, 4))
    assert same(weights(first), weights(again))
    assert first.history["validation_loss"] == again.history["validation_loss"]
    assert not same(weights(first), weights(other))


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    tiny(pair())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_equal_weights_have_the_same_validation_loss_every_time():
    # Steps too small to show in the loss, with no other change between evaluations.
    history = tiny(pair(), matrix_lr=1e-30, vector_lr=1e-30).history
    assert len(set(history["validation_loss"])) == 1
    assert len(set(history["training_loss"])) > 1


def test_the_returned_weights_are_those_of_the_best_evaluation(monkeypatch):
    means = iter([3.0, 1.0, 2.0, 4.0])
    seen = []

    def judge(self, losses):
        seen.append({name: value.clone() for name, value in self.run.averaged.module.denoiser.state_dict().items()})
        return next(means)

    monkeypatch.setattr(Validation, "mean", judge)
    trained = tiny(pair())
    assert same(weights(trained), seen[1])
    assert not same(weights(trained), seen[3])


def test_training_stops_when_it_no_longer_improves(monkeypatch):
    means = iter([1.0, *[2.0] * 20])
    monkeypatch.setattr(Validation, "mean", lambda self, losses: next(means))
    assert tiny(pair(), steps=20, evaluations=20, patience=3).history["step"] == [1, 2, 3, 4]


def test_a_training_that_time_ends_at_once_is_warned_about():
    with pytest.warns(SimgraphWarning, match="ended training after step 1 of 12: answers are rough"):
        tiny(pair(), time_limit=1e-6)


@pytest.mark.filterwarnings("ignore:the time limit of 0.3 s ended")  # on a busy machine
def test_a_time_limit_ends_training_early_with_an_evaluation():
    history = tiny(pair(), steps=100_000, evaluations=1, time_limit=0.3).history
    assert len(history) == 1
    assert history["step"][0] < 100_000
    assert history["learning_rate"][0] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("interrupted", [2, 8])
def test_an_interrupt_returns_the_best_weights_so_far(monkeypatch, interrupted):
    original, calls = Run.step, []

    def step(self, tokens, workers):
        calls.append(1)
        if len(calls) == interrupted:
            raise KeyboardInterrupt
        return original(self, tokens, workers)

    monkeypatch.setattr(Run, "step", step)
    trained = tiny(pair())
    assert trained.history["step"] == [s for s in (3, 6, 9, 12) if s < interrupted]
    assert all(value.isfinite().all() for value in weights(trained).values())
    # Even before the first evaluation what was learned is kept.
    assert trained.denoiser.network.head.abs().sum() > 0


def test_too_few_traces_are_refused():
    with pytest.raises(TrainingError, match="9 traces are too few to train on"):
        tiny(pair(), count=9)


def test_ten_traces_are_enough():
    assert len(tiny(pair(), count=10).history) == 4


def test_a_loss_that_is_not_finite_from_the_start_is_an_error(monkeypatch):
    monkeypatch.setattr(Run, "step", lambda self, tokens, workers: math.nan)
    with pytest.raises(TrainingError, match="the loss is nan at step 1"):
        tiny(pair())


def test_a_loss_that_stops_being_finite_ends_training_with_the_best_weights(monkeypatch):
    original, calls = Run.step, []

    def step(self, tokens, workers):
        calls.append(1)
        return math.inf if len(calls) == 7 else original(self, tokens, workers)

    monkeypatch.setattr(Run, "step", step)
    assert tiny(pair()).history["step"] == [3, 6]


def test_constant_nodes_train_and_come_back_exactly():
    graph = pair().do(theta=0.7)
    trained = tiny(graph)
    tokenizer = trained.compiled.layout.tokenizers["theta"]
    assert float(tokenizer.detokenize(torch.full((1, 1, 1), 2.0))) == 0.7
    assert math.isfinite(trained.history.best)


def test_missing_values_train():
    graph = plated()
    traces = graph.simulate(80, seed=0, progress=False)
    present = np.random.default_rng(0).random((80, 3)) < 0.6
    spoilt = Column(np.where(present, traces["score"], np.nan), present)
    columns = {"mu": traces["mu"], "effect": traces["effect"], "score": spoilt}
    trained = tiny(graph, Traces(columns, plates=traces.plates))
    assert all(math.isfinite(loss) for loss in trained.history["training_loss"])
    assert all(value.isfinite().all() for value in weights(trained).values())


def test_missing_tokens_are_absent_in_every_question():
    graph = plated()
    traces = graph.simulate(80, seed=0, progress=False)
    present = np.zeros((80, 3), dtype=bool)
    present[:, 0] = True
    spoilt = Column(np.where(present, traces["score"], np.nan), present)
    columns = {"mu": traces["mu"], "effect": traces["effect"], "score": spoilt}
    asked = []
    original = Workers.backward

    def recorded(self, denoiser, batch):
        asked.append(batch[3:5])
        return original(self, denoiser, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workers, "backward", recorded)
        compiled = tiny(graph, Traces(columns, plates=traces.plates)).compiled
    assert asked
    for states, masks in asked:
        assert not states[:, 5:].any()
        assert states[:, 4].any()
        assert torch.equal(masks, compiled.rule.edge_mask(states, 2))


def test_own_queries_are_asked():
    graph = pair()
    traces = graph.simulate(60, seed=0, progress=False)
    compiled = compile(graph, traces)
    query = compiled.states(given=["x"], of=["theta"])
    with_query = train(compiled, traces, TINY, queries=[query], progress=False)
    assert not same(weights(with_query), weights(train(compiled, traces, TINY, progress=False)))


def test_values_of_extreme_size_train():
    @node
    def small():
        return Normal(0.0, 1e-9)

    @node
    def large():
        return Normal(1e9, 1e6)

    trained = tiny(Graph(small, large))
    assert all(abs(loss) < 10 for loss in trained.history["validation_loss"])


def test_the_split_is_kept_apart():
    graph = pair()
    traces = graph.simulate(60, seed=0, progress=False)
    assert tiny(graph, traces, validation=0.25).ranges.count == 45


def test_the_model_that_comes_back_does_not_train_any_more():
    trained = tiny(pair())
    assert not trained.denoiser.training
    assert not any(parameter.requires_grad for parameter in trained.denoiser.parameters())


@pytest.mark.parametrize(("most", "rows"), [(70, 10), (2**19, 8 * 20)])
def test_long_graphs_are_validated_on_fewer_rows(most, rows, monkeypatch):
    monkeypatch.setattr("simgraph.train.run._VALIDATION_TOKENS", most)
    graph = plated()  # 7 tokens
    traces = graph.simulate(20, seed=0, progress=False)
    run, tokens = prepare(compile(graph, traces), traces, TINY, 0)
    assert len(Validation(run, tokens, torch.Generator().manual_seed(0)).batch) == rows
