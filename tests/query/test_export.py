import re
import sys

import pytest
import torch

from simgraph import Samples
from simgraph.errors import MissingExtraError, QueryError
from simgraph.version import __version__

PLAIN = Samples(
    {"level": torch.arange(24.0).reshape(4, 3, 2), "mu": torch.arange(4)}, dims={"level": ["site"]}, notes=["a", "b"]
)
BATCH = Samples({"level": torch.arange(24.0).reshape(2, 4, 3)}, batched=True, dims={"level": ["site"]}, ess=2.5)


def test_a_data_frame_has_a_column_per_element():
    pytest.importorskip("pandas")
    frame = PLAIN.to_pandas()
    assert list(frame.columns)[:2] == ["level[0, 0]", "level[0, 1]"]
    assert frame["mu"].tolist() == [0, 1, 2, 3]


def test_a_data_set_names_draws_plates_and_other_axes():
    pytest.importorskip("xarray")
    data = PLAIN.to_xarray()
    assert data["level"].dims == ("draw", "site", "level_dim_0")
    assert data["mu"].dims == ("draw",)
    assert float(data["level"].sel(draw=1, site=2, level_dim_0=1)) == PLAIN["level"][1, 2, 1]
    assert data.attrs == {
        "inference_library": "simgraph",
        "inference_library_version": __version__,
        "ess": 4.0,
        "notes": "a\nb",
    }


def test_a_data_set_of_batches_has_them_first():
    pytest.importorskip("xarray")
    data = BATCH.to_xarray()
    assert data["level"].dims == ("batch", "draw", "site")
    assert (data["level"].values == BATCH["level"].numpy()).all()
    assert data.attrs["ess"] == 2.5


def test_arviz_gets_one_chain_of_a_posterior():
    pytest.importorskip("arviz_base")
    tree = PLAIN.to_arviz()
    level = tree["posterior"]["level"]
    assert level.dims == ("chain", "draw", "site", "level_dim_0")
    assert (level.values[0] == PLAIN["level"].numpy()).all()
    assert tree["posterior"].attrs["inference_library"] == "simgraph"
    assert tree["posterior"].attrs["ess"] == 4.0


def test_arviz_tells_pieces_of_evidence_apart():
    stats = pytest.importorskip("arviz_stats")
    tree = BATCH.to_arviz()
    level = tree["posterior"]["level"]
    assert level.dims == ("chain", "draw", "batch", "site")
    for piece in range(2):
        assert (level.sel(chain=0, batch=piece).values == BATCH["level"][piece].numpy()).all()
    table = stats.summary(tree, kind="stats", round_to="none")
    # Pieces are the outer index: the mean of piece 1, site 2 over its draws 14, 17, 20, 23 is 18.5.
    assert table.loc["level[1, 2]", "mean"] == 18.5


def test_names_agree_with_those_that_arviz_would_give():
    base = pytest.importorskip("arviz_base")
    theirs = base.from_dict({"posterior": {"level": PLAIN["level"].numpy()[None]}}, dims={"level": ["site"]})
    assert PLAIN.to_arviz()["posterior"]["level"].dims == theirs["posterior"]["level"].dims


def test_what_is_written_to_netcdf_is_read_again(tmp_path):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    PLAIN.to_xarray().to_netcdf(tmp_path / "draws.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "draws.nc", engine="h5netcdf") as data:
        assert data.identical(PLAIN.to_xarray())


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (
            {"draw": torch.zeros(2)},
            {},
            "the variable 'draw' has the name of another dimension of the table.\n"
            "  Dimensions: draw. Rename the variable, or use samples.to_numpy()",
        ),
        (
            {"a": torch.zeros(2, 3)},
            {"dims": {"a": ["draw"]}},
            "the plate 'draw' has the name of another dimension of the table.\n"
            "  Dimensions: draw. Rename the plate, or use samples.to_numpy()",
        ),
        (
            {"a": torch.zeros(2, 3), "a_dim_0": torch.zeros(2)},
            {},
            "the variable 'a_dim_0' has the name of another dimension of the table.\n"
            "  Dimensions: draw, a_dim_0. Rename the variable",
        ),
    ],
)
def test_a_name_that_means_two_things_is_refused(values, options, message):
    pytest.importorskip("xarray")
    with pytest.raises(QueryError, match=f"^{re.escape(message)}"):
        Samples(values, **options).to_xarray()


def test_a_variable_called_chain_is_refused_where_there_are_chains():
    pytest.importorskip("arviz_base")
    samples = Samples({"chain": torch.zeros(2)})
    assert samples.to_xarray()["chain"].dims == ("draw",)
    with pytest.raises(QueryError, match="the variable 'chain' has the name of another dimension"):
        samples.to_arviz()


@pytest.mark.parametrize(
    ("package", "method", "message"),
    [
        ("pandas", "to_pandas", r"Samples.to_pandas\(\) needs 'pandas'.\n  Install it with: .*'simgraph\[pandas\]'"),
        ("xarray", "to_xarray", r"Samples.to_xarray\(\) needs 'xarray'.\n  Install it with: .*'simgraph\[arviz\]'"),
        ("arviz_base", "to_arviz", r"Samples.to_arviz\(\) needs 'arviz_base'.\n  Install .*'simgraph\[arviz\]'"),
    ],
)
def test_a_package_is_named_when_it_is_not_there(monkeypatch, package, method, message):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=f"^{message}"):
        getattr(PLAIN, method)()
