"""Whose code a later step uses: the learner's, and the solution's where a TODO does not pass yet."""

import os
import sys
from pathlib import Path
from types import ModuleType

from course import authoring, checking, steps
from course.checking import record, states
from course.display.commands import command
from course.errors import CourseError


def use(step: steps.StepName, code: str = "chain", folder: Path | str | None = None) -> ModuleType:
    """The module of a step, for train.py and the notebooks of the steps after it.

    `code` "chain" is the learner's model_exercise.py (in `folder`, by default the step's) with the functions
    of the TODOs that do not pass filled in from the solution; "solution" is the solution. The module's
    `__course__` says of each TODO whose it is: {todo: "mine" | "solution"}. Where the learner's file cannot
    serve (it does not import, or does not work together with what is filled in), the whole solution does, and
    a line on stderr says why.
    """
    step = steps.find_step(step)
    if code not in ("chain", "solution"):
        raise ValueError(f'code is "chain" or "solution", not {code!r}')
    if code == "solution":
        return _solution(step)
    if not step.file("solution").exists():
        return _all_mine(step, folder)
    path = Path(folder) / steps.FILES["exercise"] if folder is not None else step.file("exercise")
    try:
        mine, warning = plan(step, path)
    except FileNotFoundError as error:
        mine, warning = [], f"{error.filename} is missing"
    if warning and os.environ.get("RANK", "0") == "0":
        print(f"{step.name}: using the solution's code: {warning}", file=sys.stderr)
    if not mine:
        return _solution(step)
    module = steps.load(step, "exercise", path) if len(mine) == len(step.todos) else _filled(step, path, mine)
    vars(module)["__course__"] = {todo: "mine" if todo in mine else "solution" for todo in step.todos}
    return module


def _all_mine(step, folder) -> ModuleType:
    """The learner's module in a copy of the course that has no solution of this step to fill it up with."""
    path = Path(folder) / steps.FILES["exercise"] if folder is not None else step.file("exercise")
    verdict = states.verdicts(step, path)
    missing = [todo for todo in step.todos if verdict["todos"].get(todo) != "passed"]
    if missing:
        do = "does" if len(missing) == 1 else "do"
        raise CourseError(
            f"{step.name} is needed here, and {', '.join(missing)} {do} not pass yet. This copy of the "
            f"course has no solution to put in its place: {command('check', step.short)}"
        )
    module = steps.load(step, "exercise", path)
    vars(module)["__course__"] = dict.fromkeys(step.todos, "mine")
    return module


def _solution(step) -> ModuleType:
    if not step.file("solution").exists() and step.file("stored").exists():
        raise CourseError(f"This copy of the course has no solution of {step.name}.")
    module = steps.load(step, "solution")
    vars(module)["__course__"] = dict.fromkeys(step.todos, "solution")
    return module


def plan(step: steps.StepName, path: Path) -> tuple[list[str], str]:
    """(the TODOs that the learner's file contributes, why the rest of it cannot serve or ""), remembered
    by hash.
    """
    step = steps.find_step(step)
    verdict = states.verdicts(step, path)
    if verdict["error"]:
        return [], verdict["error"]
    mine = [todo for todo in step.todos if verdict["todos"].get(todo) == "passed"]
    if not mine or len(mine) == len(step.todos):
        return mine, ""
    key = record.fingerprint(step, path)
    known = record.recall(step, "chain", key)
    if known is None:
        known = {"warning": _trouble(step, path, mine)}
        record.remember(step, "chain", key, known)
    return ([], known["warning"]) if known["warning"] else (mine, "")


def _filled(step, path, mine) -> ModuleType:
    source = path.read_text(encoding="utf-8")
    solution = step.file("solution").read_text(encoding="utf-8")
    owned = authoring.todo_functions(solution)
    others = [todo for todo in step.todos if todo not in mine]
    names = [name for todo in others for name in owned[todo]]
    return steps.execute(
        authoring.transplant(source, solution, names),
        path,
        f"course_{step.slug}_chain",
        shown_as=f"{path} (with the solution's {', '.join(others)})",
    )


def _trouble(step, path, mine) -> str:
    """Why the learner's file with the solution's functions in it does not work; "" when every check passes
    on it.
    """
    try:
        module = _filled(step, path, mine)
    except Exception as error:  # given code that was taken out, say
        return f"{path.name} does not go together with the solution's functions: {type(error).__name__}: {error}"
    failed = [finding for finding in checking.check_step(step, module, diagnose=False) if not finding.passed]
    steps.forget(module)
    if not failed:
        return ""
    return (
        f"{path.name} with the solution's functions filled in does not pass "
        f"{', '.join(finding.todo for finding in failed)}: was given code changed?"
    )
