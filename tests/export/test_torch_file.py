"""Torch files are read without PyTorch, and whatever they contain, nothing in them is run."""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vita_edge.engines.errors import BadCheckpoint
from vita_edge.export.checkpoint.tensor import STORED_AS, LazyTensor, StreamedTensor
from vita_edge.export.checkpoint.torch_file import open_torch_file
from vita_edge.export.practice.torch_writer import write_torch_file

WHOLE = np.arange(12, dtype=np.float32).reshape(3, 4)


def streamed(values: np.ndarray[Any, Any], dtype: str = "float32") -> StreamedTensor:
    stored = values.astype(STORED_AS[dtype]) if dtype != "bfloat16" else (values.view(np.uint32) >> 16).astype("<u2")

    def pieces() -> Iterator[np.ndarray[Any, Any]]:
        yield from stored.reshape(-1, 1)  # one value at a time

    return StreamedTensor(values.shape, dtype, pieces)


def leaf(tree: Any, *keys: str) -> LazyTensor:
    for key in keys:
        tree = tree[key]
    assert isinstance(tree, LazyTensor)
    return tree


def archive(file: Path, pickled: bytes, storages: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(file, "w", compression) as out:
        out.writestr("x/data.pkl", pickled)
        for key, content in storages.items():
            out.writestr(f"x/data/{key}", content)
    return file


def tensor(shape: str, strides: str, offset: int = 0, kind: str = "FloatStorage") -> str:
    """Protocol 0 opcodes of a tensor in storage 0; shapes as space-separated numbers."""

    def numbers(text: str) -> str:
        return "(" + "".join(f"I{n}\n" for n in text.split()) + "t"

    storage = f"(Vstorage\nctorch\n{kind}\nV0\nVcpu\nI12\ntQ"
    rest = f"{storage}I{offset}\n{numbers(shape)}{numbers(strides)}I00\nccollections\nOrderedDict\n)Rt"
    return f"ctorch._utils\n_rebuild_tensor_v2\n({rest}R"


def table(**entries: str) -> bytes:
    return ("(d" + "".join(f"V{key}\n{value}s" for key, value in entries.items()) + ".").encode()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_what_was_written_is_read_again_in_every_float_type(tmp_path: Path, dtype: str) -> None:
    file = tmp_path / "final.pt"
    write_torch_file(file, {"model": {"a.weight": streamed(WHOLE, dtype)}, "epoch": 3})

    found = leaf(open_torch_file(file), "model", "a.weight")

    assert (found.name, found.dtype, found.shape, found.file) == ("model.a.weight", dtype, (3, 4), file)
    np.testing.assert_array_equal(found.read(), WHOLE)
    np.testing.assert_array_equal(found.rows(1, 3), WHOLE[1:])
    assert found.raw_rows(0, 1).dtype == STORED_AS[dtype]


def test_a_written_file_uses_only_what_torch_loads_as_weights_only(tmp_path: Path) -> None:
    write_torch_file(tmp_path / "final.pt", {"a": streamed(WHOLE), "b": streamed(WHOLE[0])})
    with zipfile.ZipFile(tmp_path / "final.pt") as file:
        names, pickled = file.namelist(), file.read("final/data.pkl")
        assert file.read("final/data/1") == WHOLE[0].tobytes()
    found = [(code.name, argument) for code, argument, _ in pickletools.genops(pickled)]
    assert names == ["final/data.pkl", "final/byteorder", "final/data/0", "final/data/1", "final/version"]
    assert {argument for code, argument in found if code == "GLOBAL"} == {
        "collections OrderedDict",
        "torch._utils _rebuild_tensor_v2",
        "torch FloatStorage",
    }


def test_offset_and_strides_are_respected(tmp_path: Path) -> None:
    pickled = table(turned=tensor("4 3", "1 4"), part=tensor("2 2", "4 1", 5), one=tensor("", "", 7))
    tree = open_torch_file(archive(tmp_path / "x.pt", pickled, {"0": WHOLE.tobytes()}))
    np.testing.assert_array_equal(leaf(tree, "turned").read(), WHOLE.T)
    np.testing.assert_array_equal(leaf(tree, "turned").rows(1, 3), WHOLE.T[1:3])
    np.testing.assert_array_equal(leaf(tree, "part").read(), WHOLE[1:, 1:3])
    assert leaf(tree, "one").read() == 7


def test_a_compressed_file_is_read_too(tmp_path: Path) -> None:
    pickled = table(a=tensor("3 4", "4 1"))
    file = archive(tmp_path / "x.pt", pickled, {"0": WHOLE.tobytes()}, zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(leaf(open_torch_file(file), "a").rows(2, 3), WHOLE[2:])


def test_parameters_are_tensors_and_other_values_are_left_out(tmp_path: Path) -> None:
    parameter = f"ctorch._utils\n_rebuild_parameter\n({tensor('3 4', '4 1')}I01\n(dtR"
    pickled = table(p=parameter, n="I3\n", s="Vtext\n", c=tensor("3 4", "4 1", kind="ComplexFloatStorage"))
    tree = open_torch_file(archive(tmp_path / "x.pt", pickled, {"0": WHOLE.tobytes()}))
    assert list(tree) == ["p"]
    np.testing.assert_array_equal(leaf(tree, "p").read(), WHOLE)


class Command:
    def __init__(self, run: Callable[..., object], *arguments: object) -> None:
        self._reduced = (run, arguments)

    def __reduce__(self) -> Any:
        return self._reduced


def test_a_malicious_pickle_runs_nothing(tmp_path: Path) -> None:
    import os

    witness = tmp_path / "witness"
    commands = [Command(os.system, f"touch {witness}"), Command(eval, f"open({str(witness)!r}, 'w')")]
    for protocol in (0, 2, 4):
        pickled = pickle.dumps({"a": commands[0], "b": {"c": commands[1]}}, protocol)
        assert open_torch_file(archive(tmp_path / f"{protocol}.pt", pickled, {})) == {"b": {}}
    assert not witness.exists()


def test_objects_with_state_and_items_of_their_own_do_nothing(tmp_path: Path) -> None:
    kinds = [bytearray(b"x"), {1, 2}, complex(1), np.arange(3), Path("x"), range(3), io.BytesIO(b"abc")]
    pickled = pickle.dumps({"kinds": kinds}, 2) if kinds else b""
    assert open_torch_file(archive(tmp_path / "x.pt", pickled, {})) == {}


def test_a_pickle_cannot_change_a_tensor_after_it_was_checked(tmp_path: Path) -> None:
    changed = tensor("3 4", "4 1") + "(dVstrides\n(I-900000\nI1\ntsb"  # BUILD with an attribute dictionary
    file = archive(tmp_path / "x.pt", table(a=changed), {"0": WHOLE.tobytes()})
    with pytest.raises(BadCheckpoint, match="cannot be used"):
        open_torch_file(file)


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [("3 5", "5 1", 0), ("3 4", "4 1", 1), ("3 4", "-4 1", 11), ("3", "4 1", 0), ("1000000000000", "1", 0)],
)
def test_a_tensor_that_leaves_its_storage_is_refused(tmp_path: Path, shape: str, strides: str, offset: int) -> None:
    file = archive(tmp_path / "x.pt", table(a=tensor(shape, strides, offset)), {"0": WHOLE.tobytes()})
    with pytest.raises(BadCheckpoint, match="cannot be used"):
        open_torch_file(file)


def test_a_missing_storage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint) as raised:
        open_torch_file(archive(tmp_path / "x.pt", table(a=tensor("3 4", "4 1")), {}))
    assert "storage 0 is missing" in raised.value.why


def test_a_file_that_was_cut_off_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    write_torch_file(tmp_path / "whole.pt", {"a": streamed(WHOLE)})
    whole = (tmp_path / "whole.pt").read_bytes()
    file = tmp_path / "final.pt"
    for end in range(0, len(whole), 7):
        file.write_bytes(whole[:end])
        with pytest.raises(BadCheckpoint, match=r"final\.pt"):
            open_torch_file(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps({"a": 1}, 2), "no zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"", "It is empty"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "final.pt").write_bytes(content)
    with pytest.raises(BadCheckpoint) as raised:
        open_torch_file(tmp_path / "final.pt")
    assert reason in raised.value.why


def test_a_pickle_of_something_else_is_refused(tmp_path: Path) -> None:
    for pickled in (b"I3\n.", b"(lp0\n.", b"garbage", pickle.dumps([1])):
        with pytest.raises(BadCheckpoint):
            open_torch_file(archive(tmp_path / "x.pt", pickled, {}))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"nothing\.pt"):
        open_torch_file(tmp_path / "nothing.pt")
