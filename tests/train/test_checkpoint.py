"""Trained models as files, good and bad."""

import functools
import json
import resource
from dataclasses import replace

import numpy as np
import pytest
import torch
from curves import smooth
from safetensors import safe_open
from safetensors.numpy import save_file
from samples import TINY, mixed, plated, randomised

from simgraph import compile
from simgraph.compile.course import COURSE
from simgraph.compile.layout import Layout
from simgraph.errors import FileFormatError
from simgraph.train import checkpoint, train
from simgraph.train.fit import build


@functools.cache
def model(kind):
    """A tiny trained model with random weights, which show every difference."""
    graph, form = {"mixed": (mixed(), "relay"), "plated": (plated(), "cached")}[kind]
    traces = graph.simulate(60, seed=0, progress=False)
    trained = train(compile(graph, traces, observed=form), traces, TINY, progress=False)
    randomised(trained.denoiser)
    return trained


@pytest.fixture(params=["mixed", "plated"])
def trained(request):
    return model(request.param)


@pytest.fixture
def path(trained, tmp_path):
    checkpoint.save(tmp_path / "model.sg", trained, None)
    return tmp_path / "model.sg"


@pytest.fixture
def victim(tmp_path):
    """A good file that is about to be changed."""
    checkpoint.save(tmp_path / "victim.sg", model("mixed"), None)
    return tmp_path / "victim.sg"


def parts(path):
    with safe_open(str(path), framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["simgraph"])  # noqa: SIM118


def written(path, arrays, manifest):
    save_file(arrays, str(path), metadata={"simgraph": json.dumps(manifest)})
    return path


