"""A step without its solution: cases that were drawn when a copy for students was made, with the solution's
answers and those of the known mistakes.

One file per step, a plain value as course/checking/wire.py writes it. It holds the exercise as it was
generated, so that `reset` works, and several sets of cases, one of which a check draws.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from course.checking import calling, wire
from course.checking.judging import Answer
from course.checking.parts import Check, Mistake, Problem
from course.checking.subject import Reference
from course.checking.values import placed

LARGEST = 2**30
HEAVY = 2**18  # bytes of a case; a heavier one is left out where there are others, as every mistake answers it too


@dataclass
class Stored:
    """What such a file holds."""

    exercise: str
    sets: list[dict]  # {TODO: {"cases", "solved", "mistaken": {name: answers}}}
    mistakes: dict[str, list[Mistake]]


def save(lesson, path: Path, seeds) -> None:
    """Write the file of a lesson that has its solution, with a set of cases per seed."""
    sets = []
    for seed in seeds:
        reference, one = Reference(lesson, seed), {}
        for todo, check in lesson.checks.items():
            cases = reference.cases(check)
            light = [n for n, case in enumerate(cases) if len(wire.pack(case)[1]) <= HEAVY]
            numbers = light or list(range(len(cases)))
            one[todo] = {
                "cases": [cases[n] for n in numbers],
                "solved": [_said(reference.solved(check, n), cases[n]) for n in numbers],
                "mistaken": {
                    mistake.name: [_said(reference.mistaken(check, mistake, n), cases[n]) for n in numbers]
                    for mistake in reference.mistakes(todo)
                },
            }
        sets.append(one)
    held = {
        "exercise": lesson.exercise(),
        "sets": sets,
        "mistakes": {
            todo: [[mistake.name, mistake.says] for mistake in mistakes] for todo, mistakes in lesson.mistakes.items()
        },
    }
    header, raw = wire.pack(held, LARGEST, LARGEST)
    path.write_bytes(wire.PREFIX.pack(1, len(header), len(raw)) + header + raw)


def load(path: Path) -> Stored:
    """Raises ValueError where the file is damaged."""
    data = path.read_bytes()
    try:
        _, header, raw = wire.PREFIX.unpack(data[: wire.PREFIX.size])
        body = data[wire.PREFIX.size :]
        if len(body) != header + raw:
            raise wire.Fault("it is cut off")
        held = wire.unpack(body[:header], body[header:])
    except (wire.Fault, wire.struct.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    return Stored(
        held["exercise"],
        held["sets"],
        {todo: [Mistake(name, "", "", says) for name, says in said] for todo, said in held["mistakes"].items()},
    )


def _said(answer: Answer, case: dict) -> dict:
    """An answer as a plain value; inputs that it left alone are not kept twice."""
    said = {"value": answer.value}
    if answer.after is not None and answer.after is not case:
        said["after"] = answer.after
    if answer.raised is not None:
        said["raised"] = [answer.raised.kind, answer.raised.message]
    if answer.refused is not None:
        said["refused"] = [answer.refused.property, answer.refused.text]
    return said


class StoredReference(Reference):
    """Cases and answers from a file in place of a solution."""

    def __init__(self, lesson, seed: int, device="cpu", dtype=torch.float32):
        super().__init__(lesson, seed, device, dtype)
        self.held = lesson.stored.sets[seed % len(lesson.stored.sets)]

    def cases(self, check: Check) -> list[dict]:
        return [placed(case, self.device, self.dtype) for case in self.held[check.id]["cases"]]

    def solved(self, check: Check, number: int) -> Answer:
        return self._answer(self.held[check.id]["solved"][number], self.cases(check)[number])

    def mistakes(self, todo: str) -> list[Mistake]:
        return self.lesson.mistakes.get(todo, [])

    def mistaken(self, check: Check, mistake: Mistake, number: int) -> Answer:
        return self._answer(self.held[check.id]["mistaken"][mistake.name][number], self.cases(check)[number])

    def _answer(self, said: dict, case: dict) -> Answer:
        raised = said.get("raised") and calling.Raised(*said["raised"])
        refused = said.get("refused") and Problem(*said["refused"])
        value = placed(said["value"], self.device, self.dtype)
        after = None if raised else placed(said.get("after", case), self.device, self.dtype)
        return Answer(value, after, raised, refused)
