"""From solution to exercise: what the learner edits is generated, so that the two never drift apart."""

import ast
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from course import steps
from course.authoring import notebooks
from course.authoring.source import functions, split, todo_functions
from course.machine.files import backup, write

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"

TESTS = """

# The tests: run them in the notebook, or `python3 -m course check {short}` in a terminal. Nothing to edit
# below.

def _check(todo):
    import sys
    from pathlib import Path
    here = Path(__file__).resolve()
    root = next((folder for folder in here.parents if (folder / "course" / "steps.py").is_file()), None)
    if root is not None and str(root) not in sys.path:
        sys.path.insert(0, str(root))
    from course.checking import check_file
    check_file(here, todo, step="{name}")
"""
TEST = '''

def test_{todo}():
    """Run this TODO's check on the file as it is saved, and show what it finds."""
    _check("{todo}")
'''
STAMP = "# as generated: "


class AuthorError(ValueError):
    """A solution that breaks a rule of its markers; the message names the line."""


def generate(solution_source: str, step: steps.StepName) -> str:
    """The exercise of a solution: what stands between the markers becomes `raise NotImplementedError("TODO ...")`, and
    the block of test functions follows. Raises AuthorError where markers, TODO lines and the step's list disagree.
    """
    step = steps.find_step(step)
    lines = split(solution_source)
    wanted = _marked(solution_source, step)
    for function, (begin, end) in sorted(wanted, key=lambda item: item[1], reverse=True):
        indent = lines[begin - 1][: len(lines[begin - 1]) - len(lines[begin - 1].lstrip())]
        lines[begin - 1 : end] = [f'{indent}raise NotImplementedError("TODO {function.todo}: write {function.name}")\n']
    return _stamped("".join(lines).rstrip("\n") + "\n" + _tests(step))


def filled(solution_source: str, step: steps.StepName) -> str:
    """The solution with the block of tests: an exercise that somebody has solved."""
    step = steps.find_step(step)
    _marked(solution_source, step)
    return solution_source.rstrip("\n") + "\n" + _tests(step)


def _tests(step) -> str:
    return TESTS.format(short=step.short, name=step.name) + "".join(TEST.format(todo=todo) for todo in step.todos)


def _marked(source: str, step):
    """[(function, (BEGIN's line, END's line))] of every TODO function; AuthorError when anything is out of place."""
    lines, taken, marked = split(source), set(), []
    marks = {number: line.strip() for number, line in enumerate(lines, 1) if line.strip() in (BEGIN, END)}
    for function in functions(source).values():
        inside = [number for number in marks if function.node.lineno < number <= function.last]
        if not function.todo:
            continue
        if [marks[number] for number in inside] != [BEGIN, END]:
            raise AuthorError(
                f"{step.name}, line {function.line}: {function.name} (TODO {function.todo}) "
                f"needs one {BEGIN!r} and then one {END!r} in its body"
            )
        taken.update(inside)
        marked.append((function, tuple(inside)))
    stray = sorted(set(marks) - taken)
    if stray:
        raise AuthorError(
            f"{step.name}, line {stray[0]}: {marks[stray[0]]!r} stands in no function with a "
            f"`# TODO id` line directly above it"
        )
    todos = list(todo_functions(source))
    if sorted(todos) != sorted(step.todos):
        raise AuthorError(
            f"{step.name}: the solution marks the TODOs {', '.join(todos) or 'none'}; "
            f"course/steps.py lists {', '.join(step.todos)}"
        )
    ast.parse(source)
    return marked


def _fingerprint(text: str) -> str:
    return hashlib.sha256("\n".join(text.splitlines()).encode()).hexdigest()[:16]


def _stamped(text: str) -> str:
    return f"{text}\n\n{STAMP}{_fingerprint(text.rstrip())}\n"


def edited(exercise_source: str) -> bool:
    """Whether an exercise differs from what was generated, whenever that was: its last line carries a fingerprint."""
    text, mark, stamp = exercise_source.rpartition(STAMP)
    return not mark or _fingerprint(text.rstrip()) != stamp.strip()


@dataclass
class Report:
    """What `build` did or would do: print it; `ok` is False when something is out of date, broken or missing."""

    lines: list[str] = field(default_factory=list)
    ok: bool = True

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def add(self, line: str, ok: bool = True) -> None:
        self.lines.append(line)
        self.ok = self.ok and ok


def build(check: bool = False, force: bool = False, which: Iterable[steps.StepName] | None = None) -> Report:
    """Generate every step's exercise and strip the outputs of its notebooks; `check` only says what would change.

    An exercise that somebody edited is reported and left alone; with `force` it is replaced and a backup lies
    beside it. `which` limits the work to these steps.
    """
    report = Report()
    for step in [steps.find_step(name) for name in which] if which else steps.ROOMS:
        _build_exercise(step, check, force, report)
        if step.file("solution").exists():
            for path in sorted(step.folder.glob("*.ipynb")):
                _tidy(step, path, check, report)
    return report


def _build_exercise(step, check: bool, force: bool, report: Report) -> None:
    solution, exercise = step.file("solution"), step.file("exercise")
    try:
        new = generate(solution.read_text(encoding="utf-8"), step)
    except FileNotFoundError:
        return report.add(f"{step.name}: no {solution.name}", ok=False)
    except (AuthorError, SyntaxError) as error:
        return report.add(f"{step.name}: {error}", ok=False)
    old = exercise.read_text(encoding="utf-8", errors="replace") if exercise.exists() else None
    if old is None or old == new or not edited(old):
        return generated(report, exercise, new, check, label=f"{step.name}: ")
    if not force:
        return report.add(f"{step.name}: {exercise.name} is edited, left alone")
    if check:
        return report.add(f"{step.name}: {exercise.name} is out of date; run python3 -m course build", ok=False)
    kept = backup(exercise)
    write(exercise, new)
    report.add(f"{step.name}: {exercise.name} written (the edited one is now {kept.name})")


def generated(report: Report, path: Path, text: str, check: bool, label: str = "") -> None:
    """Write a file that is made from others, where it differs; with `check` only report that."""
    old = path.read_text(encoding="utf-8", errors="replace") if path.exists() else None
    if old == text:
        report.add(f"{label}{path.name} is up to date")
    elif check:
        state = "missing" if old is None else "out of date"
        report.add(f"{label}{path.name} is {state}; run python3 -m course build", ok=False)
    else:
        write(path, text)
        report.add(f"{label}{path.name} written")


def _tidy(step, path: Path, check: bool, report: Report) -> None:
    text = path.read_text(encoding="utf-8")
    try:
        clean = notebooks.stripped(text)
    except ValueError as error:
        report.add(f"{step.name}: {path.name} is not a notebook: {error}", ok=False)
        return
    lesson = path.with_name(notebooks.LESSON)
    if notebooks.translates(path.name) and lesson.exists():
        original = notebooks.stripped(lesson.read_text(encoding="utf-8"))
        followed = notebooks.with_code_of(original, clean)
        if followed != clean and not check:
            write(path, followed)
            text = clean = followed
            report.add(f"{step.name}: {path.name} has got the code of {notebooks.LESSON}")
        for line in notebooks.translation_problems(original, clean):
            report.add(f"{step.name}: {path.name}: {line}", ok=False)
    if text != clean:
        if not check:
            write(path, clean)
        report.add(f"{step.name}: {path.name} {'has outputs' if check else 'stripped of outputs'}", ok=not check)
    for line in notebooks.problems(clean, step):
        report.add(f"{step.name}: {path.name}: {line}", ok=False)
