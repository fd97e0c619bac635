"""Settings and presets."""

from dataclasses import replace

import pytest

from simgraph.compile.compiled import default_depth
from simgraph.errors import DeclarationError
from simgraph.simformer import Architecture
from simgraph.train import PRESETS, Settings


def test_presets_are_known_by_name_and_settings_pass_through():
    assert Settings.of("fast") is PRESETS["fast"]
    own = Settings(steps=3)
    assert Settings.of(own) is own


def test_presets_can_be_changed():
    own = Settings.of("fast", 7.0, steps=5, scores=False)
    assert own == replace(PRESETS["fast"], steps=5, scores=False, time_limit=7.0)
    with pytest.raises(DeclarationError, match=r"settings have no 'stepps'\.\n  Did you mean 'steps'\?"):
        Settings.of("fast", stepps=5)
    with pytest.raises(DeclarationError, match="steps=0 is not a whole number of 1 or more"):
        Settings.of("fast", steps=0)


def test_the_default_preset_is_the_default():
    assert replace(Settings.of("default"), time_limit=None) == Settings()


def test_presets_keep_to_the_time_that_is_said_of_them():
    fast, default, thorough = (PRESETS[name] for name in ("fast", "default", "thorough"))
    assert fast.steps * fast.batch_for(5) < default.steps * default.batch_for(5)
    assert default.steps < thorough.steps
    assert default.time_limit < 6 * 60
    assert thorough.time_limit < 45 * 60
    assert thorough.architecture_for(20).width > default.architecture_for(20).width
    assert thorough.architecture_for(200) == default.architecture_for(200)


def test_graphs_of_more_tokens_get_smaller_batches_unless_a_size_is_set():
    sizes = [Settings().batch_for(tokens) for tokens in (1, 10, 30, 100, 10_000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1] >= 1
    assert {Settings(batch_size=7).batch_for(tokens, scored=True) for tokens in (1, 10_000)} == {7}


def test_less_noisy_targets_get_batches_of_half_the_size():
    for tokens in (1, 10, 30):
        assert Settings().batch_for(tokens, scored=True) == Settings().batch_for(tokens) // 2
    assert Settings().batch_for(10_000, scored=True) == Settings().batch_for(10_000)


def test_graphs_of_many_tokens_get_a_smaller_network_unless_one_is_set():
    few, many = (Settings().architecture_for(tokens) for tokens in (32, 33))
    assert few == Architecture()
    assert (many.width, many.depth) < (few.width, few.depth)
    for tokens, architecture in ((32, few), (33, many)):
        assert default_depth(tokens) == architecture.depth  # that of masks that are drawn and explained
    own = Architecture(width=8, depth=1)
    assert Settings(architecture=own).architecture_for(1000) is own


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", 2.5),
        ("batch_size", True),
        ("evaluations", -1),
        ("patience", 0),
        ("matrix_lr", 0.0),
        ("matrix_lr", "a"),
        ("warmup", "a"),
        ("noise", 3),
        ("architecture", 5),
        ("vector_lr", float("nan")),
        ("clip", -1.0),
        ("weight_decay", -0.1),
        ("weight_decay", float("nan")),
        ("weight_decay", 100.0),
        ("time_limit", 0),
        ("time_limit", "1m"),
        ("time_limit", True),
        ("validation", 1.0),
        ("warmup", -0.1),
    ],
)
def test_settings_that_cannot_train_are_refused_by_name(name, value):
    with pytest.raises(DeclarationError, match=f"{name}=.* is not a "):
        Settings(**{name: value})


@pytest.mark.parametrize("wrong", ["fats", 3, None])
def test_unknown_presets_are_refused_with_the_choices(wrong):
    with pytest.raises(DeclarationError, match="is not known") as caught:
        Settings.of(wrong)
    assert "fast" in str(caught.value)


def test_scores_may_take_a_small_share_of_the_time():
    assert Settings(scores=False).scoring == 0
    assert Settings(time_limit=200.0).scoring == 10
    assert Settings().scoring > 0


def test_scores_are_there_or_not():
    with pytest.raises(DeclarationError, match="scores='no' is neither True nor False"):
        Settings(scores="no")
