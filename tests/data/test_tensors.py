"""Files of tensors: what programs write is read, and what is malformed is one line."""

import contextlib
import io
import json
import struct
import zipfile

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanorepro.data.tensors.opening import open_tensors
from nanorepro.data.tensors.record import reblocked, slabs
from nanorepro.errors import ConfigError

ARRAYS = {
    "w": np.arange(6, dtype="f4").reshape(2, 3),
    "layer/b": np.array([1.5, -0.0]),
    "half": np.array([1.0], "f2"),
    "count": np.array(7),
    "none": np.zeros((0, 4), "f4"),
    "flags": np.array([True, False]),
    "z": np.array([1 + 2j], "c8"),
}
CODES = {"f4": "F32", "f8": "F64", "f2": "F16", "i8": "I64", "b1": "BOOL", "c8": "C64"}


def safetensors(arrays, **changes):
    header, data = {}, b""
    for name, a in arrays.items():
        raw = np.ascontiguousarray(a).tobytes()
        span = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": CODES[a.dtype.str[1:]], "shape": a.shape, "data_offsets": span}
        data += raw
    text = changes.get("text", json.dumps(header | changes.get("header", {})).encode())
    length = changes.get("length", len(text))
    return struct.pack("<Q", length) + text + data + changes.get("after", b"")


def write(path, arrays=None):
    arrays = ARRAYS if arrays is None else arrays
    if path.suffix == ".safetensors":
        path.write_bytes(safetensors(arrays))
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as f:
            for name, a in arrays.items():
                f[name] = a
    elif path.stem == "small":
        np.savez_compressed(path, **arrays)
    else:
        np.savez(path, **arrays)
    return path


def read(path):
    return {
        name: (t.format.name, t.shape, np.concatenate([np.empty(0, t.format.storage), *t.blocks()]))
        for name, t in open_tensors([path]).tensors.items()
    }


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz", "small.npz", "a.h5"])
def test_what_is_written_is_read(name, tmp_path):
    found = read(write(tmp_path / name))
    assert set(found) == set(ARRAYS)
    for key, a in ARRAYS.items():
        format, shape, values = found[key]
        assert (format, shape) == (a.dtype.name, a.shape)
        assert values.tobytes() == a.tobytes()


def test_the_content_decides_not_the_name(tmp_path):
    for kind in ("safetensors", "npz", "h5"):
        path = write(tmp_path / f"a.{kind}")
        other = path.rename(tmp_path / f"{kind}.model")
        assert set(read(other)) == set(ARRAYS)


def test_other_byte_and_axis_orders(tmp_path):
    a = np.arange(24, dtype=">f4").reshape(2, 3, 4)
    np.savez(tmp_path / "a.npz", big=a, fortran=np.asfortranarray(a.astype("f4")))
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["big"] = a
        f.create_dataset("fortran", data=a, chunks=(1, 2, 3), compression="gzip", shuffle=True)
    for path in (tmp_path / "a.npz", tmp_path / "a.h5"):
        for format, shape, values in read(path).values():
            assert (format, shape, values.tolist()) == ("float32", (2, 3, 4), list(range(24)))
    np.save(tmp_path / "a.npy", np.asfortranarray(a))
    assert read(tmp_path / "a.npy")["array"][2].tolist() == list(range(24))


