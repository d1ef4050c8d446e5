"""What came of one submission, and that as a subject for the verdict.

Answer           what came of one call (course/checking/judging.py)
Outcome          what came of one submission: an Answer for each call, and what else its process told
ConfinedSubject  an Outcome in the place of a learner's module, so that `judged` asks it for its answers
"""

from dataclasses import dataclass, field

from course.checking import calling
from course.checking.judging import Answer
from course.checking.parts import Check, Problem
from course.grading.child import FILE


@dataclass
class Outcome:
    """What came of one submission."""

    lines: dict[str, int] = field(default_factory=dict)  # where its functions stand
    untouched: list[str] = field(default_factory=list)  # functions that read as in the exercise
    imported: calling.Raised | None = None  # why the file could not be imported
    printed: str = ""  # while it was imported
    calls: dict[str, list[Answer]] = field(default_factory=dict)  # of each TODO, in the order of its cases
    output: dict[str, str] = field(default_factory=dict)  # what was printed in them
    replaced: dict[str, list[str]] = field(default_factory=dict)  # functions that it exchanged, by TODO
    restarts: int = 0
    seconds: float = 0.0  # of its own: from the request to the answer, summed


class ConfinedSubject:
    """A subject for `judged` whose calls a confined process has made already; the other one is subject.Module."""

    file = FILE

    def __init__(self, outcome: Outcome):
        self.outcome = outcome

    def lines(self) -> dict[str, int]:
        return self.outcome.lines

    def untouched(self, name: str) -> bool:
        return name in self.outcome.untouched

    def answer(
        self,
        check: Check,
        number: int,
        case: dict,
        *,
        seed: int,
        kept: calling.Kept,
        seconds: float | None,
        manner: str = "",
    ) -> Answer | None:
        """The answer to the case of this number. None for another manner than a plain call, which nobody has asked."""
        if manner:
            return None
        if number == 0:
            kept.write(self.outcome.output.get(check.id, ""))
        answers = self.outcome.calls.get(check.id, [])
        if number >= len(answers):
            return Answer(raised=calling.Raised("Stopped", "", note="There was no answer."))
        replaced = self.outcome.replaced.get(check.id)
        if replaced and check.judge is not None and answers[number].raised is None:
            text = (
                f"the code replaces {', '.join(replaced)}, on which this check relies: leave what is not yours as it is"
            )
            return Answer(refused=Problem("replaced", text))
        return answers[number]
