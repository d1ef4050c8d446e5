"""From answers to findings, and from findings to points."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from course.checking import calling
from course.checking.finding import Finding
from course.checking.judging import Answer
from course.checking.parts import Check, Problem
from course.checking.reference import Reference
from course.checking.verdict import judged, plain_finding
from course.errors import CourseError
from course.grading.child import FILE
from course.grading.runner import Answers


class Answered:
    """A subject for `judged` whose answers a confined process has given already."""

    file = FILE

    def __init__(self, reference: Reference, answers: Answers):
        self.reference, self.answers = reference, answers

    def lines(self) -> dict[str, int]:
        return self.answers.lines

    def untouched(self, name: str) -> bool:
        return name in self.answers.untouched

    def answer(self, check: Check, number: int, case: dict, *, seed, kept, seconds) -> Answer:
        if number == 0:
            kept.write(self.answers.output.get(check.id, ""))
        have = self.answers.calls.get(check.id, [])
        if number >= len(have):
            return Answer(raised=calling.Raised("Stopped", "", note="There was no answer."))
        replaced = self.answers.replaced.get(check.id)
        if replaced and check.judge is not None and have[number].raised is None:
            return Answer(
                refused=Problem(
                    "replaced",
                    f"the code replaces {', '.join(replaced)}, on which this check "
                    "relies: leave what is not yours as it is",
                )
            )
        return have[number]


def findings(reference: Reference, answers: Answers) -> list[Finding]:
    """A finding per TODO, as a learner's own check would give."""
    subject, lesson = Answered(reference, answers), reference.lesson
    if answers.imported is not None:
        return [
            plain_finding(
                lesson,
                subject,
                todo,
                "raised",
                reference.seed,
                line=answers.imported.line,
                output=answers.printed,
                error=answers.imported.text(FILE),
                note=" ".join(
                    filter(
                        None, ("The file cannot be imported, so nothing in it can be tested.", answers.imported.note)
                    )
                ),
            )
            for todo in lesson.checks
        ]
    found = judged(subject, reference, list(lesson.checks))
    for finding in found:  # a claim of their code that costs nothing to make, and may be worth points
        if finding.status == "blocked" and finding.blocked_by not in _needs(lesson, finding.todo):
            finding.status, finding.error = "raised", f"NotImplementedError: TODO {finding.blocked_by}"
            finding.blocked_by = ""
    return found


def _needs(lesson, todo: str) -> set[str]:
    """The TODOs that a check names as needed, and those that they need."""
    needed = set(lesson.checks[todo].needs)
    return needed.union(*(_needs(lesson, other) for other in needed))


def not_run(reference: Reference, why: str) -> list[Finding]:
    """The findings for a submission that was not run at all."""
    return [
        plain_finding(
            reference.lesson,
            Answered(reference, Answers()),
            todo,
            "raised",
            reference.seed,
            error=why,
            note="Nothing in it can be tested.",
        )
        for todo in reference.lesson.checks
    ]


def number(points: float) -> str:
    """Points for a reader: as short as they are, at most two decimals."""
    return f"{points:g}" if points == round(points, 2) else f"{points:.2f}"


@dataclass
class Weights:
    """The instructor's file: {"points": {"projection": 5}, "blocked": 0.5, "late": {"per_day": 0.1, "most":
    0.5}}.

    `points` per TODO in place of the check's own; `blocked`: which part of them a TODO gets that only fails
    because another does; `late`: which part of the sum is taken off per begun day after the due date, and at
    most.
    """

    points: dict[str, float]
    blocked: float = 0.0
    per_day: float = 0.0
    most: float = 1.0
    said: dict = field(default_factory=dict)

    @classmethod
    def read(cls, checks: dict[str, Check], path=None) -> "Weights":
        """Raises CourseError where the file says something that is not understood."""
        points = {todo: float(check.points) for todo, check in checks.items()}
        if path is None:
            return cls(points)
        try:
            said = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            raise CourseError(f"There is no weights file {path}.") from None
        except (OSError, ValueError) as error:
            raise CourseError(f"{path} is no JSON file: {error}") from None
        late = said.get("late", {}) if isinstance(said, dict) else None
        if (
            not isinstance(said, dict)
            or not isinstance(said.get("points", {}), dict)
            or not isinstance(late, dict)
            or set(said) - {"points", "blocked", "late"}
            or set(late) - {"per_day", "most"}
        ):
            raise CourseError(
                f'{path} should look like {{"points": {{"{next(iter(points))}": 5}}, "blocked": 0.5, '
                '"late": {"per_day": 0.1, "most": 0.5}}.'
            )
        unknown = set(said.get("points", {})) - set(points)
        if unknown:
            raise CourseError(f"{path} gives points for {', '.join(sorted(unknown))}; there is {', '.join(points)}.")
        numbers = [*said.get("points", {}).values(), said.get("blocked", 0), *late.values()]
        if not all(isinstance(n, (int, float)) and not isinstance(n, bool) and 0 <= n < 1e6 for n in numbers):
            raise CourseError(f"{path}: every number must be 0 or more.")
        points.update({todo: float(value) for todo, value in said.get("points", {}).items()})
        return cls(points, said.get("blocked", 0.0), late.get("per_day", 0.0), late.get("most", 1.0), said)

    def of(self, todo: str, status: str) -> float:
        part = {"passed": 1.0, "blocked": self.blocked}.get(status, 0.0)
        return round(self.points[todo] * part, 4)

    def total(self, statuses: dict[str, str], days_late: int = 0) -> float:
        whole = sum(self.of(todo, status) for todo, status in statuses.items())
        return round(whole * (1 - min(self.most, self.per_day * days_late)), 2)

    @property
    def best(self) -> float:
        return sum(self.points.values())
