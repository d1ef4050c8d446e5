"""Plain values: what cases and answers are made of, how they are copied, described and compared.

Plain are tensors, int, float, bool, str, bytes, None, and lists and dicts of these, of just these types: an object of
another class, which may say of itself that it equals everything, gets no further than `plain`.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from course.checking.parts import Problem

LARGEST = 2**27  # numbers in one tensor
DEEPEST = 32
GRADIENTS = ("grad", "parameters")  # where with_grad puts gradients: None there is no missing `return`


class NotPlain(TypeError):
    """A value that no answer may hold; `where` says at which place, the message what it is and what to do."""

    def __init__(self, where: str, text: str):
        super().__init__(text)
        self.where = where


def plain(value: Any, where: str = "answer", depth: int = 0) -> Any:
    """A copy of `value` that holds plain values only: tensors detached, tuples and ranges as lists, NumPy's numbers as
    Python's, a subclass of tuple or dict as what is in it. Raises NotPlain for everything else: NumPy arrays,
    generators, sets, other subclasses, objects.
    """
    kind = type(value)
    if depth > DEEPEST:
        raise NotPlain(where, "it is nested too deeply")
    if kind in (int, float, bool, str, bytes, type(None)):
        return value
    if kind is torch.Tensor or kind is nn.Parameter or kind is nn.Buffer:
        return _plain_tensor(value, where)
    if kind in (list, range) or issubclass(kind, tuple):  # with tuple's own methods, not the subclass's
        return [
            plain(item, f"{where}[{number}]", depth + 1)
            for number, item in enumerate(tuple.__iter__(value) if isinstance(value, tuple) else value)
        ]
    if issubclass(kind, dict):
        items = [(_key(key, where), item) for key, item in dict.items(value)]
        return {key: plain(item, f"{where}[{key!r}]", depth + 1) for key, item in items}
    if kind is bytearray:
        return bytes(value)
    if kind.__module__ == "numpy" and isinstance(value, (np.integer, np.floating, np.bool_)):
        return value.item()
    if isinstance(value, np.ndarray):
        raise NotPlain(where, "it is a NumPy array where a torch tensor belongs: torch.from_numpy(...) makes one")
    if isinstance(value, torch.Tensor):
        raise NotPlain(where, f"it is a {kind.__name__}, a subclass of torch.Tensor, where a plain tensor belongs")
    if isinstance(value, (set, frozenset)):
        raise NotPlain(where, "it is a set, which has no order: a list belongs here")
    if hasattr(kind, "__next__") or kind.__name__ in ("dict_keys", "dict_values", "dict_items"):
        raise NotPlain(where, f"it is a {kind.__name__}, not its items: wrap it in list(...)")
    raise NotPlain(where, f"it is an object of type {kind.__name__}, where a tensor, a number, text or a list belongs")


def _key(key, where):
    if isinstance(key, np.generic):
        key = key.item()
    if issubclass(type(key), tuple):
        return tuple(_key(part, where) for part in tuple.__iter__(key))
    if type(key) in (int, float, bool, str, bytes, type(None)):
        return key
    raise NotPlain(where, f"a dict's key is of type {type(key).__name__}, where text or a number belongs")


def _plain_tensor(tensor, where):
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        raise NotPlain(where, f"it is a tensor of layout {tensor.layout} on {tensor.device}, where a dense one belongs")
    if tensor.numel() > LARGEST:
        raise NotPlain(where, f"it is a tensor {list(tensor.shape)}, far too large")
    return tensor.detach().resolve_conj().resolve_neg().clone()


def mapped(value: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """The same nest of lists and dicts with `change` applied to every tensor."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: mapped(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [mapped(item, change) for item in value]
    return value


