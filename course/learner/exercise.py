"""A learner's exercise as it was before they touched it, and back to that."""

from pathlib import Path

from course import steps
from course.authoring.exercise import edited, generate
from course.authoring.source import todo_functions, transplant
from course.checking.lessons import lesson
from course.display.commands import command
from course.errors import CourseError
from course.machine.files import backup, write


def pristine(step: steps.StepName) -> str:
    """The exercise as it is generated: from the solution, or from what a copy without solutions keeps of it."""
    step = steps.find_step(step)
    if step.file("solution").exists() or not step.file("stored").exists():
        return generate(step.file("solution").read_text(encoding="utf-8"), step)
    return lesson(step).exercise()


def reset(step: steps.StepName, todo: str | None = None) -> tuple[bool, Path | None]:
    """Put a step's exercise, or one TODO in it, back to the generated text.

    Returns (whether anything changed, the backup that lies beside the file if one was needed). Of one TODO only its
    functions are replaced; what else the learner wrote stays. Raises CourseError where the file does not parse, or has
    lost the class that a function of the TODO belongs to: then only the whole step can be put back.
    """
    step = steps.find_step(step)
    path = step.file("exercise")
    new = pristine(step)
    if not path.exists():
        write(path, new)
        return True, None
    old = path.read_bytes().decode("utf-8", errors="replace")
    if todo is not None:
        try:
            new = transplant(old, new, todo_functions(new)[todo])
        except SyntaxError as error:
            raise CourseError(
                f"{path.name}, line {error.lineno}: {error.msg}. Mend that line first, or put the whole "
                f"step back: {command('reset', step.short)}"
            ) from None
        except KeyError as error:
            raise CourseError(
                f"{path.name} has no place for {error.args[0]} any more. Put the whole step back: "
                f"{command('reset', step.short)}"
            ) from None
    if new == old:
        return False, None
    kept = backup(path) if edited(old) else None
    write(path, new)
    return True, kept
