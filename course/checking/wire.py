"""Plain values as bytes, without pickle: a fixed prefix, a JSON header, and the raw bytes of tensors.

A message is a plain value (see course/checking/values.py). Scalars, text and lists stand in the JSON as they are.
Everything else is an object with one key: {"t": [dtype, shape]} for a tensor and {"b": length} for bytes, whose
contents follow in order after the header; {"d": [[key, value], ...]} for a dict; {"k": [...]} for a tuple used as a
key. So nothing that arrives can point anywhere, name a type outside the table, or be larger than what was sent for it.
"""

import json
import math
import struct
from typing import Any

import torch

PREFIX = struct.Struct(">III")  # sequence number, bytes of the header, bytes after it
HEADER, RAW = 2**22, 2**26  # bytes of one message
DEEPEST = 40
DIMS = 8
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float32,
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.complex64,
        torch.complex128,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    )
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Fault(Exception):
    """What arrived is no message, or what should be sent cannot be one."""


def pack(value: Any, header_most: int = HEADER, raw_most: int = RAW) -> tuple[bytes, bytes]:
    """A plain value as (header, raw bytes). Raises Fault where it is too large or of a dtype outside the table."""
    raw: list = []
    try:
        header = json.dumps(_packed(value, raw), separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:
        raise Fault(f"it cannot be sent: {error}") from None
    body = b"".join(raw)
    if len(header) > header_most or len(body) > raw_most:
        raise Fault(f"it is far too large ({(len(header) + len(body)) / 1e6:.0f} MB)")
    return header, body


def _packed(value, raw):
    if isinstance(value, torch.Tensor):
        name = NAMES.get(value.dtype)
        if name is None or value.dim() > DIMS:
            raise Fault(f"a tensor of dtype {value.dtype} and {value.dim()} dimensions belongs in no answer")
        if value.numel():
            value = value.detach().contiguous()
            raw.append((value.view(torch.int16) if value.dtype is torch.bfloat16 else value).numpy())
        return {"t": [name, list(value.shape)]}
    if isinstance(value, bytes):
        raw.append(value)
        return {"b": len(value)}
    if isinstance(value, dict):
        return {"d": [[_packed(key, raw), _packed(item, raw)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"k": [_packed(item, raw) for item in value]}
    if isinstance(value, list):
        return [_packed(item, raw) for item in value]
    return value


def unpack(header: bytes | bytearray, raw: bytes | bytearray) -> Any:
    """The value of a message. Its tensors lie in `raw` where that is a bytearray, and in a copy where it is
    bytes. Raises Fault for anything that `pack` does not make.
    """
    try:
        tree = json.loads(header)
    except (ValueError, RecursionError):
        raise Fault("the header is no JSON") from None
    value, used = _unpacked(tree, raw if isinstance(raw, bytearray) else bytearray(raw), 0, 0)
    if used != len(raw):
        raise Fault("there are bytes that belong to nothing")
    return value


def _unpacked(tree, raw, at, depth):
    """(the value, where the raw bytes of the next one begin)."""
    if depth > DEEPEST:
        raise Fault("it is nested too deeply")
    if type(tree) is list:
        return _items(tree, raw, at, depth)
    if type(tree) is not dict:
        return tree, at
    if len(tree) != 1:
        raise Fault("the header names no value")
    ((kind, content),) = tree.items()
    if kind == "t":
        return _tensor(content, raw, at)
    if kind == "b":
        if type(content) is not int or not 0 <= content <= len(raw) - at:
            raise Fault("bytes are missing")
        return bytes(raw[at : at + content]), at + content
    if kind == "k" and type(content) is list:
        items, at = _items(content, raw, at, depth)
        return tuple(map(_key, items)), at
    if kind == "d" and type(content) is list:
        value = {}
        for pair in content:
            if type(pair) is not list or len(pair) != 2:
                raise Fault("a dict is no list of pairs")
            (key, item), at = _items(pair, raw, at, depth)
            value[_key(key)] = item
        return value, at
    raise Fault("the header names no value")


def _items(items, raw, at, depth):
    unpacked = []
    for item in items:
        if type(item) in (list, dict):
            item, at = _unpacked(item, raw, at, depth + 1)
        unpacked.append(item)
    return unpacked, at


def _key(key):
    if type(key) in (list, dict, torch.Tensor):
        raise Fault("a key is no text and no number")
    return key


def _tensor(content, raw, at):
    if type(content) is not list or len(content) != 2:
        raise Fault("a tensor has no dtype and shape")
    name, shape = content
    if type(name) is not str or name not in DTYPES or type(shape) is not list or len(shape) > DIMS:
        raise Fault("a tensor has no dtype and shape")
    dtype = DTYPES[name]
    count = 1
    for size in shape:
        if type(size) is not int or not 0 <= size < 2**31:
            raise Fault("a tensor has no dtype and shape")
        count *= size
    end = at + count * dtype.itemsize
    if end > len(raw):
        raise Fault("a tensor's bytes are missing")
    if not count:
        if math.prod(max(size, 1) for size in shape) > 2**40:
            raise Fault("a tensor is too large")
        return torch.empty(shape, dtype=dtype), at
    if dtype is torch.bool:  # a byte that is neither 0 nor 1 is no bool to rely on
        return (torch.frombuffer(raw, dtype=torch.uint8, count=count, offset=at) != 0).view(shape), end
    if at % dtype.itemsize:  # torch reads numbers at multiples of their size only, and this begins elsewhere: copy it
        return torch.frombuffer(raw[at:end], dtype=dtype).view(shape), end
    return torch.frombuffer(raw, dtype=dtype, count=count, offset=at).view(shape), end
