"""From answers to findings, and from findings to points."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from course.checking.finding import Finding
from course.checking.parts import Check
from course.checking.reference import Reference
from course.checking.verdict import judged, plain_finding
from course.errors import CourseError
from course.grading.child import FILE
from course.grading.outcome import ConfinedSubject, Outcome


def findings(reference: Reference, outcome: Outcome) -> list[Finding]:
    """A finding per TODO, as a learner's own check would give."""
    subject, lesson = ConfinedSubject(outcome), reference.lesson
    if outcome.imported is not None:
        return [
            plain_finding(
                lesson,
                subject,
                todo,
                "raised",
                reference.seed,
                line=outcome.imported.line,
                output=outcome.printed,
                error=outcome.imported.text(FILE),
                note=f"The file cannot be imported, so nothing in it can be tested. {outcome.imported.note}".rstrip(),
            )
            for todo in lesson.checks
        ]
    verdicts = judged(subject, reference, list(lesson.checks))
    for finding in verdicts:  # "blocked" is their code's own claim: it costs nothing, and may be worth points
        if finding.status == "blocked" and finding.blocked_by not in _needs(lesson, finding.todo):
            finding.status, finding.error = "raised", f"NotImplementedError: TODO {finding.blocked_by}"
            finding.blocked_by = ""
    return verdicts


def _needs(lesson, todo: str) -> set[str]:
    """The TODOs that a check names as needed, and those that they need."""
    needed = set(lesson.checks[todo].needs)
    return needed.union(*(_needs(lesson, other) for other in needed))


def not_run(reference: Reference, why: str) -> list[Finding]:
    """The findings for a submission that was not run at all."""
    return [
        plain_finding(
            reference.lesson,
            ConfinedSubject(Outcome()),
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
    def read(cls, checks: dict[str, Check], path: Path | str | None = None) -> "Weights":
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
