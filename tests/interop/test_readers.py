import argparse
import builtins
import collections
import io
import os
import pickle
import struct
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from g2ajax.interop.readers import read_tensors
from g2ajax.interop.unpickler import RefusedPickle, unpickle
from tests.interop.torch_writer import (
    Called,
    Named,
    Script,
    Storage,
    Tensor,
    pickled,
    tensors,
    write_stream,
    write_zip,
)

RNG = np.random.default_rng(0)
ARRAYS = {
    "conv1.weight": RNG.normal(size=(4, 3, 2, 2)).astype("f4"),
    "bn1.running_var": RNG.normal(size=5),
    "bn1.num_batches_tracked": np.array(7),
    "half": RNG.normal(size=(2, 3)).astype("f2"),
    "brain": RNG.normal(size=(2, 3)).astype(ml_dtypes.bfloat16),
    "flag": np.array([True, False]),
    "empty": np.zeros((0, 3), "f4"),
}


def assert_same(read, expected):
    assert list(read) == list(expected)
    for name, value in expected.items():
        assert read[name].dtype == value.dtype, name
        np.testing.assert_array_equal(read[name], value, err_msg=name)


@pytest.mark.parametrize("big", [False, True])
def test_zip_archive_gives_every_type_and_byte_order(tmp_path, big):
    assert_same(read_tensors(write_zip(tmp_path / "a.pth", tensors(ARRAYS), big=big)), ARRAYS)


def test_older_stream_with_parameters_of_the_first_releases(tmp_path):
    """torchvision's files of 2017: no zip, Parameters with state, `_rebuild_tensor`."""
    content = tensors(ARRAYS)
    old = Tensor(ARRAYS["conv1.weight"])
    old.call = "_rebuild_tensor"
    content["conv1.weight"] = Called(
        Named("torch.nn.parameter", "Parameter"), (old,), (True, False, collections.OrderedDict())
    )
    assert_same(read_tensors(write_stream(tmp_path / "a.pth", content)), ARRAYS)


def test_views_share_a_storage_and_need_not_be_contiguous(tmp_path):
    base = np.arange(24, dtype="f4")
    shared = Storage(base)
    content = {
        "transposed": Tensor(shared, 0, (4, 6), (1, 4)),
        "tail": Tensor(shared, 20, (2, 2), (2, 1)),
        "repeated": Tensor(shared, 3, (5, 2), (0, 1)),
    }
    path = write_zip(tmp_path / "a.pt", content)
    with zipfile.ZipFile(path) as archive:
        assert sum("/data/" in name for name in archive.namelist()) == 1
    expected = {
        "transposed": base.reshape(6, 4).T,
        "tail": base[20:].reshape(2, 2),
        "repeated": np.tile(base[3:5], (5, 1)),
    }
    assert_same(read_tensors(path), expected)
    assert_same(read_tensors(write_stream(tmp_path / "b.pt", content)), expected)


def test_untyped_storages_and_views_of_the_older_format(tmp_path):
    for name in ("float8_e4m3fn", "float8_e5m2"):
        values = np.arange(6).astype(getattr(ml_dtypes, name))
        raw = Storage(values.view("u1"), Named("torch.storage", "UntypedStorage"))
        call = ("_rebuild_tensor_v3", Named("torch", name))
        content = {"w": Tensor(raw, 2, (2, 2), (2, 1), call)}
        expected = {"w": values[2:].reshape(2, 2)}
        assert_same(read_tensors(write_zip(tmp_path / "a.pth", content)), expected)

    root = Storage(np.arange(10, dtype="f4"), view=("v", 4, 5))
    content = {"w": Tensor(root, 1, (3,), (1,))}
    read = read_tensors(write_stream(tmp_path / "b.pth", content))
    assert_same(read, {"w": np.array([5, 6, 7], "f4")})


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"model": s, "optimizer": {"state": {0: s}}, "epoch": 3, "best": np.float64(0.5)},
        lambda s: {"state_dict": s, "args": argparse.Namespace(lr=0.1), "arch": "resnet"},
        lambda s: {"model_state_dict": s, "sizes": Called(Named("torch", "Size"), ((1, 2),))},
        lambda s: {"model": s, "counts": collections.defaultdict(int, {1: 2})},
        lambda s: {"epoch": 1, "ours": {"state_dict": s}},
        lambda s: {**s, "note": "text", "steps": {30, 60}, "rate": np.float32(0.1)},
        lambda s: {"model": {f"module.{k}": v for k, v in s.items()}},
        lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()},
    ],
)
def test_state_dictionary_is_found_in_its_container(tmp_path, wrap):
    content = wrap(tensors(ARRAYS))
    assert_same(read_tensors(write_zip(tmp_path / "a.pth", content)), ARRAYS)
    assert_same(read_tensors(write_stream(tmp_path / "b.pth", content)), ARRAYS)


