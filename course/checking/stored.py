"""A step without its solution: cases that were drawn when a copy for students was made, with the solution's answers
and those of the known mistakes.

One file per step, a plain value as course/checking/wire.py writes it. It holds the exercise as it was generated, so
that `reset` works, and several sets of cases, one of which a check draws.
"""

from dataclasses import dataclass
from pathlib import Path

from course.checking import wire
from course.checking.parts import Mistake

LARGEST = 2**30


@dataclass
class Stored:
    """What such a file holds."""

    exercise: str
    sets: list[dict]  # {TODO: {"cases", "solved", "mistaken": {name: answers}}}
    mistakes: dict[str, list[Mistake]]


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
        {todo: [Mistake(name, "", "", says) for name, says in known] for todo, known in held["mistakes"].items()},
    )
