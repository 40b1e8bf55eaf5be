"""Writes files as `torch.save` and `torch.jit.save` do, without PyTorch."""

import collections
import io
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np

STORAGES = {
    "f4": "FloatStorage",
    "f8": "DoubleStorage",
    "f2": "HalfStorage",
    "i8": "LongStorage",
    "i4": "IntStorage",
    "u1": "ByteStorage",
    "b1": "BoolStorage",
}


class Named:
    """A global that the pickle mentions."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self, *args):
        raise AssertionError("only named")


class Storage:
    """Numbers that several tensors may share."""

    def __init__(self, array, cls=None, view=None):
        self.array = np.ascontiguousarray(array).reshape(-1)
        self.named = cls
        self.view = view  # of the older format: (key, start, length)

    @property
    def cls(self):
        if self.named:
            return self.named
        if self.array.dtype == ml_dtypes.bfloat16:
            return Named("torch", "BFloat16Storage")
        return Named("torch", STORAGES[self.array.dtype.str[1:]])


class Tensor:
    """A strided view of a storage, in elements."""

    def __init__(self, storage, offset=None, size=None, stride=None, call="_rebuild_tensor_v2"):
        if isinstance(storage, np.ndarray):
            size = storage.shape
            stride = tuple(s // storage.itemsize for s in np.ascontiguousarray(storage).strides)
            stride = stride[: len(size)]
            storage, offset = Storage(storage), 0
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride
        self.call = call


class Called:
    """An object the pickle builds by calling a global, then perhaps setting its state."""

    def __init__(self, function, args, state=None):
        self.function, self.args, self.state = function, args, state


class Script:
    """A TorchScript module: a class of its own and attributes."""

    def __init__(self, **attributes):
        self.attributes = attributes


class Pickler(pickle._Pickler):
    """The pure Python pickler with the objects above."""

    dispatch = dict(pickle._Pickler.dispatch)

    def __init__(self, stream, legacy=False, protocol=2):
        super().__init__(stream, protocol)
        self.legacy = legacy
        self.storages = {}

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        key = next((k for k, s in self.storages.items() if s is value), str(len(self.storages)))
        self.storages[key] = value
        record = ("storage", value.cls, key, "cpu", value.array.size)
        return (*record, value.view) if self.legacy else record

    def save_named(self, value):
        self.write(b"c" + f"{value.module}\n{value.name}\n".encode())

    def save_tensor(self, value):
        args = (value.storage, value.offset, tuple(value.size), tuple(value.stride))
        if value.call == "_rebuild_tensor_v2":
            args += (False, collections.OrderedDict())
        elif isinstance(value.call, tuple):
            args += (False, collections.OrderedDict(), value.call[1])
        name = value.call if isinstance(value.call, str) else value.call[0]
        self.save_reduce(Named("torch._utils", name), args, obj=value)

    def save_called(self, value):
        self.save_reduce(value.function, value.args, state=value.state, obj=value)

    def save_script(self, value):
        self.save_named(Named("__torch__", "Module"))
        self.write(b")\x81")
        self.memoize(value)
        self.save(value.attributes)
        self.write(b"b")

    dispatch[Named] = save_named
    dispatch[Tensor] = save_tensor
    dispatch[Called] = save_called
    dispatch[Script] = save_script


def pickled(content, **options):
    """The pickle of `content` and its storages."""
    stream = io.BytesIO()
    pickler = Pickler(stream, **options)
    pickler.dump(content)
    return stream.getvalue(), pickler.storages


def write_zip(path, content, *, root="archive", big=False, change=None, script=False):
    """A zip archive; `change(members)` may spoil the members before they are written."""
    data, storages = pickled(content)
    members = {f"{root}/data.pkl": data}
    for key, storage in storages.items():
        array = storage.array
        raw = array.view(f"u{array.itemsize}") if array.dtype != bool else array.view("u1")
        members[f"{root}/data/{key}"] = (raw.byteswap() if big else raw).tobytes()
    members[f"{root}/byteorder"] = b"big" if big else b"little"
    members[f"{root}/version"] = b"3\n"
    if script:
        members[f"{root}/constants.pkl"] = pickle.dumps((), 2)
        members[f"{root}/code/__torch__.py"] = b"class Module(Module): pass\n"
    if change:
        change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, value in members.items():
            archive.writestr(name, value)
    return path


def write_stream(path, content):
    """The older format: magic, version, system, content, keys, then the storages."""
    data, storages = pickled(content, legacy=True)
    system = {"protocol_version": 1001, "little_endian": True}
    parts = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2)]
    parts += [pickle.dumps(system, 2), data, pickle.dumps(sorted(storages), 2)]
    for key in sorted(storages):
        array = storages[key].array
        parts.append(struct.pack("<q", array.size) + array.tobytes())
    path.write_bytes(b"".join(parts))
    return path


def tensors(arrays):
    """A state dictionary of contiguous tensors, ordered and with its notes, as torch makes it."""
    content = collections.OrderedDict((k, Tensor(np.asarray(v))) for k, v in arrays.items())
    content._metadata = collections.OrderedDict([("", {"version": 1})])
    return content
