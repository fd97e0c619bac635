import json

import pytest

from simgraph.benchmark.examples import main
from simgraph.errors import DeclarationError, SimgraphError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "one.py").write_text("print('found 3')\nopen('one.png', 'wb').write(b'picture')\n")
    (tmp_path / "examples" / "two.py").write_text("import simgraph\nprint(simgraph.__version__)\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_examples_say_and_draw_is_kept(folder, capsys):
    main("docs")
    text = (folder / "docs" / "examples.md").read_text()
    assert "found 3" in text
    assert "![one.png](examples/one.png)" in text
    assert (folder / "docs" / "examples" / "one.png").read_bytes() == b"picture"
    found = json.loads((folder / "docs" / "examples.json").read_text())
    (folder / "examples" / "one.py").write_text("print('found 4')")
    main("docs", "one")
    again = json.loads((folder / "docs" / "examples.json").read_text())
    assert again["one"]["said"] == "found 4\n"
    assert again["two"] == found["two"]
    assert again["one"]["seconds"] > 0


def test_what_fails_is_told_and_what_is_there_stays(folder):
    main("docs", "two")
    (folder / "examples" / "one.py").write_text("raise RuntimeError('no')")
    with pytest.raises(SimgraphError, match="RuntimeError: no"):
        main("docs")
    assert list(json.loads((folder / "docs" / "examples.json").read_text())) == ["two"]
    with pytest.raises(DeclarationError, match="unknown examples"):
        main("docs", "three")
