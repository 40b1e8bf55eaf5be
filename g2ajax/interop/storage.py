"""PyTorch storages and strided tensors, as records of bytes in a file."""

import dataclasses
import math

import ml_dtypes
import numpy as np

DTYPES = {
    "float64": np.dtype("f8"),
    "double": np.dtype("f8"),
    "float32": np.dtype("f4"),
    "float": np.dtype("f4"),
    "float16": np.dtype("f2"),
    "half": np.dtype("f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "int64": np.dtype("i8"),
    "long": np.dtype("i8"),
    "int32": np.dtype("i4"),
    "int": np.dtype("i4"),
    "int16": np.dtype("i2"),
    "short": np.dtype("i2"),
    "int8": np.dtype("i1"),
    "char": np.dtype("i1"),
    "uint8": np.dtype("u1"),
    "byte": np.dtype("u1"),
    "uint16": np.dtype("u2"),
    "uint32": np.dtype("u4"),
    "uint64": np.dtype("u8"),
    "bool": np.dtype("?"),
    "complex64": np.dtype("c8"),
    "complexfloat": np.dtype("c8"),
    "complex128": np.dtype("c16"),
    "complexdouble": np.dtype("c16"),
    "untyped": np.dtype("u1"),
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
