"""Shapes, types, marginals and determinism of answers; their accuracy is tested in test_accuracy.py."""

import numpy as np
import pytest
import torch

import simgraph as sg
from simgraph.errors import QueryError, UnknownNameError


def test_one_name_gives_a_tensor_and_several_give_samples(gaussian_model):
    query = gaussian_model.given(x=[0.1, 0.2])
    assert query.sample("theta", num_samples=5).shape == (5, 2)
    assert isinstance(query.sample(["theta"], num_samples=5), sg.Samples)
    assert list(gaussian_model.sample(num_samples=5)) == ["theta", "x"]
    assert list(gaussian_model.sample("x", "theta", num_samples=5)) == ["x", "theta"]


def test_no_name_means_all_that_is_not_given(gaussian_model):
    assert list(gaussian_model.given(x=[0.1, 0.2]).sample(num_samples=3)) == ["theta"]


def test_batches_keep_their_axis_even_a_batch_of_one(gaussian_model):
    assert gaussian_model.given(x=np.zeros((4, 2))).sample("theta", num_samples=5).shape == (4, 5, 2)
    assert gaussian_model.given(x=np.zeros((1, 2))).sample("theta", num_samples=5).shape == (1, 5, 2)


def test_unbatched_evidence_is_shared_over_the_rows(mixed_model):
    samples = mixed_model.given(count=[10, 20], width=1.5).sample("place", "label", num_samples=4)
    assert samples["place"].shape == (2, 4)
    assert samples["label"].shape == (2, 4, 3)
    assert samples.batched
    assert samples.num_samples == 4


def test_node_objects_work_wherever_names_do(gaussian_model):
    nodes = gaussian_model.graph
    by_node = gaussian_model.given({nodes["x"]: [0.1, 0.2]}).sample(nodes["theta"], num_samples=5, seed=1)
    by_name = gaussian_model.given(x=[0.1, 0.2]).sample("theta", num_samples=5, seed=1)
    assert torch.equal(by_node, by_name)


def test_given_can_be_chained(mixed_model):
    together = mixed_model.given(count=10, width=1.5).sample("place", num_samples=5, seed=2)
    chained = mixed_model.given(count=10).given(width=1.5).sample("place", num_samples=5, seed=2)
    assert torch.equal(together, chained)


def test_a_seed_fixes_the_draws_and_no_seed_does_not(gaussian_model):
    draw = lambda seed: gaussian_model.sample("x", num_samples=20, seed=seed)  # noqa: E731
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert not torch.equal(draw(None), draw(None))


def test_sampling_leaves_the_global_random_state_alone(gaussian_model):
    before = torch.random.get_rng_state()
    gaussian_model.sample(num_samples=5)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_row_of_a_batch_does_not_depend_on_the_other_rows(gaussian_model):
    # The noise of row 0 is the same; only the other row's evidence differs.
    first = gaussian_model.given(x=[[0.3, 0.1], [5e-1, 0.0]]).sample("theta", num_samples=6, seed=3)
    second = gaussian_model.given(x=[[0.3, 0.1], [-1.0, 1.0]]).sample("theta", num_samples=6, seed=3)
    assert torch.allclose(first[0], second[0], atol=1e-5)
    assert not torch.allclose(first[1], second[1], atol=1e-4)


def test_only_what_bears_on_the_answer_is_in_the_sequence(mixed_model, monkeypatch):
    seen = []
    forward = type(mixed_model._trained.denoiser).forward

    def spy(self, x, *arguments, **options):
        seen.append(x.shape[1])
        return forward(self, x, *arguments, **options)

    monkeypatch.setattr(type(mixed_model._trained.denoiser), "forward", spy)
    mixed_model.given(count=10).sample("place", num_samples=2)
    assert set(seen) == {3}  # count, place, and width, which place is drawn from
    seen.clear()
    mixed_model.given(place=0.5).sample("count", num_samples=2)
    assert set(seen) == {2}


def test_draws_never_leave_the_support(mixed_model):
    samples = mixed_model.sample(num_samples=4000, seed=0)
    assert torch.allclose(samples["shares"].sum(-1), torch.ones(4000), atol=1e-5)
    assert (samples["shares"] >= 0).all()
    assert ((samples["width"] > 1) & (samples["width"] < 2)).all()
    # Uniform(0, width) has the hull (0, 2).
    assert ((samples["place"] > 0) & (samples["place"] < 2)).all()
    assert samples["label"].dtype == torch.int64
    assert set(samples["label"].unique().tolist()) <= {0, 1, 2}
    assert samples["count"].dtype == torch.int64
    assert (samples["count"] >= 0).all()
    assert all(torch.isfinite(value).all() for value in samples.values())


def test_every_node_can_be_given(mixed_model):
    traces = mixed_model.graph.simulate(1, seed=5)
    for name in traces:
        query = mixed_model.given({name: traces[name][0]})
        samples = query.sample(num_samples=3)
        assert name not in samples
        assert len(samples) == len(traces) - 1


def test_missing_entries_are_drawn_and_given_ones_come_back_as_given(mixed_model):
    evidence = sg.missing([0.5, np.nan, -1.25])
    levels = mixed_model.given(level=evidence).sample("level", num_samples=50, seed=1)
    assert (levels[:, 0] == 0.5).all()
    assert (levels[:, 2] == -1.25).all()
    assert levels[:, 1].std() > 0


