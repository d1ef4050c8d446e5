"""A step's checks, mistakes and solution, loaded as they are on disk now."""

import hashlib
from dataclasses import dataclass, field
from types import ModuleType

from course import steps
from course.authoring.exercise import generate
from course.checking.parts import Check, Mistake
from course.checking.stored import Stored, load
from course.errors import CourseError


@dataclass
class Lesson:
    """A step's checks, mistakes and solution, loaded; in a copy for students, `stored` in place of the last two."""

    step: steps.Step
    checks: dict[str, Check]
    mistakes: dict[str, list[Mistake]]
    solution: ModuleType | None
    source: str  # the solution's; the exercise's where there is none
    harmless: dict[str, dict[str, str]]  # changes of the solution that are no mistakes, and why (see audit.py)
    stored: Stored | None = None
    patched: dict[str, ModuleType] = field(default_factory=dict)  # mistakes, by their sources' hashes

    def exercise(self) -> str:
        """The exercise's source as it is generated."""
        if self.stored is not None:
            return self.stored.exercise
        if not hasattr(self, "_exercise"):
            self._exercise = generate(self.source, self.step)
        return self._exercise

    def wrong(self, mistake: Mistake) -> ModuleType:
        """The solution with a mistake in it, as a module. Raises what executing it raises."""
        source = mistake.applied(self.source)
        key = hashlib.sha256(source.encode()).hexdigest()
        if key not in self.patched:
            self.patched[key] = steps.execute(
                source,
                self.step.file("solution"),
                "course_mistake",
                shown_as=f"<{self.step.name} with a known mistake>",
            )
        return self.patched[key]


_lessons: dict = {}  # a step's folder: (its files as they were read, the lesson)


def lesson(step: steps.StepName) -> Lesson:
    """The loaded lesson of a step, loaded anew when one of its files has changed."""
    step = steps.find_step(step)
    if not step.file("solution").exists() and step.file("stored").exists():
        return _without_solution(step)
    files = [step.file(which) for which in ("checks", "mistakes", "solution")]
    texts = [file.read_bytes() if file.exists() or file.name != "mistakes.py" else b"" for file in files]
    read, loaded = _lessons.get(step.folder, (None, None))
    if read != (step, texts):
        checks = steps.load(step, "checks").CHECKS
        mistakes = steps.load(step, "mistakes") if texts[1] else None
        loaded = Lesson(
            step,
            {check.id: check for check in checks},
            getattr(mistakes, "MISTAKES", {}),
            steps.load(step, "solution"),
            texts[2].decode(),
            getattr(mistakes, "HARMLESS", {}),
        )
        _lessons[step.folder] = (step, texts), loaded
    return loaded


def _without_solution(step) -> Lesson:
    stats = [step.file(which).stat() for which in ("checks", "stored")]
    stamp = step, [(stat.st_mtime_ns, stat.st_size) for stat in stats]  # not their text: one of them is large
    read, loaded = _lessons.get(step.folder, (None, None))
    if read != stamp:
        try:
            stored = load(step.file("stored"))
        except ValueError as error:
            raise CourseError(f"{error}. Get the file again from where you have the course.") from None
        checks = {check.id: check for check in steps.load(step, "checks").CHECKS}
        loaded = Lesson(step, checks, stored.mistakes, None, stored.exercise, {}, stored)
        _lessons[step.folder] = stamp, loaded
    return loaded
