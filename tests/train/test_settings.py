"""Settings and presets."""

import pytest

from simgraph.errors import DeclarationError
from simgraph.train import PRESETS, Settings


def test_presets_are_known_by_name_and_settings_pass_through():
    assert Settings.of("fast") is PRESETS["fast"]
    own = Settings(steps=3)
    assert Settings.of(own) is own


def test_the_default_preset_is_the_default():
    assert Settings.of("default") == Settings()


def test_the_fast_preset_does_less():
    fast, default = PRESETS["fast"], PRESETS["default"]
    assert fast.steps * fast.batch_size < default.steps * default.batch_size


@pytest.mark.parametrize("wrong", ["fats", 3, None])
def test_unknown_presets_are_refused_with_the_choices(wrong):
    with pytest.raises(DeclarationError, match="is not known") as caught:
        Settings.of(wrong)
    assert "fast" in str(caught.value)
