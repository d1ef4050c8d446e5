"""What can be asked of an answer for free once its values are right: the same call in other circumstances.

    again     the code was called before with other values, also in the same objects
    device    the inputs lie on another device than the CPU (see pretend.py), as on a GPU
    layout    the inputs are not contiguous: their memory has the order of a transposed tensor
    bfloat16  inputs and weights are bfloat16

Each must give what the plain call gave: in bfloat16 coarsely, and in the types in which the solution answers. A check
may leave one out, with a reason: see Check.spared.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from course.checking import helpers, pretend
from course.checking.calling import Raised
from course.checking.parts import Check, Problem
from course.checking.values import compare, mapped, placed, plain

AGAIN, BFLOAT16, DEVICE = "again", "bfloat16", "device"
MEASURED = (AGAIN, BFLOAT16)  # the solution's answer in the same manner is asked for as well
FEW = 0.05  # of the values, which may be further off
SECONDS = 4.0  # for one call: here code may be slow
COARSE = 0.25  # of the largest number: what bfloat16 may make of the same arithmetic in another order


@dataclass(frozen=True)
class Manner:
    """Circumstances in which `call(check, module, case)` makes a check's call.

    `when` and `advice` are for the learner.
    """

    name: str
    call: Callable[[Check, ModuleType, dict], Any]
    when: str
    advice: str


def counts(manner: Manner, raised: Raised) -> bool:
    """Whether an exception in this manner is a fault of the code: not where it only takes long, or where what the
    exception is about has nothing to do with the circumstances.
    """
    if manner.name == DEVICE:
        return raised.kind == "WrongDevice" or "numpy" in raised.message
    if manner.name == BFLOAT16:
        return raised.kind in ("RuntimeError", "TypeError")
    return raised.kind != "TooSlow"


def chosen(manner: Manner, cases: Sequence[dict]) -> list[tuple[int, dict]]:
    """(number, case) of those that are asked in this manner: all on the other device, where each branch may forget it;
    of the others three, for a learner waits.
    """
    numbered = list(enumerate(cases))
    return numbered if manner.name == DEVICE or len(cases) <= 3 else [numbered[i] for i in (0, len(cases) // 2, -1)]


def applies(manner: Manner, check: Check, case: dict) -> bool:
    """Whether a case can be handed over in this manner: most of them concern tensors."""
    if manner.name in check.spared:
        return False
    if manner.name == "again":
        return True
    tensor = helpers.first_float(case) if manner.name == "bfloat16" else helpers.first_tensor(case)
    return tensor is not None


def problem(manner: Manner, check: Check, answer: Any, plain_answer: Any, solved: Any) -> Problem | None:
    """What is wrong with an answer that was given in this manner; None when nothing is.

    plain_answer: the learner's, of the plain call with the same case. solved: the solution's in this manner, or None.
    """
    if manner.name == DEVICE and isinstance(answer, dict):
        if "cpu" in answer.get("places", ()):
            return Problem(DEVICE, "a tensor of the answer is on the CPU, and the inputs are not")
        answer = answer.get("value")
    if manner.name == BFLOAT16 and isinstance(answer, dict):
        answer, plain_answer = answer.get("value"), answer.get("rounded")
        found = _compared_coarsely(answer, plain_answer, solved and solved["value"], COARSE * _largest(plain_answer))
    else:
        rtol, atol = max(10 * check.rtol, 1e-3), max(10 * check.atol, 1e-4)
        other = None
        if manner.name == AGAIN and isinstance(answer, dict):
            other, answer = answer.get("other"), answer.get("value")
        found = compare(answer, plain_answer, rtol, atol)
        if not found and check.judge is None and other is not None and solved and solved["other"] is not None:
            found = compare(other, solved["other"], rtol, atol)  # a cache may have the plain call's answer
    return Problem(manner.name, found[0].text, found[0].expected, found[0].got) if found else None


def _compared_coarsely(answer: Any, rounded: Any, solved: Any, within: float) -> list[Problem]:
    """Shapes as in the answer to the rounded inputs in float32, types as in the solution's (a single number may have
    any), and floating numbers within `within`. Whole numbers may be others: a choice between two that are nearly alike.
    """
    if isinstance(answer, torch.Tensor) and isinstance(rounded, torch.Tensor):
        if answer.shape != rounded.shape:
            return compare(answer, rounded)
        if isinstance(solved, torch.Tensor) and answer.dim() and answer.dtype != solved.dtype:
            return compare(answer.new_zeros(answer.shape), solved.new_zeros(answer.shape))
        if not answer.is_floating_point() or not math.isfinite(within):
            return []
        off = ~torch.isclose(answer.float(), rounded.float(), COARSE, within + 1e-2, equal_nan=True)
        return compare(answer.float(), rounded.float(), COARSE, within + 1e-2) if off.float().mean() > FEW else []
    for key in _shared_keys(answer, rounded):
        measure = solved[key] if key in _shared_keys(solved, rounded) else None
        if found := _compared_coarsely(answer[key], rounded[key], measure, within):
            return found
    return []


def _largest(value: Any) -> float:
    """The largest floating number in an answer, by its size."""
    if isinstance(value, torch.Tensor):
        return float(value.abs().amax()) if value.is_floating_point() and value.numel() else 0.0
    return max(map(_largest, _parts(value)), default=0.0)


def _shared_keys(one: Any, other: Any) -> list:
    if isinstance(one, dict) and isinstance(other, dict):
        return [key for key in other if key in one]
    if isinstance(one, list) and isinstance(other, list):
        return list(range(min(len(one), len(other))))
    return []


# The calls --------------------------------------------------------------------------------------------------


def _on_a_device(check: Check, module: ModuleType, case: dict) -> dict:
    with pretend.pretending():
        value = check.call(module, mapped(case, lambda tensor: tensor.to(pretend.DEVICE)))
        return {"value": _back(value), "places": _places(value)}


def _parts(value: Any) -> list:
    if isinstance(value, dict):
        return list(dict.values(value))
    if isinstance(value, tuple):
        return list(tuple.__iter__(value))
    return value if isinstance(value, list) else []


def _back(value: Any) -> Any:
    """The value with its tensors on the CPU again."""
    if isinstance(value, pretend.Elsewhere):
        return value.held.clone()
    if isinstance(value, dict):
        return {key: _back(item) for key, item in dict.items(value)}
    return [_back(item) for item in _parts(value)] if isinstance(value, (list, tuple)) else value


def _places(value: Any) -> list[str]:
    """Where each tensor with a dimension lies: "there" or "cpu"."""
    if isinstance(value, torch.Tensor):
        return ["there" if isinstance(value, pretend.Elsewhere) else "cpu"] if value.dim() else []
    return [place for item in _parts(value) for place in _places(item)]


def _in_another_layout(check: Check, module: ModuleType, case: dict) -> Any:
    def transposed(tensor: torch.Tensor) -> torch.Tensor:
        backwards = tuple(reversed(range(tensor.dim())))
        return tensor.permute(backwards).contiguous().permute(backwards)

    return check.call(module, mapped(case, transposed))


def _again(check: Check, module: ModuleType, case: dict) -> dict:
    """The call after others: with other floating numbers, in inference mode and out of it, and in the same objects."""
    random, other = torch.get_rng_state(), mapped(case, _shuffled)
    with contextlib.suppress(Exception), torch.inference_mode():
        check.call(module, mapped(case, _shuffled))
    with helpers.reusing(module) as start_again:
        of_other = None
        with contextlib.suppress(Exception):
            of_other = plain(check.call(module, other))
        start_again()
        torch.set_rng_state(random)
        return {"value": check.call(module, _overwritten(other, case)), "other": of_other}


def _shuffled(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.flatten().flip(0).view(tensor.shape) if tensor.is_floating_point() else tensor.clone()


def _overwritten(objects: Any, values: Any) -> Any:
    """The same objects with other values in them: tensors, lists and dicts are changed in place."""
    if isinstance(objects, torch.Tensor) and isinstance(values, torch.Tensor) and objects.shape == values.shape:
        objects.data.copy_(values)
        return objects
    if type(objects) is list and type(values) is list:
        same = len(objects) == len(values)
        objects[:] = [_overwritten(*pair) for pair in zip(objects, values)] if same else values
        return objects
    if type(objects) is dict and type(values) is dict:
        new = {key: _overwritten(objects[key], value) if key in objects else value for key, value in values.items()}
        objects.clear()
        objects.update(new)
        return objects
    return values


def _in_bfloat16(check: Check, module: ModuleType, case: dict) -> dict:
    """The call, and the same in float32 with the very numbers that bfloat16 has."""
    coarse = placed(case, dtype=torch.bfloat16)
    random = torch.get_rng_state()
    rounded = check.call(module, placed(coarse, dtype=torch.float32))
    torch.set_rng_state(random)
    return {"value": check.call(module, coarse), "rounded": rounded}


# In this order: what is left of an earlier call would be seen as a tensor on the wrong device.
ALL = {
    manner.name: manner
    for manner in (
        Manner(
            "again",
            _again,
            "The first call is right. Here the same code had been called before with other values.",
            "Nothing of an earlier call may be left: not on self, not in a global variable, and not in a cache that "
            "knows only the shape or the identity of an input.",
        ),
        Manner(
            "device",
            _on_a_device,
            "The call is right on the CPU. Here the inputs were on another device, as on a GPU.",
            "Whatever the code makes itself must be made where its inputs are: torch.arange(n, device=x.device), "
            "torch.zeros_like(x), x.new_zeros(shape).",
        ),
        Manner(
            "layout",
            _in_another_layout,
            "The call is right for contiguous inputs. Here they were not contiguous, as after transpose.",
            "x.reshape(...) takes any layout, x.view(...) does not.",
        ),
        Manner(
            "bfloat16",
            _in_bfloat16,
            "The call is right in float32. Here inputs and weights were bfloat16.",
            "What the code makes itself takes the type of its inputs (dtype=x.dtype), and what it computes in float32 "
            "goes back to that type (.to(x.dtype)) before it meets them.",
        ),
    )
}
