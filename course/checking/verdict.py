"""From answers to findings: the verdict on a TODO, the recognised mistake, whole steps and files."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from course import steps
from course.authoring.source import same_function, todo_functions
from course.checking import calling, lessons, manners
from course.checking.finding import Finding, display
from course.checking.judging import Answer, problems
from course.checking.lessons import Lesson
from course.checking.parts import Check
from course.checking.record import note
from course.checking.reference import Reference, StoredReference
from course.checking.subject import Module
from course.checking.values import compare, describe
from course.errors import CourseError


def check(
    step: steps.StepName,
    module: ModuleType,
    todo: str,
    *,
    seed: int | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    seconds: float | None = calling.SECONDS,
    diagnose: bool = True,
) -> Finding:
    """Check one TODO of a loaded module and say what was found. Never raises for anything the module's code does.

    Cases come from `seed`, or are new each time. When the TODO fails and one that it needs fails too, the
    finding is "blocked". `diagnose=False` leaves out the search for a known mistake.
    """
    lesson = lessons.lesson(step)
    reference = _reference(lesson, _seed(seed), device, dtype)
    return judged(Module(lesson, module), reference, [todo], seconds=seconds, diagnose=diagnose)[0]


def judged(
    subject: Any,
    reference: Reference,
    todos: Iterable[str],
    *,
    seconds: float | None = calling.SECONDS,
    diagnose: bool = True,
) -> list[Finding]:
    """The findings for these TODOs of a subject: a `Module`, or whatever answers like one."""
    known: dict[str, Finding] = {}
    return [_check(reference.lesson, subject, todo, reference, seconds, diagnose, known) for todo in todos]


def _reference(lesson: Lesson, *arguments) -> Reference:
    return StoredReference(lesson, *arguments) if lesson.stored is not None else Reference(lesson, *arguments)


def _seed(seed):
    return int.from_bytes(os.urandom(4), "little") if seed is None else seed


def _check(lesson: Lesson, subject, todo, reference, seconds, diagnose, known) -> Finding:
    if todo in known:
        return known[todo]
    if todo not in lesson.checks:
        raise steps.unknown(f"check in {lesson.step.name} called", todo, list(lesson.checks))
    finding, answers = _verdict(lesson, subject, todo, reference, seconds)
    known[todo] = finding
    if finding.status in ("wrong", "raised"):
        for need in lesson.checks[todo].needs:
            other = _check(lesson, subject, need, reference, seconds, diagnose, known)
            if not other.passed:
                finding = plain_finding(
                    lesson,
                    subject,
                    todo,
                    "blocked",
                    reference.seed,
                    blocked_by=other.blocked_by or need,
                    note=f"It builds on {need}, which is {other.headline}: start there.",
                )
                break
        else:
            if diagnose and not finding.manner:
                _recognise(lesson, todo, finding, answers, reference)
    known[todo] = finding
    return finding


def plain_finding(lesson: Lesson, subject: Any, todo: str, status: str, seed: int, **more: Any) -> Finding:
    """A finding with what is known of the TODO; `more` are its other fields."""
    check = lesson.checks[todo]
    finding = Finding(
        lesson.step.name,
        todo,
        status,
        asks=check.asks,
        points=check.points,
        seed=seed,
        hint=check.hints[0] if check.hints else "",
        file=subject.file,
        command=f"python3 -m course hint {lesson.step.short}.{todo}",
    )
    finding.line = _line(lesson, subject, todo)
    for name, value in more.items():
        setattr(finding, name, value)
    return finding


def _names(lesson: Lesson, todo) -> list[str]:
    return todo_functions(lesson.source).get(todo, [])


def _line(lesson, subject, todo) -> int | None:
    """The line of the TODO's first function that is not written yet, or of its first function."""
    lines = subject.lines()
    names = [name for name in _names(lesson, todo) if name in lines]
    waiting = [name for name in names if _not_written(lesson, subject, name)]
    return lines[(waiting or names)[0]] if names else None


def _not_written(lesson, subject, name) -> bool:
    if not subject.untouched(name):
        return False
    given = lesson.stored is None and same_function(lesson.exercise(), lesson.source, name)
    return not given