def test_bfloat16(tmp_path):
    import ml_dtypes

    a = np.array([1.0, -2.5], ml_dtypes.bfloat16)
    np.savez(tmp_path / "a.npz", w=a)
    text = json.dumps({"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + a.tobytes())
    for name in ("a.npz", "a.safetensors"):
        assert read(tmp_path / name)["w"][0] == "bfloat16"
    assert "were read as bfloat16" in open_tensors([tmp_path / "a.npz"]).notes[0]


def test_what_holds_no_numbers_is_left_out(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["w"], f["text"] = np.zeros(2), "hello"
        f["link"] = h5py.ExternalLink("other.h5", "/x")
        f["soft"] = h5py.SoftLink("/w")
        f.create_dataset("far", (4,), "f4", external=[("/etc/passwd", 0, 16)])
        f["empty"] = h5py.Empty("f4")
    found = open_tensors([tmp_path / "a.h5"])
    assert set(found.tensors) == {"w"}
    assert "other files" in found.left_out["far"]
    assert set(found.left_out) == {"text", "far", "empty"}
    np.savez(tmp_path / "a.npz", w=np.zeros(2), names=np.array(["a"]))
    assert set(open_tensors([tmp_path / "a.npz"]).left_out) == {"names"}


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
ONE = {"w": np.zeros(1, "f4")}
MALFORMED = {
    "empty": (b"", "of no known format|truncated"),
    "short": (b"1234567", "truncated|not a file"),
    "huge length": (safetensors(ONE, length=2**63), "its header would be"),
    "long": (safetensors(ONE, length=10**7), "truncated"),
    "no json": (safetensors({}, text=b"{nothing"), "not JSON"),
    "deep": (safetensors({}, text=b"{" + b'"a":[' * 100_000), "not JSON"),
    "a list": (safetensors({}, text=b"[1]"), "does not begin with"),
    "not utf-8": (safetensors({}, text=b'{"\xff": 1}'), "not JSON"),
    "no entry": (safetensors({}, header={"w": 3}), "has not dtype"),
    "more keys": (safetensors({}, header={"w": ENTRY | {"x": 1}}), "and nothing else"),
    "dtype": (safetensors({}, header={"w": ENTRY | {"dtype": "F31"}}), "unknown dtype 'F31'"),
    "dtype list": (safetensors({}, header={"w": ENTRY | {"dtype": []}}), "unknown dtype"),
    "shape": (safetensors({}, header={"w": ENTRY | {"shape": [-1]}}), "shape"),
    "shape text": (safetensors({}, header={"w": ENTRY | {"shape": "1"}}), "shape"),
    "large": (safetensors({}, header={"w": ENTRY | {"shape": [2**62, 8]}}), "does not fit"),
    "true": (safetensors({}, header={"w": ENTRY | {"shape": [True]}}), "shape"),
    "offsets": (safetensors({}, header={"w": ENTRY | {"data_offsets": [4, 0]}}), "does not fit"),
    "size": (safetensors({}, header={"w": ENTRY | {"data_offsets": [0, 8]}}), "does not fit"),
    "beyond": (safetensors({}, header={"w": ENTRY}), "truncated or too long"),
    "overlap": (safetensors(ONE, header={"v": ENTRY}), "overlaps"),
    "gap": (
        safetensors(ONE, header={"v": ENTRY | {"data_offsets": [8, 12]}}, after=bytes(8)), "gap",
    ),
    "after": (safetensors(ONE, after=b"x"), "too long"),
    "metadata": (safetensors(ONE, header={"__metadata__": {"a": 1}}), "__metadata__"),
    "twice": (
        safetensors({}, text=b'{"w": %s, "w": %s}' % ((json.dumps(ENTRY).encode(),) * 2)), "twice",
    ),
}  # fmt: skip


def refused(path):
    with pytest.raises(ConfigError) as caught:
        read(path)
    line = str(caught.value)
    assert "\n" not in line and path.name in line
    return line


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_safetensors(name, tmp_path):
    data, match = MALFORMED[name]
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    line = refused(path)
    assert any(part in line for part in match.split("|")), line


@given(st.data())
def test_any_change_of_a_file_is_read_or_refused(data):
    import tempfile
    from pathlib import Path

    whole = [safetensors(ARRAYS), npy(np.zeros((3, 2)))]
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, **ARRAYS)
        whole.append(buffer.getvalue())
    header = st.text("{}()[],:'\"-+0123456789adefhiorst_<\n \0", max_size=200)
    made = header.map(lambda text: with_header(text.encode()))
    raw = bytearray(data.draw(st.one_of(st.sampled_from(whole), made)))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        path.write_bytes(raw)
        with contextlib.suppress(ConfigError):  # and nothing else is raised
            read(path)


def npy(a):
    buffer = io.BytesIO()
    np.save(buffer, a)
    return buffer.getvalue()


def with_header(text):
    """An .npy file with any header."""
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + bytes(64)


def archive(path, entries, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as z:
        for name, data in entries:
            z.writestr(name, data)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_malformed_npz(tmp_path):
    path = tmp_path / "a.npz"
    good = npy(np.zeros(4))
    huge = good.replace(b"(4,)", b"(9999999999,)")
    headers = [with_header(text) for text in (b"-" * 9000, b"(((", b"{'a': 'b", b"\0", b"")]
    for entries, match in (
        *(([("w.npy", header)], "not that of an array") for header in headers),
        ([("w.npy", good), ("w.npy", good)], "twice"),
        ([("w.txt", b"hello")], "no array"),
        ([("w.npy", b"hello")], "not that of an array"),
        ([("w.npy", good[:-8])], "declares 160 bytes"),
        ([("w.npy", huge)], "not that of an array|declares"),
        ([("model.weights.h5", b"x")], "the file model.weights.h5 in it"),
        ([("a/data.pkl", b"x")], "a pickle, which is never read"),
    ):
        line = refused(archive(path, entries))
        assert any(part in line for part in match.split("|")), line
    np.savez(path, w=np.array([{}, 3], dtype=object))
    assert "'w' is an array of Python objects" in refused(path)
    refused(archive(path, [("w.npy", good)], zipfile.ZIP_LZMA))


def test_a_zip_that_declares_more_than_it_can_hold(tmp_path):
    path = archive(tmp_path / "a.npz", [("w.npy", npy(np.zeros(10)))], zipfile.ZIP_DEFLATED)
    raw = bytearray(path.read_bytes())
    central = raw.rindex(b"PK\x01\x02")
    struct.pack_into("<I", raw, central + 24, 2**31)
    path.write_bytes(raw)
    assert "ZIP bomb" in refused(path)


def test_entries_that_overlap(tmp_path):
    path = archive(tmp_path / "a.npz", [(f"{n}.npy", npy(np.zeros(10))) for n in "ab"])
    raw = bytearray(path.read_bytes())
    central = raw.rindex(b"PK\x01\x02")
    struct.pack_into("<I", raw, central + 42, 0)  # both begin at the start
    path.write_bytes(raw)
    line = refused(path)
    assert "overlaps" in line or "not a whole" in line


def test_malformed_hdf5(tmp_path):
    path = write(tmp_path / "a.h5")
    whole = path.read_bytes()
    for cut in (9, 100, len(whole) // 2):
        path.write_bytes(whole[:cut])
        refused(path)
    with h5py.File(path, "w") as f:
        f.create_dataset("w", (2**40,), "f4", chunks=(1024,))
    assert "more than the file can hold" in refused(path)


@pytest.mark.parametrize("start", [b"\x80\x02", b"GGUF", b""])
def test_what_is_no_file_of_tensors(start, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(start + bytes(20))
    line = refused(path)
    assert "never read" in line or "truncated" in line or "not a file" in line
    refused(tmp_path / "nothing.npz")
    refused(tmp_path)


@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 5), (2, 3, 4), (1, 1, 9), (4, 0, 2)])
@pytest.mark.parametrize("chunks", [False, True])
@pytest.mark.parametrize("n", [1, 4, 100])
def test_slabs_take_an_array_apart_in_its_order(shape, chunks, n):
    a = np.arange(int(np.prod(shape))).reshape(shape)
    some = tuple(max(1, k // 2) for k in shape) if chunks and shape else None
    parts = [a[index].reshape(-1) for index in slabs(shape, n, some)]
    assert np.concatenate([np.empty(0, int), *parts]).tolist() == list(range(a.size))
    blocks = [block.copy() for block in reblocked(iter(parts), n, "i8")]
    assert [len(b) for b in blocks[:-1]] == [n] * (len(blocks) - 1)
    assert np.concatenate([np.empty(0, int), *blocks]).tolist() == list(range(a.size))
