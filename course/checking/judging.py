"""The three parts of a check, apart: a grader makes cases and judges answers on its side, and runs `answered` in a
confined process that has never seen the solution.
"""

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch

from course.checking import calling, manners
from course.checking.parts import Check, Problem
from course.checking.values import NotPlain, compare, fresh, nothing_returned, placed, plain, untouched


def make_cases(
    check: Check, seed: int, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> list[dict]:
    """The check's cases for a seed, floating tensors in `dtype` and all on `device`. Raises NotPlain for a case that
    holds what cannot be handed over, and ValueError when there is none: both are the check's fault, not the learner's.
    """
    generator = torch.Generator().manual_seed(seed)
    cases = [placed(plain(case, f"case {number}"), device, dtype) for number, case in enumerate(check.cases(generator))]
    if not cases:
        raise ValueError(f"check {check.id} makes no cases")
    return cases


IN_PLACE = "the code changes its input in place: "
JUDGING = 20.0  # seconds for judging one answer, whatever it holds


@dataclass
class Answer:
    """What came of one call: a plain value and the case as it is afterwards (the case itself where nothing in
    it has changed); or what was raised; or why neither.
    """

    value: object = None
    after: dict | None = None
    raised: calling.Raised | None = None
    refused: Problem | None = None  # the value was not plain


def answered(
    check: Check,
    module: ModuleType,
    case: dict,
    *,
    seed: int = 0,
    kept: calling.Kept | None = None,
    seconds: float | None = calling.SECONDS,
    manner: str = "",
) -> Answer:
    """Run `check.call(module, case)` on a copy of the case, in a manner of manners.py if one is named. Never raises."""
    handed = fresh(case)

    def call():
        value = manners.ALL[manner].call(check, module, handed) if manner else check.call(module, handed)
        try:
            return plain(value), None
        except NotPlain as error:
            return None, Problem(f"{error.where} type", f"{error.where} is no value that can be judged: {error}")

    result, raised = calling.run(call, shown_as(module), seed=seed, kept=kept, seconds=seconds)
    if raised is not None:
        return Answer(raised=raised)
    value, refused = result
    if manner:  # the inputs are not the case's: what is changed in them, the plain call has shown
        return Answer(value, case, refused=refused)
    try:
        after = case if untouched(handed, case) else plain(handed, "inputs")
    except NotPlain as error:
        return Answer(value, refused=Problem("inputs", f"after the call an input is changed: {error}"))
    return Answer(value, after, refused=refused)


def problems(check: Check, case: dict, answer: Answer, expected: Any) -> list[Problem]:
    """What is wrong with an answer that was not raised, given the solution's to the same case; empty when
    nothing is. Never raises for anything an answer holds, and ends.
    """
    try:
        with calling.limit(JUDGING):
            return _problems(check, case, answer, expected)
    except (Exception, calling.TooSlow) as error:
        return [Problem("form", f"the answer has not the form that was asked for ({type(error).__name__})")]


def _problems(check, case, answer, expected):
    if answer.refused is not None:
        return [answer.refused]
    if check.judge is None:
        faults = compare(answer.value, expected, check.rtol, check.atol)
    else:
        faults = nothing_returned(answer.value, expected) or _judged(check, case, answer, expected)
    if not faults:
        changed = compare(answer.after, case, 0.0, 0.0, "the input")[:1]
        return [Problem("inputs", IN_PLACE + fault.text) for fault in changed]
    return [
        replace(fault, text=IN_PLACE + fault.text) if fault.text.startswith("inputs[") else fault for fault in faults
    ]


def _judged(check, case, answer, expected):
    """What the check's own judge says; where it stumbles over an answer of another form than it expects, what is wrong
    with the form."""
    try:
        return list(check.judge(fresh(case), fresh(answer.value), fresh(expected)))
    except Exception as error:
        faults = compare(answer.value, expected, check.rtol, check.atol)
        faults = [fault for fault in faults if not fault.property.endswith(("values", "nan"))]
        return faults or [Problem("form", f"the answer has not the form that was asked for ({error!r})")]


def shown_as(module: object) -> str:
    """The name under which the module's code was compiled, which its frames carry."""
    return getattr(module, "__shown__", None) or str(getattr(module, "__file__", ""))