def refused(path, match="do not fit together"):
    """Loading fails with FileFormatError that names the file, within little memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FileFormatError, match=match) as caught:
        checkpoint.load(path)
    assert path.name in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kilobytes"


def outputs(trained):
    layout = trained.compiled.layout
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, len(layout), layout.width, generator=generator)
    states = torch.randint(3, (5, len(layout)), generator=generator)
    mask = trained.compiled.rule.edge_mask(states, 2)
    return trained.denoiser(x, torch.linspace(0.1, 3, 5), states, mask)


def test_a_loaded_model_denoises_bit_for_bit_alike(trained, path):
    loaded, _ = checkpoint.load(path)
    assert torch.equal(outputs(loaded), outputs(trained))
    assert not loaded.denoiser.training
    assert not any(parameter.requires_grad for parameter in loaded.denoiser.parameters())


def test_a_loaded_model_has_the_same_tokens_tokenizers_and_masks(trained, path):
    loaded, _ = checkpoint.load(path)
    first, second = trained.compiled, loaded.compiled
    assert second.graph is None
    assert first.tokens == second.tokens
    assert torch.equal(first.layout.ids, second.layout.ids)
    assert torch.equal(first.layout.coordinates, second.layout.coordinates)
    assert torch.equal(first.edge_mask(), second.edge_mask())
    assert first.rule.form == second.rule.form
    tokens = torch.randn(20, len(first.layout), first.layout.width, generator=torch.Generator().manual_seed(0))
    for name in first.layout.names:
        own = tokens[:, first.layout.slots(name)]
        assert torch.equal(first.layout.detokenize(name, own), second.layout.detokenize(name, own))
        assert first.layout.tokenizers[name].variable.shape == second.layout.tokenizers[name].variable.shape


def test_a_loaded_model_has_the_same_history_ranges_and_fingerprint(trained, path):
    loaded, nodes = checkpoint.load(path)
    assert loaded.history.rows == trained.history.rows
    assert loaded.ranges.count == trained.ranges.count
    assert loaded.ranges.low.keys() == trained.ranges.low.keys()
    assert all(np.array_equal(loaded.ranges.high[name], high) for name, high in trained.ranges.high.items())
    assert set(nodes) == set(trained.compiled.graph)


def test_a_model_may_be_saved_again_after_loading(path, tmp_path):
    loaded, nodes = checkpoint.load(path)
    checkpoint.save(tmp_path / "again.sg", loaded, nodes)
    again, more = checkpoint.load(tmp_path / "again.sg")
    assert torch.equal(outputs(again), outputs(loaded))
    assert more == nodes


def test_a_file_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "none.sg")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_truncated_files_are_refused(victim, share):
    content = victim.read_bytes()
    victim.write_bytes(content[: int(share * len(content))])
    refused(victim, "cannot be read")


def test_other_files_are_refused(tmp_path):
    for content in (b"hello", b"PK\x03\x04" + bytes(100), b"\xff" * 64):
        (tmp_path / "other.sg").write_bytes(content)
        refused(tmp_path / "other.sg", "cannot be read")
    save_file({"a": np.zeros(3)}, str(tmp_path / "foreign.sg"))
    refused(tmp_path / "foreign.sg", "no simgraph manifest")


def test_traces_are_no_model(tmp_path):
    plated().simulate(5, seed=0, progress=False).save(tmp_path / "traces.sg")
    refused(tmp_path / "traces.sg", "holds 'traces', not 'model'")


@pytest.mark.parametrize(("version", "match"), [(99, "reads up to"), (0, "never existed"), ("1", "never existed")])
def test_other_format_versions_are_refused(victim, version, match):
    arrays, manifest = parts(victim)
    refused(written(victim, arrays, {**manifest, "format": version}), match)


@pytest.mark.parametrize(
    "sizes",
    [
        {"width": 65536},
        {"depth": 65536},
        {"widening": 65536},
        {"width": 65536, "depth": 65536, "heads": 65536, "widening": 65536},
        {"width": 10**12},
        {"depth": -1},
        {"heads": 3},
        {"width": "16"},
        {"layers": 3},
    ],
)
def test_other_architectures_than_that_of_the_weights_are_refused(victim, sizes):
    arrays, manifest = parts(victim)
    refused(written(victim, arrays, {**manifest, "architecture": {**manifest["architecture"], **sizes}}))


@pytest.mark.parametrize("shape", [[10**9], [10**200, 10**200], [10**5, 10**5], [-1], [0], ["a"], None, [1.5e308]])
@pytest.mark.parametrize("axes", ["plate_shape", "event_shape"])
def test_variables_of_other_shapes_are_refused(victim, shape, axes):
    arrays, manifest = parts(victim)
    manifest["variables"][0][axes] = shape
    if axes == "plate_shape":
        manifest["variables"][0]["plates"] = [f"p{number}" for number in range(len(shape or ()))]
    refused(written(victim, arrays, manifest))


def test_many_tokens_in_a_plate_are_refused_before_their_pairs_are_made(victim):
    arrays, manifest = parts(victim)
    count = 200_000
    entry = manifest["variables"][-1]
    manifest["variables"] = [{**entry, "plates": ["p"], "plate_shape": [count], "event_shape": []}]
    arrays["families/members"] = np.ones((1, count), dtype=bool)
    arrays["families/parents"] = np.zeros((1, count), dtype=bool)
    refused(written(victim, arrays, manifest), "200000 tokens")


@pytest.mark.parametrize(
    "support",
    [
        {"kind": "sphere", "low": 0.0, "high": 1.0},
        {"kind": "interval", "low": [0.0] * 7, "high": 1.0},
        {"kind": "interval", "low": float("nan"), "high": 1.0},
        {"kind": "interval", "low": 2.0, "high": 1.0},
        {"kind": "integers", "low": 0.0, "high": 31.0},
        {"kind": "interval"},
        "real",
    ],
)
def test_other_supports_are_refused(victim, support):
    arrays, manifest = parts(victim)
    manifest["variables"][-1]["support"] = support
    refused(written(victim, arrays, manifest))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(victim, value):
    arrays, manifest = parts(victim)
    arrays["weights/network.head_bias"][0] = value
    refused(written(victim, arrays, manifest), "weights that are not finite")


def test_every_weight_is_needed_in_its_shape(victim):
    arrays, manifest = parts(victim)
    for name in [name for name in arrays if name.startswith("weights/")]:
        without = {key: value for key, value in arrays.items() if key != name}
        for changed in (without, {**without, name: arrays[name][..., :-1]}, {**arrays, name + "2": arrays[name]}):
            with pytest.raises(FileFormatError, match="do not fit together"):
                checkpoint.load(written(victim, changed, manifest))


@pytest.mark.parametrize("change", [lambda a: a[..., None], lambda a: a * np.nan, lambda a: a - 1e9, lambda a: None])
def test_statistics_are_needed_in_their_shape_and_range(victim, change):
    arrays, manifest = parts(victim)
    name = next(name for name in arrays if name.endswith("/sd"))
    changed = change(arrays.pop(name))
    refused(written(victim, arrays if changed is None else {**arrays, name: changed}, manifest), "statistics")


@pytest.mark.parametrize("change", [lambda m: m[:, :-1], lambda m: m[:0], lambda m: m & False, lambda m: m | True])
def test_families_must_hold_every_token_once(victim, change):
    arrays, manifest = parts(victim)
    for part in ("families/members", "families/parents"):
        arrays[part] = change(arrays[part])
    refused(written(victim, arrays, manifest), "families")


def test_two_variables_of_one_name_are_refused(victim):
    arrays, manifest = parts(victim)
    manifest["variables"].append(manifest["variables"][0])
    for part in ("families/members", "families/parents"):
        arrays[part] = np.pad(arrays[part], ((0, 1), (0, 1)))
    arrays["families/members"][-1, -1] = True
    refused(written(victim, arrays, manifest))


@pytest.mark.parametrize("key", ["variables", "observed", "architecture", "history", "num_simulations"])
@pytest.mark.parametrize("value", [None, 3.5, "text", [[]], {"a": 1}])
def test_manifests_of_other_data_are_refused(victim, key, value):
    if key == "num_simulations" and value == 3.5:
        return
    arrays, manifest = parts(victim)
    refused(written(victim, arrays, {**manifest, key: value}))
    del manifest[key]
    refused(written(victim, arrays, manifest))


def test_ranges_are_needed_in_their_shape(victim):
    arrays, manifest = parts(victim)
    name = manifest["variables"][0]["name"]
    arrays[f"low/{name}"] = np.zeros((7, 7))
    refused(written(victim, arrays, manifest), "ranges of another shape")


def test_a_file_from_when_networks_were_told_all_elements_is_read_as_it_was(tmp_path, monkeypatch):
    traces = smooth.simulate(60, seed=0, progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(Layout, "_is_line", lambda self, plate: False)
        old = train(compile(smooth, traces), traces, TINY, progress=False)
    checkpoint.save(tmp_path / "new.sg", old, None)
    arrays, manifest = parts(tmp_path / "new.sg")
    assert manifest.pop("joining") == ["t", "s"]
    read, _ = checkpoint.load(written(tmp_path / "old.sg", arrays, manifest))
    assert read.compiled.layout.joining == ("t", "s")
    assert compile(smooth, traces).layout.joining == ()
    for name, value in old.denoiser.state_dict().items():
        assert torch.equal(read.denoiser.state_dict()[name], value)
    assert read.sized({"t": 2}).denoiser.coordinates.shape[0] == 2


def test_a_file_from_when_networks_were_not_told_counts_is_read_as_it_was(tmp_path):
    traces = smooth.simulate(60, seed=0, progress=False)
    compiled = compile(smooth, traces).fit(traces)
    trained = train(compiled, traces, TINY, progress=False)
    assert trained.denoiser.network.count is not None
    older = replace(trained, denoiser=randomised(build(compiled, TINY.architecture, counted=False)))
    checkpoint.save(tmp_path / "older.sg", older, None)
    read, _ = checkpoint.load(tmp_path / "older.sg")
    assert read.denoiser.network.count is None
    for name, value in older.denoiser.state_dict().items():
        assert torch.equal(read.denoiser.state_dict()[name], value)


@pytest.fixture(scope="module")
def of_functions(tmp_path_factory):
    """A file of a model of functions."""
    traces = smooth.simulate(60, seed=0, progress=False)
    path = tmp_path_factory.mktemp("functions") / "model.sg"
    checkpoint.save(path, train(compile(smooth, traces), traces, TINY, progress=False), None)
    return path


@pytest.mark.parametrize("change", [lambda a: a[:-1], lambda a: a * np.nan, lambda a: -a, lambda a: None])
def test_what_is_common_along_an_index_is_needed_in_its_shape_and_range(of_functions, tmp_path, change):
    arrays, manifest = parts(of_functions)
    changed = change(arrays.pop("statistics/seen/course_sd"))
    whole = arrays if changed is None else {**arrays, "statistics/seen/course_sd": changed}
    refused(written(tmp_path / "victim.sg", whole, manifest), "statistics")


def test_a_file_from_when_functions_had_one_scale_is_read_as_it_was(of_functions, tmp_path):
    arrays, manifest = parts(of_functions)
    old = {name: array for name, array in arrays.items() if "/course_" not in name}
    assert len(old) == len(arrays) - 2 * len(COURSE)
    read, _ = checkpoint.load(written(tmp_path / "old.sg", old, manifest))
    seen = read.sized({"s": 2}, {"s": np.array([[0.0], [10.0]]), "t": np.zeros((6, 1))}).compiled.layout
    first, last = seen.tokenize("seen", np.array([[1.5, 1.5]]))[0, :, 0]
    assert first == last == (1.5 - old["statistics/seen/centre"][0]) / old["statistics/seen/scale"][0]
