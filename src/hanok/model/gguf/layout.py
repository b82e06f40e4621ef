"""The container's constants: value types, tensor types, and limits that no honest file comes near."""

from __future__ import annotations

import numpy as np

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32  # of every tensor's offset, unless `general.alignment` says otherwise

UINT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 4, 6, 7, 8, 9, 10
SCALARS: dict[int, np.dtype[np.generic]] = {
    0: np.dtype("<u1"),
    1: np.dtype("<i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    UINT32: np.dtype("<u4"),
    5: np.dtype("<i4"),
    FLOAT32: np.dtype("<f4"),
    BOOL: np.dtype("?"),
    UINT64: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}
SMALLEST = {kind: dtype.itemsize for kind, dtype in SCALARS.items()} | {STRING: 8, ARRAY: 12}  # bytes of one element
SMALLEST_ENTRY, SMALLEST_TENSOR = 8 + 4 + 1, 8 + 4 + 8 + 4 + 8

# What is read ahead of the tensors stays small whatever a file claims: a vocabulary of 150,000 tokens takes 8 MB.
MAX_HEADER = 1 << 28  # bytes
MAX_STRINGS = 1 << 22  # elements of string arrays, in the whole file
MAX_ENTRIES = 1 << 16  # keys, arrays within arrays, tensors: each
MAX_DEPTH = 4  # of arrays within arrays
MAX_NAME = 1 << 16  # bytes of a key or a tensor's name
MAX_DIMS = 4
MAX_ALIGNMENT = 1 << 16

UNREAD = {  # tensor types that exist and that we do not unpack, so that an error can name them
    9: "Q8_1",
    10: "Q2_K",
    11: "Q3_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
}
