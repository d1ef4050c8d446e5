"""What an answer is judged against: the cases of a seed, the solution's answers and those of the known mistakes.

They are computed when first asked for (`Reference`), or come from a file that was made for a copy of the course
without solutions (`StoredReference`, written by `save`; see stored.py).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from course.checking import calling, wire
from course.checking.judging import Answer, answered, make_cases, shown_as
from course.checking.lessons import Lesson
from course.checking.parts import Check, Mistake, Problem
from course.checking.stored import LARGEST
from course.checking.values import placed

PATIENCE = 5.0  # seconds for one call of a known mistake, some of which never end


class Reference:
    """The cases of a seed, the solution's answers to them and those of the known mistakes: each computed
    when it is first asked for, and kept, so that a grader pays for it once a batch."""

    def __init__(
        self, lesson: Lesson, seed: int, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ):
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
            solution, name = self.lesson.solution, f"{self.lesson.step.short}.{check.id}"
            assert solution is not None  # a copy for students has a StoredReference
            answer = answered(check, solution, self.cases(check)[number], seed=self.seed)
            if problem := answer.raised or answer.refused:
                why = answer.raised.text(shown_as(solution)) if answer.raised else problem.text
                raise RuntimeError(f"the check of {name} does not work on the solution: {why}")
            self._solved[key] = answer
        return self._solved[key]

    def solved_in(self, manner: str, check: Check, number: int) -> Answer | None:
        """The solution's answer in a manner of manners.py; None where there is none to compare with."""
        key = (check.id, number, manner)
        if key not in self._solved:
            assert self.lesson.solution is not None
            case = self.cases(check)[number]
            self._solved[key] = answered(check, self.lesson.solution, case, seed=self.seed, manner=manner)
        answer = self._solved[key]
        return None if answer.raised or answer.refused else answer

    def mistakes(self, todo: str) -> list[Mistake]:
        """The TODO's known mistakes. Tests see to it that all of them execute; a learner is not to suffer otherwise."""
        mistakes = []
        for mistake in self.lesson.mistakes.get(todo, ()):
            try:
                self.lesson.wrong(mistake)
                mistakes.append(mistake)
            except Exception:
                continue
        return mistakes

    def mistaken(self, check: Check, mistake: Mistake, number: int) -> Answer:
        """A known mistake's answer."""
        key = (check.id, mistake.name, number)
        if key not in self._mistaken:
            self._mistaken[key] = answered(
                check, self.lesson.wrong(mistake), self.cases(check)[number], seed=self.seed + 1, seconds=PATIENCE
            )
        return self._mistaken[key]


HEAVY = (
    2**18
)  # bytes of a case; heavier ones are left out where there are others: each mistake's answer is kept as well


def save(lesson: Lesson, path: Path, seeds: Iterable[int]) -> None:
    """Write the file of a lesson that has its solution, with a set of cases per seed."""
    sets = []
    for seed in seeds:
        reference, drawn = Reference(lesson, seed), {}
        for todo, check in lesson.checks.items():
            cases = reference.cases(check)
            light = [n for n, case in enumerate(cases) if len(wire.pack(case)[1]) <= HEAVY]
            numbers = light or list(range(len(cases)))
            drawn[todo] = {
                "cases": [cases[n] for n in numbers],
                "solved": [_as_value(reference.solved(check, n), cases[n]) for n in numbers],
                "mistaken": {
                    mistake.name: [_as_value(reference.mistaken(check, mistake, n), cases[n]) for n in numbers]
                    for mistake in reference.mistakes(todo)
                },
            }
        sets.append(drawn)
    held = {
        "exercise": lesson.exercise(),
        "sets": sets,
        "mistakes": {
            todo: [[mistake.name, mistake.says] for mistake in mistakes] for todo, mistakes in lesson.mistakes.items()
        },
    }
    header, raw = wire.pack(held, LARGEST, LARGEST)
    path.write_bytes(wire.PREFIX.pack(1, len(header), len(raw)) + header + raw)


def _as_value(answer: Answer, case: dict) -> dict:
    """An answer as a plain value; inputs that it left alone are not kept twice."""
    value = {"value": answer.value}
    if answer.after is not None and answer.after is not case:
        value["after"] = answer.after
    if answer.raised is not None:
        value["raised"] = [answer.raised.kind, answer.raised.message]
    if answer.refused is not None:
        value["refused"] = [answer.refused.property, answer.refused.text]
    return value


class StoredReference(Reference):
    """Cases and answers from a file in place of a solution."""

    def __init__(self, lesson: Any, seed: int, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32):
        super().__init__(lesson, seed, device, dtype)
        self.held = lesson.stored.sets[seed % len(lesson.stored.sets)]

    def cases(self, check: Check) -> list[dict]:
        return [placed(case, self.device, self.dtype) for case in self.held[check.id]["cases"]]

    def solved(self, check: Check, number: int) -> Answer:
        return self._answer(self.held[check.id]["solved"][number], self.cases(check)[number])

    def solved_in(self, manner: str, check: Check, number: int) -> Answer | None:
        return None  # such answers are not kept

    def mistakes(self, todo: str) -> list[Mistake]:
        return self.lesson.mistakes.get(todo, [])

    def mistaken(self, check: Check, mistake: Mistake, number: int) -> Answer:
        return self._answer(self.held[check.id]["mistaken"][mistake.name][number], self.cases(check)[number])

    def _answer(self, held: dict, case: dict) -> Answer:
        raised = held.get("raised") and calling.Raised(*held["raised"])
        refused = held.get("refused") and Problem(*held["refused"])
        value = placed(held["value"], self.device, self.dtype)
        after = None if raised else placed(held.get("after", case), self.device, self.dtype)
        return Answer(value, after, raised, refused)
