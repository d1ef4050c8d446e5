"""What a learner is told about their progress: the status table, the next hint, the explanation after a pass."""

import ast
import textwrap
from collections.abc import Iterable
from pathlib import Path

from course import authoring, checking, steps
from course.checking.record import note, recall, remember
from course.checking.states import verdicts
from course.display.commands import command
from course.errors import CourseError


def next_hint(step: steps.StepName, todo: str, again: bool = False) -> tuple[int, int, str]:
    """The next hint for a TODO that has not been told yet: (its number, how many there are, its text).

    After the last one, its number is one more and the text says where the solution is. `again` starts over.
    """
    step = steps.find_step(step)
    hints = next(check.hints for check in steps.load(step, "checks").CHECKS if check.id == todo)
    before = {} if again else recall(step, "hints", todo) or {}
    told = min(before.get("told", 0) + 1, len(hints) + 1)
    remember(step, "hints", todo, {"told": told})
    if told <= len(hints):
        return told, len(hints), hints[told - 1]
    if not step.file("solution").exists():
        return told, len(hints), "This copy of the course has no solution. Ask whoever teaches it."
    source = step.file("solution").read_text(encoding="utf-8")
    places = [
        f"{name}, line {function.first}"
        for name, function in authoring.functions(source).items()
        if function.todo == todo
    ]
    return told, len(hints), f"{step.name}/{step.file('solution').name}: {'; '.join(places)}"


def explain(step: steps.StepName, todo: str) -> str:
    """After a pass: the learner's code, the solution's, and why the solution is as it is.

    Raises CourseError as long as the TODO does not pass: the solution would spoil it.
    """
    step = steps.find_step(step)
    finding = checking.check_step(step, todos=[todo], diagnose=False)[0]
    note(step, {todo: finding.status})
    if not finding.passed:
        raise CourseError(
            f"{finding.id} is {finding.headline}; to see the solution now would spoil it. The explanation "
            f"comes after the pass, until then: {command('hint', finding.id)}"
        )
    lesson = checking.lesson(step)
    solution = lesson.source
    mine = step.file("exercise").read_text(encoding="utf-8")
    names = authoring.todo_functions(solution)[todo]
    parts = []
    if lesson.stored is not None:
        parts.append("yours (this copy of the course has no solution)\n\n" + _bodies(mine, names))
    elif all(authoring.same_function(mine, solution, name) for name in names):
        parts.append("Your code is the solution's, but for comments and layout.")
    else:
        parts += ["yours\n\n" + _bodies(mine, names), "the solution\n\n" + _bodies(solution, names)]
    parts.append(textwrap.fill(lesson.checks[todo].why, 100))
    return "\n\n".join(filter(None, parts))


def _bodies(source: str, names) -> str:
    """Functions without decorators and docstrings, one after the other."""
    lines, have, parts = authoring.split(source), authoring.functions(source), []
    for name in filter(have.get, names):  # who wrote `f = g` has no function to show
        node = have[name].node
        body = node.body[1:] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body
        shown = [line for line in lines[body[0].lineno - 1 : have[name].last] if "### " not in line]
        parts.append(f"    {name}\n" + textwrap.indent(textwrap.dedent("".join(shown)), " " * 8).rstrip())
    return "\n".join(parts)


def status(which: Iterable[steps.StepName] | None = None) -> dict[str, dict[str, str]]:
    """{step's name: {todo: status}} for all steps, or for `which`; a step whose files are missing has no
    entries.
    """
    found = {}
    for step in [steps.find_step(one) for one in which] if which else steps.ROOMS:
        try:
            found[step.name] = verdicts(step)["todos"]
        except FileNotFoundError:
            found[step.name] = {}
    return found


def table(which: Iterable[steps.StepName] | None = None) -> str:
    """The status as text: a line per step, one per TODO of the steps that are begun and not done, and what
    is next.
    """
    lines, following = [], None
    for step in [steps.find_step(one) for one in which] if which else steps.ROOMS:
        try:
            verdict = verdicts(step)
        except FileNotFoundError as error:
            name = Path(error.filename or "a file").name
            lines.append(f"{step.short:<6} {step.title:<58} {name} is missing")
            following = following or (command("build") if name == steps.FILES["exercise"] else step.short)
            continue
        todos = verdict["todos"]
        passed = sum(state == "passed" for state in todos.values())
        count = f"{passed} of {len(todos)}"
        lines.append(
            f"{step.short:<6} {step.title:<58} " + (count if passed else f"{count:<9}about {step.hours:g} hours")
        )
        if verdict["error"]:
            lines.append(f"         {verdict['error']}")
        if which or any(state != "not started" for state in todos.values()) and passed < len(todos):
            lines += [f"         {todo:<26} {_word(step, todo, verdict)}" for todo in todos]
        if following is None and passed < len(todos):
            todo = next(todo for todo, state in todos.items() if state not in ("passed", "blocked"))
            following = f"{step.short}.{todo}, about {max(5, round(60 * step.hours / len(todos), -1)):.0f} minutes"
    lines += ["", f"next: {following}" if following else "everything passes"]
    return "\n".join(lines)


def _word(step, todo: str, verdict: dict) -> str:
    """How the table names a TODO's state: done, started, untouched, blocked by another, or broken since."""
    state = verdict["todos"][todo]
    broken = (recall(step, "passes", todo) or {}).get("broken")
    if state == "passed":
        return "done"
    if state == "blocked":
        return f"blocked by {verdict['blocked'][todo]}"
    if broken:
        return f"broken since {broken}"
    if state == "not started" and authoring.untouched(step.file("exercise").read_text(encoding="utf-8"), todo):
        return "untouched"
    return "started"