def test_missing_entries_are_absent_when_the_node_is_not_asked_for(gaussian_model):
    some = gaussian_model.given(x=sg.missing([0.3, np.nan])).sample("theta", num_samples=5, seed=1)
    other = gaussian_model.given(x=sg.missing([0.3, 77.0], mask=[False, True])).sample("theta", num_samples=5, seed=1)
    assert torch.equal(some, other)


def test_rows_may_miss_different_entries(gaussian_model):
    rows = sg.missing([[0.3, np.nan], [np.nan, 0.2], [0.1, 0.1]])
    assert gaussian_model.given(x=rows).sample("theta", num_samples=4).shape == (3, 4, 2)


def test_the_cached_form_answers_alike_and_encodes_evidence_once(cached_model, monkeypatch):
    denoiser = cached_model._trained.denoiser
    calls = []
    remember = type(denoiser).remember
    monkeypatch.setattr(type(denoiser), "remember", lambda self, *a: calls.append(len(a[0])) or remember(self, *a))
    quick = cached_model.given(x=[[0.1, 0.2], [0.5, 0.1]]).sample("theta", num_samples=3, seed=1)
    one = cached_model.given(x=[0.1, 0.2]).sample("theta", num_samples=30, seed=1)
    assert sum(calls) == 3  # each piece of evidence once, however many draws and chunks
    # A missing entry in another row forbids it.
    rows = sg.missing([[0.1, 0.2], [0.5, 0.1], [np.nan, 0.0]])
    slow = cached_model.given(x=rows).sample("theta", "x", num_samples=3, seed=1)["theta"]
    assert sum(calls) == 3
    assert slow.shape == (3, 3, 2)
    # Without the memory the same network gives the same numbers.
    monkeypatch.setattr(denoiser.network, "timeless", False)
    again = cached_model.given(x=[[0.1, 0.2], [0.5, 0.1]]).sample("theta", num_samples=3, seed=1)
    assert torch.allclose(quick, again, rtol=1e-3, atol=1e-4)
    again = cached_model.given(x=[0.1, 0.2]).sample("theta", num_samples=30, seed=1)
    assert torch.allclose(one, again, rtol=1e-3, atol=1e-4)
    assert sum(calls) == 3


def test_draws_of_one_piece_of_evidence_share_where_the_flow_starts(gaussian_model, monkeypatch):
    draw = lambda: gaussian_model.given(x=[0.1, 0.2]).sample("theta", num_samples=300, seed=4)  # noqa: E731
    denoiser, rows = gaussian_model._trained.denoiser, []
    forward = type(denoiser).forward
    monkeypatch.setattr(type(denoiser), "forward", lambda self, x, *a: rows.append(len(x)) or forward(self, x, *a))
    shared = draw()
    chunks = rows.count(1)
    assert chunks >= 1
    assert sum(rows) == chunks + sg.Multistep().levels * 300
    monkeypatch.setattr("simgraph.query.problem.Problem.centre", lambda *_: None)
    assert torch.allclose(draw(), shared, rtol=1e-3, atol=1e-4)


def test_chunks_do_not_change_with_the_number_of_processors(gaussian_model, monkeypatch):
    draw = lambda: gaussian_model.given(x=[0.1, 0.2]).sample("theta", num_samples=3000, seed=4)  # noqa: E731
    both = draw()
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert torch.equal(draw(), both)


@pytest.mark.parametrize("sampler", [sg.Heun(evaluations=9), sg.Multistep(evaluations=9)])
def test_samplers_can_be_chosen(gaussian_model, sampler):
    assert gaussian_model.sample("x", num_samples=3, sampler=sampler).shape == (3, 2)


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda m: m.given(y=1.0), UnknownNameError, "'y' is not a variable of this model."),
        (lambda m: m.sample("thet"), UnknownNameError, "Did you mean 'theta'? Known names: theta, x."),
        (lambda m: m.given(x=[0.0, 0.0]).sample("x"), QueryError, "'x' is both given and asked for."),
        (lambda m: m.given({"x": [0.0, 0.0]}, x=[0.0, 0.0]), QueryError, "'x' is given twice."),
        (lambda m: m.given(x=[0.0, 0.0]).given(x=[0.0, 0.0]), QueryError, "'x' is given twice."),
        (lambda m: m.given(x=[0, 0], theta=[0, 0]).sample(), QueryError, "nothing is left to sample."),
        (lambda m: m.given([0.0, 0.0]), QueryError, "given(...) takes mappings from names to values"),
        (lambda m: m.sample("x", num_samples=0), QueryError, "num_samples=0 is not a whole number of 1 or more."),
        (lambda m: m.sample("x", sampler="heun"), QueryError, "sampler='heun' is no sampler."),
        (lambda m: m.sample("x", 3), QueryError, "The number of draws is an option: sample('theta', num_samples=500)"),
        (lambda m: m.sample("theta", given={"x": 0}), QueryError, "Evidence comes first: model.given(x=...)"),
        (lambda m: m.given(num_samples=5), QueryError, "is no variable but an option of sample(...)"),
    ],
)
def test_wrong_questions_are_refused_by_name(gaussian_model, ask, error, message):
    with pytest.raises(error) as caught:
        ask(gaussian_model)
    assert message in str(caught.value)


def test_repr_says_what_is_given_and_what_can_be_asked(gaussian_model):
    assert repr(gaussian_model.given(x=[0.0, 0.0])) == "<Query given x; can be asked for theta>"
    assert "theta[2], x[2]: 360 traces" in repr(gaussian_model)