def placed(value: Any, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """A copy with every tensor on `device` and every floating tensor cast to `dtype`."""
    return mapped(
        value, lambda t: t.detach().clone().to(device=device, dtype=dtype if t.is_floating_point() else t.dtype)
    )


def fresh(value: Any) -> Any:
    """A copy that shares no memory with `value`."""
    return mapped(value, lambda t: t.clone())


def untouched(value: Any, handed: Any) -> bool:
    """Whether nothing has changed in `value`, which was made by `fresh(handed)`: the same objects everywhere, and
    in tensors the same bits. Asks no object what it equals."""
    if value is handed:
        return True
    if type(value) is not type(handed):
        return False
    if type(value) is torch.Tensor:
        return (value.dtype, value.device, value.layout) == (
            handed.dtype,
            handed.device,
            handed.layout,
        ) and torch.equal(value, handed)
    if type(value) is dict:
        return (
            len(value) == len(handed)
            and all(map(operator.is_, value, handed))
            and all(map(untouched, value.values(), handed.values()))
        )
    return type(value) is list and len(value) == len(handed) and all(map(untouched, value, handed))


def describe(value: Any) -> str:
    """A value in a few words: "tensor [2, 3, 5] float32", "list of 4", "'text'"."""
    if isinstance(value, torch.Tensor):
        number = f" = {_number(value.item())}" if value.dim() == 0 else ""
        return f"tensor {list(value.shape)} {_dtype(value)}{number}"
    if isinstance(value, (list, dict)):
        text = repr(value) if not _has_tensor(value) else ""
        if text and len(text) <= 70:
            return text
        if isinstance(value, list):
            return f"list of {len(value)}" + (f": {text[:60]}..." if text else "")
        names = ", ".join(str(key) for key in list(value)[:8])
        return f"dict of {len(value)}: {names}{', ...' if len(value) > 8 else ''}"
    if isinstance(value, float):
        return _number(value)
    text = repr(value)
    return text if len(text) <= 90 else text[:80] + f"... ({len(value)} long)"


def _has_tensor(value) -> bool:
    if isinstance(value, dict):
        return any(_has_tensor(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_tensor(item) for item in value)
    return isinstance(value, torch.Tensor)


def _dtype(tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _number(value) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


ROUNDING = 2e-6  # how exact float32 is after some sums, as a share of the largest number


def compare(answer: Any, expected: Any, rtol: float = 1e-4, atol: float = 1e-5, where: str = "answer") -> list[Problem]:
    """The problems of a plain answer against a plain expected value; an empty list when they agree.

    Goes down lists and dicts and compares types, lengths and keys, then of tensors shape, dtype, device and
    values. NaN agrees with NaN only, and an infinity with the same infinity only. Half precision gets the
    tolerance it needs, and in float32 a small number that of the largest beside it. An int may stand for a float, and
    a tensor of no dimensions for a number.
    """
    if answer is expected:
        return []
    if isinstance(expected, torch.Tensor):
        return _compare_tensors(answer, expected, rtol, atol, where)
    if answer is None and expected is not None:
        return [_nothing(where, expected)]
    if isinstance(expected, bool) or expected is None or isinstance(expected, (str, bytes)):
        return _compare_exactly(answer, expected, where)
    if isinstance(expected, (int, float)):
        return _compare_numbers(answer, expected, rtol, atol, where)
    if type(answer) is not type(expected):
        return [_type_differs(answer, expected, where)]
    if isinstance(expected, dict):
        problems = _compare_keys(answer, expected, where)
        pairs = [(_place(where, key), answer[key], expected[key]) for key in expected if key in answer]
    elif problems := _compare_lengths(answer, expected, rtol, atol, where):
        return problems
    else:
        pairs = [(f"{where}[{number}]", answer[number], expected[number]) for number in range(len(expected))]
    for place, inner_answer, inner_expected in pairs:
        if problems and place in GRADIENTS:
            break  # the gradients of a wrong output say nothing new
        problems += compare(inner_answer, inner_expected, rtol, atol, place)
        if len(problems) > 20:
            break
    return problems


def _compare_keys(answer, expected, where):
    missing = [key for key in expected if key not in answer]
    extra = [key for key in answer if key not in expected]
    faults = [
        f"{words} {', '.join(repr(key) for key in keys[:5])}{', ...' if len(keys) > 5 else ''}"
        for words, keys in (("lacks", missing), ("has, beyond what is expected,", extra))
        if keys
    ]
    if not faults:
        return []
    return [Problem(f"{where} keys", f"{where} {' and '.join(faults)}", describe(expected), describe(answer))]


def _compare_lengths(answer, expected, rtol, atol, where):
    if len(answer) == len(expected):
        return []
    pairs = enumerate(zip(answer, expected, strict=False))
    shorter = min(len(answer), len(expected))
    first = next((number for number, (got, wanted) in pairs if compare(got, wanted, rtol, atol)), shorter)
    text = f"{where} has {len(answer)} items, not {len(expected)}; the first difference is at [{first}]"
    return [Problem(f"{where} length", text, describe(expected), describe(answer))]


def _place(where, key):
    return str(key) if where == "answer" and isinstance(key, str) else f"{where}[{key!r}]"


def _nothing(where, expected):
    if where.partition("[")[0] in GRADIENTS:
        name = where.partition("[")[2].strip("]'")
        return Problem(
            f"{where} missing",
            f"no gradient reaches {name}: is it detached, or not used?",
            describe(expected),
            "no gradient",
        )
    return Problem(
        f"{where} type",
        f"{where} is None: the function ends without returning a value. Is a `return` missing?",
        describe(expected),
        "None",
    )


def _type_differs(answer, expected, where):
    return Problem(
        f"{where} type", f"{where} is {_kind(answer)}, not {_kind(expected)}", describe(expected), describe(answer)
    )


def _kind(value) -> str:
    if isinstance(value, torch.Tensor):
        return "a tensor"
    return {
        int: "an int",
        float: "a float",
        bool: "a bool",
        str: "text",
        bytes: "bytes",
        list: "a list",
        dict: "a dict",
        type(None): "None",
    }.get(type(value), type(value).__name__)


def _compare_exactly(answer, expected, where):
    if isinstance(expected, bool) and isinstance(answer, torch.Tensor) and answer.dim() == 0:
        answer = answer.item()
    if type(answer) is not type(expected):
        return [_type_differs(answer, expected, where)]
    if answer == expected:
        return []
    text = f"{where} differs"
    if isinstance(expected, (str, bytes)):
        shorter = min(len(answer), len(expected))
        first = next((i for i in range(shorter) if answer[i] != expected[i]), shorter)
        text = (
            f"{where} differs from position {first} on: expected {expected[first : first + 20]!r}, "
            f"got {answer[first : first + 20]!r}"
        )
    return [Problem(f"{where} values", text, describe(expected), describe(answer))]


def _compare_numbers(answer, expected, rtol, atol, where):
    if isinstance(answer, torch.Tensor) and answer.dim() == 0 and not answer.is_complex():
        answer = answer.item()
    if type(answer) not in (int, float) or (type(expected) is int and type(answer) is not int):
        return [_type_differs(answer, expected, where)]
    if type(expected) is int:
        same = answer == expected
    elif type(answer) is int and abs(answer) > 1e300:  # hundreds of digits: no float is that large
        same = False
    elif math.isnan(expected) or math.isnan(answer):
        same = math.isnan(expected) and math.isnan(answer)
    elif math.isinf(expected) or abs(answer) == math.inf:
        same = answer == expected
    else:
        same = abs(answer - expected) <= atol + rtol * abs(expected)
    if same:
        return []
    if isinstance(answer, float) and math.isnan(answer):
        return [Problem(f"{where} nan", f"{where} is NaN (not a number)", describe(expected), "nan")]
    return [
        Problem(
            f"{where} values",
            f"{where} is {_number(answer)}, expected {_number(expected)}",
            describe(expected),
            describe(answer),
        )
    ]


def _compare_tensors(answer, expected, rtol, atol, where):
    if (
        isinstance(answer, torch.Tensor)
        and (answer.dtype, answer.device) == (expected.dtype, expected.device)
        and torch.equal(answer, expected)
    ):
        return []  # bit for bit, as most right answers are: many times faster than what follows
    if answer is None:
        return [_nothing(where, expected)]
    if not isinstance(answer, torch.Tensor):
        return [_type_differs(answer, expected, where)]
    forms = describe(expected), describe(answer)
    if answer.shape != expected.shape:
        text = f"{where} has the shape {list(answer.shape)}, not {list(expected.shape)}"
        return [Problem(f"{where} shape", text, *forms)]
    if answer.dtype != expected.dtype:
        return [Problem(f"{where} dtype", f"{where} is of dtype {_dtype(answer)}, not {_dtype(expected)}", *forms)]
    if answer.device.type != expected.device.type:
        return [Problem(f"{where} device", f"{where} lies on {answer.device}, not on {expected.device}", *forms)]
    got, wanted = answer.cpu(), expected.cpu()
    if got.is_complex():
        got, wanted = torch.view_as_real(got), torch.view_as_real(wanted)
    if not got.is_floating_point():
        return _differences(where, got, wanted, got != wanted, forms)
    return _compare_floats(got, wanted, rtol, atol, where, forms)


def _compare_floats(got, wanted, rtol, atol, where, forms):
    """Two floating tensors of one shape and dtype, on the CPU."""
    if got.dtype in (torch.float16, torch.bfloat16):
        rtol, atol = max(rtol, 2e-2), max(atol, 2e-2)
    coarse = got.dtype != torch.float64
    got, wanted = got.double(), wanted.double()
    if coarse and atol and wanted.isfinite().any():
        # A small number among large ones is a sum of large ones, and no more exact than they are.
        atol = max(atol, ROUNDING * wanted[wanted.isfinite()].abs().max().item())
    strange = got.isnan() & ~wanted.isnan()
    if strange.any():
        places, first = f"{int(strange.sum())} of {got.numel()} places", strange.nonzero()[0].tolist()
        return [Problem(f"{where} nan", f"{where} holds NaN (not a number) in {places}, first at {first}", *forms)]
    equal = (got == wanted) | (got.isnan() & wanted.isnan())
    close = ((got - wanted).abs() <= atol + rtol * wanted.abs()) & wanted.isfinite()
    return _differences(where, got, wanted, ~(equal | close), forms)


def _differences(where, got, wanted, wrong, forms):
    """What there is to say of two tensors that differ at the places `wrong`."""
    if not wrong.any():
        return []
    first = tuple(wrong.nonzero()[0].tolist())
    text = f"expected {_number(wanted[first].item())}, got {_number(got[first].item())}"
    if got.dim():
        text = f"the first difference is at {list(first)}: {text}"
    if got.numel() > 1:
        text += f"; {int(wrong.sum())} of {got.numel()} values differ"
        if got.dtype == torch.float64:
            text += f", by up to {(got - wanted)[wrong].abs().max().item():.3g}"
    return [Problem(f"{where} values", f"{where}: {text}", *forms)]


def nothing_returned(answer: Any, expected: Any) -> list[Problem]:
    """For checks with a judge: where the answer, or a value that it names, is None and the solution's is not."""
    if answer is None and expected is not None:
        return [_nothing("answer", expected)]
    if isinstance(answer, dict) and isinstance(expected, dict):
        return [
            _nothing(str(key), expected[key])
            for key in expected
            if key in answer and key not in GRADIENTS and answer[key] is None and expected[key] is not None
        ]
    return []