def test_entry_chooses_between_several_models(tmp_path):
    one, two = {"w": np.ones(2, "f4")}, {"w": np.zeros(2, "f4")}
    path = write_zip(tmp_path / "a.pth", {"left": tensors(one), "right": {"x": tensors(two)}})
    with pytest.raises(ValueError, match=r"several groups of tensors, left, right.*init\.entry"):
        read_tensors(path)
    assert_same(read_tensors(path, entry="right.x"), two)
    with pytest.raises(ValueError, match=r"no entry 'middle'; there: \['left', 'right'\]"):
        read_tensors(path, entry="middle")


def test_torchscript_attributes_become_names(tmp_path):
    weight, bias = np.ones((2, 2), "f4"), np.zeros(2, "f4")
    layer = Script(weight=Tensor(weight), bias=Tensor(bias), training=False)
    content = Script(visual=Script(**{"0": layer}), training=True, scale=2.5)
    path = write_zip(tmp_path / "a.pt", content, script=True)
    assert_same(read_tensors(path), {"visual.0.weight": weight, "visual.0.bias": bias})


def test_plain_pickle_of_numpy_arrays(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.asfortranarray(np.ones((2, 3), "f4"))}
    for protocol in (2, 3, 4, 5):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps({"model": arrays, "author": "x"}, protocol))
        assert_same(read_tensors(path), arrays)


def test_safetensors_with_any_extension(tmp_path):
    arrays = {k: v for k, v in ARRAYS.items() if k != "brain"}
    safetensors.numpy.save_file(arrays, tmp_path / "a.bin", metadata={"format": "pt"})
    read = read_tensors(tmp_path / "a.bin")
    assert_same({k: read[k] for k in arrays}, arrays)
    brain = {"brain": ARRAYS["brain"]}
    safetensors.numpy.save_file(brain, tmp_path / "b.bin")
    assert_same(read_tensors(tmp_path / "b.bin"), brain)


class Attack:
    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def attacks(marker):
    command = f"touch {marker}"
    return {
        "system": Attack(os.system, command),
        "eval": Attack(builtins.eval, f"open({str(marker)!r}, 'w')"),
        "getattr": Attack(getattr, "", "upper"),
        "open": Attack(open, str(marker), "w"),
        "whole module": Called(Named("torch.nn.modules.linear", "Linear"), ()),
        "other class": Called(Named("my_project.models", "Net"), ()),
    }


