"""Whose answers are judged, and what they are judged against: the two sides of a verdict, apart.

A notebook asks a module in its own process (`Module`). A grader puts in its place what a confined process has
answered; the verdict reads the same.
"""

from types import ModuleType

import torch

from course.authoring.source import functions, same_function
from course.checking.judging import Answer, answered, make_cases, shown_as
from course.checking.lessons import Lesson
from course.checking.parts import Check, Mistake

PATIENCE = 5.0  # seconds for one call of a known mistake, some of which never end


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

    def answer(self, check: Check, number: int, case: dict, *, seed: int, kept, seconds) -> Answer:
        """What comes of `check`'s call with the case of this number."""
        return answered(check, self.module, case, seed=seed, kept=kept, seconds=seconds)


class Reference:
    """The cases of a seed, the solution's answers to them and those of the known mistakes: each computed
    when it is first asked for, and kept, so that a grader pays for it once a batch."""

    def __init__(self, lesson: Lesson, seed: int, device="cpu", dtype=torch.float32):
        self.lesson, self.seed, self.device, self.dtype = lesson, seed, device, dtype
        self._cases: dict[str, list[dict]] = {}
        self._solved: dict[tuple, Answer] = {}
        self._mistaken: dict[tuple, Answer] = {}

    def cases(self, check: Check) -> list[dict]:
        if check.id not in self._cases:
            self._cases[check.id] = make_cases(check, self.seed, self.device, self.dtype)
        return self._cases[check.id]

    def solved(self, check: Check, number: int) -> Answer:
        """The solution's answer. Raises RuntimeError where it has none, which is the check's fault."""
        key = (check.id, number)
        if key not in self._solved:
            a = self.lesson
            answer = answered(check, a.solution, self.cases(check)[number], seed=self.seed)
            if answer.raised or answer.refused:
                why = answer.raised.text(shown_as(a.solution)) if answer.raised else answer.refused.text
                raise RuntimeError(f"the check of {a.step.short}.{check.id} does not work on the solution: {why}")
            self._solved[key] = answer
        return self._solved[key]

    def mistakes(self, todo: str) -> list[Mistake]:
        """The TODO's known mistakes. Tests see to it that all of them execute; a learner is not to suffer
        otherwise."""
        found = []
        for mistake in self.lesson.mistakes.get(todo, ()):
            try:
                self.lesson.wrong(mistake)
                found.append(mistake)
            except Exception:
                continue
        return found

    def mistaken(self, check: Check, mistake: Mistake, number: int) -> Answer:
        """A known mistake's answer."""
        key = (check.id, mistake.name, number)
        if key not in self._mistaken:
            self._mistaken[key] = answered(
                check, self.lesson.wrong(mistake), self.cases(check)[number], seed=self.seed + 1, seconds=PATIENCE
            )
        return self._mistaken[key]
