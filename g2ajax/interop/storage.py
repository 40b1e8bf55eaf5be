"""PyTorch storages and strided tensors, as records of bytes in a file."""

import dataclasses
import math

import ml_dtypes
import numpy as np

_NAMES = {
    "f8": "float64 double",
    "f4": "float32 float",
    "f2": "float16 half",
    "i8": "int64 long",
    "i4": "int32 int",
    "i2": "int16 short",
    "i1": "int8 char",
    "u8": "uint64",
    "u4": "uint32",
    "u2": "uint16",
    "u1": "uint8 byte untyped",
    "?": "bool",
    "c8": "complex64 complexfloat",
    "c16": "complex128 complexdouble",
}
DTYPES = {name: np.dtype(code) for code, names in _NAMES.items() for name in names.split()}
"""Name of a PyTorch type, also of its storage class → NumPy's type."""
DTYPES |= {
    name: np.dtype(getattr(ml_dtypes, name))
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")
}


@dataclasses.dataclass(frozen=True)
class Storage:
    """A block of numbers in the file; `start` is an offset in elements of the root block."""

    dtype: np.dtype
    key: str
    numel: int
    start: int = 0


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A strided view of a storage; offset and strides are in elements."""

    storage: Storage
    dtype: np.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self, data: bytes, *, swap: bool = False) -> np.ndarray:
        """Values of the tensor from the bytes of its storage; `swap` reverses the byte order.

        Raises ValueError if the view exceeds the storage.
        """
        if swap:
            unit = self.dtype.itemsize // (2 if self.dtype.kind == "c" else 1)
            data = np.frombuffer(data, f"u{unit}").byteswap().tobytes()
        flat = np.frombuffer(data, self.dtype)
        count = math.prod(self.size)
        if count == 0:
            return np.empty(self.size, self.dtype)
        start = self.storage.start + self.offset
        last = start + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        negative = min((self.offset, *self.size, *self.stride)) < 0
        # A view may repeat elements (torch's expand), within limits.
        if negative or last >= flat.size or count * self.dtype.itemsize > max(len(data), 2**30):
            raise ValueError(
                f"a tensor of shape {self.size} and strides {self.stride} does not fit its storage "
                f"of {flat.size} elements; the file is damaged"
            )
        strides = [s * self.dtype.itemsize for s in self.stride]
        # Not as_strided, which needs a type string that 8-bit floats do not have.
        view = np.ndarray(self.size, self.dtype, data, start * self.dtype.itemsize, strides)
        return np.asarray(view, order="C") if count <= flat.size else view


def storage_dtype(name: str) -> np.dtype:
    """Element type of a storage class such as `torch.FloatStorage`."""
    short = name.rpartition(".")[2].removesuffix("Storage").lower()
    if short not in DTYPES:
        raise ValueError(f"a storage of unknown type {name}")
    return DTYPES[short]
