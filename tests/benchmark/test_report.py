from pathlib import Path

import pytest

from simgraph.benchmark import report


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("processor\t: 0\nmodel name\t: Quick 7: fast\nflags\t: a\nmodel name\t: Other\n", "Quick 7: fast"),
        ("", "arm64"),
    ],
)
def test_the_processor_has_the_name_that_the_system_tells(monkeypatch, told, expected):
    monkeypatch.setattr(Path, "read_text", lambda self: told)
    monkeypatch.setattr(report.platform, "machine", lambda: "arm64")
    assert report.machine(3)["processor"] == expected
    assert report.machine(3)["seed"] == 3


def test_where_nothing_is_told_the_architecture_stands_for_it(monkeypatch):
    def missing(self):
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(report.platform, "machine", lambda: "arm64")
    assert report.machine(0)["processor"] == "arm64"


def test_parts_that_were_measured_alike_share_a_line():
    parts = {name: {"machine": {"cores": cores}} for name, cores in (("a", 2), ("b", 4), ("c", 2))}
    assert report.machines(parts) == "a, c: cores 2.\n\nb: cores 4."