def _verdict(lesson, subject, todo, reference, seconds):
    """The finding without diagnosis, and the answers: those up to the first exception."""
    check, kept, answers, seed = lesson.checks[todo], calling.Kept(), [], reference.seed
    first = None  # the first case that went wrong
    for number, case in enumerate(reference.cases(check)):
        answer = subject.answer(check, number, case, seed=seed + 1, kept=kept, seconds=seconds)
        answers.append(answer)
        if answer.raised is None or not answer.raised.frames:
            expected = reference.solved(check, number)
        if answer.raised is None:
            faults = problems(check, case, answer, expected.value)
            if faults and first is None:
                first = (case, answer, expected.value, faults)
        else:
            first = first or (case, answer, None, [])
            break
    if first is None:
        unwritten = [name for name in _names(lesson, todo) if _not_written(lesson, subject, name)]
        if unwritten:  # a check that does not reach a part must not pass it
            return _not_started(lesson, subject, todo, seed, unwritten), answers
        unusual = _in_other_manners(lesson, subject, todo, reference, answers, seconds)
        if unusual is not None:
            return unusual, answers
        return plain_finding(lesson, subject, todo, "passed", seed, output=str(kept)), answers
    case, answer, expected, faults = first
    if answer.raised is not None and answer.raised.waiting_for:
        finding = _waiting(lesson, subject, todo, seed, answer.raised)
        if finding is not None:
            return finding, answers
    finding = plain_finding(
        lesson,
        subject,
        todo,
        "raised" if answer.raised else "wrong",
        seed,
        called=_shown(check, case),
        output=str(kept),
    )
    if answer.raised:
        finding.error = answer.raised.text(os.path.basename(finding.file))
        finding.line = answer.raised.line or finding.line
        finding.note = _explained(lesson, subject, todo, answer.raised)
    else:
        finding.difference, finding.more = faults[0].text, [fault.text for fault in faults[1:4]]
        finding.expected, finding.got = faults[0].expected, faults[0].got
        if not check.judge and not finding.expected and answer.refused is None:
            finding.expected, finding.got = describe(expected), describe(answer.value)
    return finding, answers


def _in_other_manners(lesson, subject, todo, reference, answers, seconds) -> Finding | None:
    """The finding for an answer that is right, but not in all circumstances: see manners.py. None if it is."""
    if str(reference.device) != "cpu" or reference.dtype != torch.float32:
        return None  # the plain call was made in other circumstances already
    check = lesson.checks[todo]
    allowed = min(seconds or manners.SECONDS, manners.SECONDS)
    for manner in manners.ALL.values():
        for number, case in manners.chosen(manner, reference.cases(check)):
            if not manners.applies(manner, check, case):
                continue
            options = {"seed": reference.seed + 1, "kept": calling.Kept(), "seconds": allowed}
            answer = subject.answer(check, number, case, manner=manner.name, **options)
            if answer is None or (answer.raised and not manners.counts(manner, answer.raised)):
                break
            solved = reference.solved_in(manner.name, check, number) if manner.name in manners.MEASURED else None
            problem = answer.refused
            if not answer.raised and not problem:
                plain = answers[number].value
                problem = manners.problem(manner, check, answer.value, plain, solved and solved.value)
            if answer.raised or problem:
                return _unusual(lesson, subject, todo, reference.seed, manner, answer, problem, _shown(check, case))
    return None


def _unusual(lesson, subject, todo, seed, manner, answer, problem, called) -> Finding:
    """The finding for what goes wrong in a manner: an exception or a problem."""
    finding = plain_finding(lesson, subject, todo, "wrong", seed, called=called, manner=manner.name)
    finding.note = f"{manner.when} {manner.advice}"
    if answer.raised:
        finding.status, finding.error = "raised", answer.raised.text(os.path.basename(finding.file))
        finding.line = answer.raised.line or finding.line
    else:
        finding.difference, finding.expected, finding.got = problem.text, problem.expected, problem.got
    return finding


def _shown(check: Check, case) -> str:
    try:
        text = check.shows(case) if callable(check.shows) else check.shows
    except Exception:
        text = ""
    return text or f"{check.id}({', '.join(f'{key} = {describe(value)}' for key, value in case.items())})"


def _not_started(lesson, subject, todo, seed, names) -> Finding:
    return plain_finding(lesson, subject, todo, "not started", seed, note=f"To write: {', '.join(names)}.")


