import json
import os
import stat
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from simgraph import files
from simgraph.errors import FileFormatError


def save(path, arrays=None, kind="traces", **manifest):
    files.write(path, kind, {"a": np.arange(3.0)} if arrays is None else arrays, manifest)
    return path


def with_manifest(path, text):
    save_file({"a": np.zeros(1)}, path, metadata={"simgraph": text})
    return path


dtypes = st.sampled_from([np.dtype(name) for name in ("float32", "float64", "int64", "bool", "uint8")])


@given(
    st.dictionaries(
        st.text("abc/", min_size=1, max_size=4),
        hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, min_side=0)),
        max_size=3,
    )
)
def test_arrays_come_back_bit_for_bit(tmp_path, arrays):
    found, _ = files.read(save(tmp_path / "f.sg", arrays), "traces")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_views_are_written_as_what_they_show(tmp_path):
    array = np.arange(12.0).reshape(3, 4)
    found, _ = files.read(save(tmp_path / "f.sg", {"t": array.T, "s": array[::2, ::-1]}), "traces")
    np.testing.assert_array_equal(found["t"], array.T)
    np.testing.assert_array_equal(found["s"], array[::2, ::-1])


def test_manifest_comes_back(tmp_path):
    _, manifest = files.read(save(tmp_path / "f.sg", numbers=[1, 2.5], text="θ", nested={"a": None}), "traces")
    assert manifest == {
        "format": files.FORMAT, "kind": "traces", "numbers": [1, 2.5], "text": "θ", "nested": {"a": None},
    }  # fmt: skip


def test_folders_are_made_and_nothing_else_is_left(tmp_path):
    save(tmp_path / "new" / "folder" / "f.sg")
    assert os.listdir(tmp_path / "new" / "folder") == ["f.sg"]


def test_an_existing_file_is_replaced(tmp_path):
    save(tmp_path / "f.sg", {"a": np.zeros(1)})
    found, _ = files.read(save(tmp_path / "f.sg", {"b": np.ones(2)}), "traces")
    assert list(found) == ["b"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failing_writer_leaves_the_old_file(tmp_path, error):
    path = save(tmp_path / "f.sg")
    before = path.read_bytes()

    def half(temporary):
        with open(temporary, "wb") as file:
            file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        files.write_with(path, half)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["f.sg"]


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = save(tmp_path / "f.sg")
    before = path.read_bytes()

    def slow(temporary):
        with open(temporary, "wb") as file:
            file.write(b"first half")
            file.flush()
            assert path.read_bytes() == before
            file.write(b", second half")

    files.write_with(path, slow)
    assert path.read_bytes() == b"first half, second half"


def test_permissions_are_those_of_a_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    path = save(tmp_path / "f.sg")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_missing_file_and_folder_are_not_found(tmp_path):
    for path in (tmp_path / "nothing.sg", tmp_path):
        with pytest.raises(FileNotFoundError, match="is not a file"):
            files.read(path, "traces")


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 20, -1])
def test_truncated_files_are_refused(tmp_path, keep):
    path = save(tmp_path / "f.sg")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileFormatError) as caught:
        files.read(path, "traces")
    head = f"{path} cannot be read: it is damaged, cut short, or not a simgraph file."
    assert str(caught.value).splitlines()[0] == head


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04 a zip",
        b"\x80\x04\x95 a pickle",
        struct.pack("<Q", 2**63) + b"{}",  # a header longer than any memory
        struct.pack("<Q", 10**9) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 200_000) + b"[" * 200_000,
    ],
)
def test_foreign_content_is_refused(tmp_path, content):
    (tmp_path / "f.sg").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"cannot be read: it is damaged"):
        files.read(tmp_path / "f.sg", "traces")


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 8]},  # claims a terabyte
        {"dtype": "F64", "shape": [2**62, 4], "data_offsets": [0, 8]},  # overflows
        {"dtype": "F64", "shape": [1], "data_offsets": [8, 0]},
        {"dtype": "F64", "shape": [-1], "data_offsets": [0, 8]},
        {"dtype": "object", "shape": [1], "data_offsets": [0, 8]},
    ],
)
def test_hostile_headers_are_refused(tmp_path, tensor):
    header = json.dumps({"__metadata__": {"simgraph": '{"format":1,"kind":"traces"}'}, "a": tensor}).encode()
    (tmp_path / "f.sg").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(FileFormatError):
        files.read(tmp_path / "f.sg", "traces")


def test_types_that_numpy_does_not_have_are_refused(tmp_path):
    tensor = {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}
    header = json.dumps({"__metadata__": {"simgraph": '{"format":1,"kind":"traces"}'}, "a": tensor}).encode()
    (tmp_path / "f.sg").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(FileFormatError):
        files.read(tmp_path / "f.sg", "traces")


@given(st.data())
def test_a_changed_byte_is_refused_or_changes_values_only(tmp_path, data):
    path = save(tmp_path / "f.sg", {"a": np.arange(4.0), "b": np.arange(6).reshape(2, 3)})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        arrays, manifest = files.read(path, "traces")
    except FileFormatError:
        return
    assert manifest["kind"] == "traces"
    assert sum(array.nbytes for array in arrays.values()) <= len(content)


def test_a_safetensors_file_of_another_program_is_refused(tmp_path):
    save_file({"a": np.zeros(1)}, tmp_path / "f.sg")
    with pytest.raises(FileFormatError) as caught:
        files.read(tmp_path / "f.sg", "traces")
    assert str(caught.value) == f"{tmp_path / 'f.sg'} has no simgraph manifest: another program wrote it."


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "3", "null", "{}", '{"format": 1}', "[" * 100_000])
def test_a_broken_manifest_is_refused(tmp_path, text):
    path = with_manifest(tmp_path / "f.sg", text)
    with pytest.raises(FileFormatError, match="has no simgraph manifest"):
        files.read(path, "traces")


@pytest.mark.parametrize("version", ["0", "-1", "1.5", '"1"', "null", "Infinity"])
def test_a_version_that_never_existed_is_refused(tmp_path, version):
    path = with_manifest(tmp_path / "f.sg", f'{{"format": {version}, "kind": "traces"}}')
    with pytest.raises(FileFormatError, match="which never existed"):
        files.read(path, "traces")


def test_a_newer_version_says_how_to_upgrade(tmp_path):
    path = with_manifest(tmp_path / "f.sg", f'{{"format": {files.FORMAT + 1}, "kind": "traces"}}')
    with pytest.raises(FileFormatError) as caught:
        files.read(path, "traces")
    assert str(caught.value) == (
        f"{path} has format version 2; this version of simgraph reads up to 1.\n"
        "  Upgrade with: pip install --upgrade simgraph"
    )


def test_another_kind_is_refused(tmp_path):
    path = save(tmp_path / "f.sg", kind="model")
    with pytest.raises(FileFormatError) as caught:
        files.read(path, "traces")
    assert str(caught.value) == f"{path} holds 'model', not 'traces'."
