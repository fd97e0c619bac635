"""Derived masks of the benchmark's programs, against graphs written out by hand."""

import pytest

from simgraph.benchmark import mask_gallery
from simgraph.benchmark.mask_gallery import GALLERY, main, verdicts
from simgraph.compile import compile


@pytest.mark.slow
@pytest.mark.parametrize("entry", GALLERY, ids=lambda entry: entry.name)
def test_derived_masks_are_right_and_published_ones_are_not(entry):
    found = verdicts(entry, compile(entry.graph))
    assert found["derived"] == (0, 0)
    assert sum(found["base"]) > 0


def test_the_gallery_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(mask_gallery, "QUESTIONS", 1)
    monkeypatch.setattr(mask_gallery, "GALLERY", GALLERY[3:])
    main(str(tmp_path))
    text = (tmp_path / "published_masks.md").read_text()
    assert "| Gaussian mixture | 4 |" in text
    assert (tmp_path / "published_masks.png").stat().st_size > 1000