def _waiting(lesson, subject, todo, seed, raised) -> Finding | None:
    """The finding for a `raise NotImplementedError("TODO ...")` that was reached."""
    waiting = raised.waiting_for
    if waiting != todo:
        if waiting not in lesson.checks:
            return None
        return plain_finding(
            lesson,
            subject,
            todo,
            "blocked",
            seed,
            blocked_by=waiting,
            note=f"It calls {waiting}, which is not written yet: start there.",
        )
    names = [name for name in _names(lesson, todo) if _not_written(lesson, subject, name)]
    return _not_started(lesson, subject, todo, seed, names) if names else None


def _explained(lesson, subject, todo, raised) -> str:
    """One sentence about an exception, where there is one that helps."""
    if raised.note:
        return raised.note
    if raised.waiting_for == todo:
        return "The line `raise NotImplementedError(...)` still stands in your code and was reached: delete it."
    if raised.kind == "TooSlow":
        return "The call was stopped."
    if raised.kind in ("SystemExit", "KeyboardInterrupt") and raised.frames:
        return (
            "The code ended the program instead of returning a value."
            if raised.kind == "SystemExit"
            else "The call was interrupted here."
        )
    lines = subject.lines()
    missing = [name for name in _names(lesson, todo) if name not in lines] if lines else []
    if missing:
        return f"{missing[0]} is no longer in the file: give it back its name and signature."
    if "modified by an inplace operation" in raised.message:
        return (
            "A tensor that the gradient still needs is changed in place, by +=, *=, x[...] = or a method whose name "
            "ends in _. Make a new one: x = x + y in the place of x += y."
        )
    if raised.frames:
        return ""
    if re.search(r"positional argument|keyword argument|takes no arguments", raised.message):
        return "The call did not get into your function: are its parameters still those of the exercise?"
    if "NoneType" in raised.message:
        return "What the function returned is None and could not be used: is a `return` missing?"
    return "The function returned, but its value could not be used: is it what the docstring promises?"


def _recognise(lesson: Lesson, todo, finding, answers, reference) -> None:
    """Give the finding the words of the known mistake that answers alike in all cases; or else of the only one that
    fails exactly the same properties; or of the only one that answers alike up to the case that is shown.
    """
    check, alike, so_far = lesson.checks[todo], [], []
    failed = _properties(check, answers, reference) if check.judge else set()
    if any(name.endswith("values") for (name, *_) in failed):  # many different mistakes make other numbers
        failed = set()
    cases = reference.cases(check)
    shown = _first_wrong(check, answers, reference)
    for mistake in reference.mistakes(todo):
        mistaken = []
        for number in range(len(answers)):
            mistaken.append(reference.mistaken(check, mistake, number))
            if not _alike(answers[number], mistaken[-1], check):
                break
        else:
            finding.mistake, finding.mistake_name = mistake.says, mistake.name
            return
        if number > shown:
            so_far.append(mistake)
        if failed and not _slow(mistaken[-1]):
            left = range(len(mistaken), min(len(answers), len(cases)))
            mistaken += [reference.mistaken(check, mistake, number) for number in left]
            if _properties(check, mistaken, reference) == failed:
                alike.append(mistake)
    for candidates in (alike, so_far):
        if len({mistake.says for mistake in candidates}) == 1:  # where they differ, none of their words are safe
            finding.mistake, finding.mistake_name = candidates[0].says, candidates[0].name
            return


def _first_wrong(check: Check, answers, reference) -> int:
    """The number of the first case that went wrong: the one that the finding shows."""
    for number, answer in enumerate(answers):
        case, expected = reference.cases(check)[number], reference.solved(check, number).value
        if answer.raised or problems(check, case, answer, expected):
            return number
    return len(answers)


def _slow(answer: Answer) -> bool:
    return answer.raised is not None and answer.raised.kind == "TooSlow"


def _alike(answer: Answer, other: Answer, check: Check) -> bool:
    if _slow(answer) or _slow(other):
        return _slow(answer) and _slow(other)
    if answer.raised and other.raised:
        return (answer.raised.kind, answer.raised.message) == (other.raised.kind, other.raised.message)
    if answer.raised or other.raised:
        return False
    if answer.refused or other.refused:
        return bool(answer.refused and other.refused and answer.refused.text == other.refused.text)
    if compare(answer.value, other.value, check.rtol, check.atol):
        return False
    return not compare(answer.after, other.after, 0.0, 0.0)