@pytest.mark.parametrize("name", list(attacks("x")))
def test_hostile_pickle_is_refused_and_not_run(tmp_path, name):
    marker = tmp_path / "ran"
    attack = attacks(marker)[name]
    for writer in (write_zip, write_stream):
        path = writer(tmp_path / "a.pth", {"model": tensors(ARRAYS), "extra": attack})
        with pytest.raises(RefusedPickle, match=r"a\.pth: .*asks for '[\w.]+'.*nothing.*was run"):
            read_tensors(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"(S'touch x'\nios\nsystem\n.", "asks for 'os.system'"),
        (b"(cos\nsystem\nS'touch x'\no.", "asks for 'os.system'"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "asks for 'posix.system'"),
        (b"c__builtin__\neval\n(S'1'\ntR.", r"asks for 'builtins\.eval'"),
        (b"ctorch\nFloatStorage\n(I3\ntR.", r"calls torch\.FloatStorage, which is only ever named"),
        (b"\x82\x01.", "uses EXT1"),
        (b"cbuiltins\ndict\n}b.", "sets the state of a Global"),
        (b"]}b.", "sets the state of a list"),
        (b"ctorch._utils\n_rebuild_qtensor\n.", "a tensor of a kind not read here"),
        (b"ctorch.os\nsystem\n.", r"asks for 'torch\.os\.system'"),
        (b"ccollections.OrderedDict.__init__.__globals__\nx\n.", "asks for 'collections"),
    ],
)
def test_every_way_to_a_callable_is_closed(tmp_path, raw, message):
    path = tmp_path / "a.pkl"
    path.write_bytes(raw if raw.startswith(b"\x80") else b"\x80\x02" + raw)
    with pytest.raises(RefusedPickle, match=message):
        read_tensors(path)


def test_nested_keys_and_shared_containers_cost_nothing(tmp_path):
    content = {"w": 1}
    for i in range(60):
        content = {"a": content, "b": content, "i": i}
    with pytest.raises(ValueError, match="holds no state dictionary"):
        read_tensors(write_zip(tmp_path / "a.pth", content))
    key = ()
    for _ in range(60):
        key = (key, key)
    data, _ = pickled([key])
    path = tmp_path / "b.pkl"
    path.write_bytes(b"\x80\x02}" + data[2:-2] + b"K\x01s.")
    with pytest.raises(ValueError, match="damaged"):
        read_tensors(path)


def test_a_number_is_no_request_for_memory(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x02cbuiltins\nbytearray\nL1000000000000000L\n\x85R.")
    with pytest.raises(ValueError, match="a int in place of bytes"):
        read_tensors(path)


def change_size(members):
    members["archive/data/0"] = members["archive/data/0"][:-4]


def lose_storage(members):
    del members["archive/data/0"]


def cut_pickle(members):
    members["archive/data.pkl"] = members["archive/data.pkl"][:-9]


def no_pickle(members):
    members["inner.pth"] = members.pop("archive/data.pkl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_size, "storage 0 should have 192 bytes, but 188 are stored"),
        (lose_storage, "storage 0 should have 192 bytes, but no are stored"),
        (cut_pickle, "pickle is damaged or truncated"),
        (no_pickle, r"no data\.pkl.*Unpack it and name the checkpoint inside"),
    ],
)
def test_damaged_archives(tmp_path, change, message):
    path = write_zip(tmp_path / "a.pth", tensors(ARRAYS), change=change)
    with pytest.raises(ValueError, match=message):
        read_tensors(path)


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(20, (8,), (1,)), (0, (2, 30), (1, 1)), (-1, (2,), (1,)), (0, (2,), (-1,))],
)
def test_a_view_beyond_its_storage_is_refused(tmp_path, offset, size, stride):
    content = {"w": Tensor(Storage(np.zeros(24, "f4")), offset, size, stride)}
    with pytest.raises(ValueError, match="does not fit its storage of 24 elements"):
        read_tensors(write_zip(tmp_path / "a.pth", content))


def test_a_small_file_cannot_become_a_huge_array(tmp_path):
    content = {"w": Tensor(Storage(np.zeros(24, "f4")), 0, (10**6, 10**6), (0, 0))}
    with pytest.raises(ValueError, match="does not fit its storage"):
        read_tensors(write_zip(tmp_path / "a.pth", content))
    bomb = tmp_path / "b.pth"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    with pytest.raises(ValueError, match=r"claims to unpack to 10000000"):
        read_tensors(bomb)


