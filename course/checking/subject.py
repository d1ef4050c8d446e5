"""Whose answers are judged (what they are judged against is reference.py).

A notebook asks a module in its own process (`Module`). A grader puts in its place what a confined process has
answered; the verdict reads the same.
"""

from types import ModuleType

from course.authoring.source import functions, same_function
from course.checking.calling import Kept
from course.checking.judging import Answer, answered
from course.checking.lessons import Lesson
from course.checking.parts import Check


class Module:
    """A learner's module in this process."""

    def __init__(self, lesson: Lesson, module: ModuleType):
        self.lesson, self.module = lesson, module
        self.file = str(getattr(module, "__file__", ""))
        source = getattr(module, "__source__", "")
        self.source = source.decode("utf-8", "replace") if isinstance(source, bytes) else source

    def lines(self) -> dict[str, int]:
        """The line of each function and method, by qualified name; empty where the source does not parse."""
        try:
            return {name: function.line for name, function in functions(self.source).items()}
        except (SyntaxError, ValueError):
            return {}

    def untouched(self, name: str) -> bool:
        """Whether a function still reads as in the exercise."""
        return same_function(self.source, self.lesson.exercise(), name)

    def answer(
        self,
        check: Check,
        number: int,
        case: dict,
        *,
        seed: int,
        kept: Kept | None,
        seconds: float | None,
        manner: str = "",
    ) -> Answer | None:
        """What comes of `check`'s call with the case of this number, in a manner of manners.py if one is named; None
        where nobody has asked in that manner.
        """
        return answered(check, self.module, case, seed=seed, kept=kept, seconds=seconds, manner=manner)