def _properties(check: Check, answers, reference) -> set[tuple]:
    """Which properties fail, as {(property,)}, over all the cases; an exception counts by its case, its type
    and its message without the numbers, for two errors of one type may have nothing in common.
    """
    failed: set[tuple] = set()
    for number, answer in enumerate(answers):  # no answers after an exception
        if answer.raised:
            failed.add(("raised", answer.raised.kind, re.sub(r"\d+", "#", answer.raised.message), number))
        else:
            case, expected = reference.cases(check)[number], reference.solved(check, number).value
            failed.update((problem.property,) for problem in problems(check, case, answer, expected))
    return failed


def imported(step: steps.StepName, path: Any) -> tuple[ModuleType | None, calling.Raised | None, str]:
    """Import a file as a step's exercise: (module or None, what it raised or None, what it printed)."""
    path, kept = Path(path), calling.Kept()
    module, raised = calling.run(lambda: steps.load(step, "exercise", path), str(path), kept=kept)
    return module, raised, str(kept)


def check_step(
    step: steps.StepName,
    target: Any = None,
    *,
    seed: int | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    todos: Iterable[str] | None = None,
    diagnose: bool = True,
) -> list[Finding]:
    """The findings for all TODOs (or `todos`) of a step, in order. `target` is a module or the path of a file; without
    one it is the step's exercise. A file that cannot be imported gives each TODO a finding that says why.
    """
    lesson, seed = lessons.lesson(step), _seed(seed)
    wanted, module = list(todos or lesson.checks), target
    if not isinstance(target, ModuleType):
        path = Path(target) if target is not None else lesson.step.file("exercise")
        module, raised, output = imported(lesson.step, path)
        if raised is not None:
            return [_unimportable(lesson, path, todo, raised, output, seed) for todo in wanted]
    findings = judged(Module(lesson, module), _reference(lesson, seed, device, dtype), wanted, diagnose=diagnose)
    if module is not target:
        steps.forget(module)
    return findings


def _unimportable(lesson, path, todo, raised, output, seed) -> Finding:
    blank = ModuleType("unimportable")
    blank.__file__ = str(path)
    return plain_finding(
        lesson,
        Module(lesson, blank),
        todo,
        "raised",
        seed,
        line=raised.line,
        output=output,
        error=raised.text(path.name),
        note="The file cannot be imported, so nothing in it can be tested.",
    )


def check_solution(step: steps.StepName, **options: Any) -> list[Finding]:
    """The findings for the solution itself; options as for `check_step`."""
    lesson = lessons.lesson(step)
    if lesson.solution is None:
        raise CourseError(f"This copy of the course has no solution of {lesson.step.name}.")
    return check_step(step, lesson.solution, **options)


def check_file(path: Any, todo: str, step: steps.StepName | None = None) -> None:
    """Check one TODO of a file as it is on disk now, and show the finding. What `test_projection()` in an
    exercise does.

    The step is that of `step`, or of the file's folder. Nothing is raised, except AssertionError where pytest
    itself collected this test from the exercise: there a quiet return would count as passed.
    """
    path, step = Path(path).resolve(), _step_of(Path(path).resolve(), step)
    finding = check_step(step, path, todos=[todo])[0]
    if path == step.file("exercise"):
        note(step, {todo: finding.status})
    if f"{path.name}::test_{todo}" in os.environ.get("PYTEST_CURRENT_TEST", "") and not finding.passed:
        raise AssertionError(finding.text())
    display(finding)


def _step_of(path: Path, step) -> steps.Step:
    here = path.parent
    for room in steps.ROOMS:
        if room.name == step or (step is None and Path(room.name).name == here.name):
            return room
    if isinstance(step, steps.Step):
        return step
    if (here / "checks.py").is_file():  # a lesson outside the list
        todos = tuple(
            check.id
            for check in steps.execute((here / "checks.py").read_bytes(), here / "checks.py", "course_checks").CHECKS
        )
        return steps.Step(here.name, here.name, todos, 0, root=here.parent)
    return steps.find_step(step if step is not None else here.name)