def test_flipped_bit_is_found_by_the_checksum(tmp_path):
    path = write_zip(tmp_path / "a.pth", tensors(ARRAYS))
    raw = bytearray(path.read_bytes())
    place = raw.find(ARRAYS["conv1.weight"].tobytes())
    raw[place + 3] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"damaged.*CRC.*switched off"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"just some text that is long enough", "begins with b'just some te'"),
        (b"\x80\x02}q\x00.", r"holds no state dictionary; got keys \[\]"),
        (b"\x80\x02K\x01.", "holds no state dictionary; got a int"),
        (b"PK\x03\x04 and no more", "truncated or damaged"),
        (b'\x10\0\0\0\0\0\0\0{"a": 1', "header is damaged"),
    ],
)
def test_what_is_no_file_of_weights_is_named(tmp_path, content, message):
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_tensors(path)
    assert str(path) in str(caught.value)


def test_absent_file_says_which_files_are_usual(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vit_x\.pth.*resnet50-19c8e357.*jx_vit_base_p16"):
        read_tensors(tmp_path / "vit_x.pth")
    with pytest.raises(FileNotFoundError, match=r"points: jx_vit_base_p16_224-80ecf9dd\.pth from"):
        read_tensors(tmp_path / "jx_vit_base_p16_224-80ecf9dd.pth")


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_any_truncation_or_change_ends_in_a_value_error_or_in_tensors(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    writer = data.draw(st.sampled_from([write_zip, write_stream]))
    raw = bytearray(writer(folder / "a.pth", {"model": tensors(ARRAYS)}).read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        raw[data.draw(st.integers(1, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = folder / "b.pth"
    path.write_bytes(raw[: data.draw(st.integers(1, len(raw)))])
    try:
        read = read_tensors(path)
    except ValueError:
        return
    assert all(isinstance(value, np.ndarray) for value in read.values())


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_strided_views_equal_numpy(tmp_path_factory, data):
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    array = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    view = array.transpose(data.draw(st.permutations(range(len(shape)))))
    view = view[:: data.draw(st.integers(1, 2))]
    stride = tuple(s // 4 for s in view.strides)
    content = {"w": Tensor(Storage(array), 0, view.shape, stride)}
    path = write_zip(tmp_path_factory.mktemp("views") / "a.pth", content)
    np.testing.assert_array_equal(read_tensors(path)["w"], view)


def test_harmless_classes_become_records_and_are_not_imported():
    assert "yacs" not in sys.modules
    raw = (
        b"\x80\x02cyacs.config\nCfgNode\n)\x81X\x02\x00\x00\x00lrG" + struct.pack(">d", 0.1) + b"s."
    )
    content = unpickle(io.BytesIO(raw), lambda record: None)
    assert (content.name, content.items) == ("yacs.config.CfgNode", {"lr": 0.1})
    data = pickle.dumps(
        {"a": [1, 2.5, "x", b"y", None, True, (1, 2)], "n": argparse.Namespace(b=1)}
    )
    content = unpickle(io.BytesIO(data), lambda record: None)
    assert content["a"] == [1, 2.5, "x", b"y", None, True, (1, 2)]
    assert (content["n"].name, content["n"].state) == ("argparse.Namespace", {"b": 1})
    assert "yacs" not in sys.modules


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("model.onnx", b"\x08\x07\x12\x07pytorch", "an ONNX program"),
        ("model.h5", b"\x89HDF\r\n", "an HDF5 file"),
        ("model.npy", b"\x93NUMPY\x01", "a single NumPy array"),
        ("model.pth.tar.gz", b"\x1f\x8b\x08", "a gzip archive; unpack it"),
        ("model.pth", b"\xff\xd8\xff\xe0", "a JPEG image"),
    ],
)
def test_files_that_are_no_weights_are_called_by_their_name(tmp_path, name, data, kind):
    (tmp_path / name).write_bytes(data + bytes(100))
    with pytest.raises(ValueError, match=kind):
        read_tensors(tmp_path / name)
