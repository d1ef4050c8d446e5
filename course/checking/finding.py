"""What a check says: as text for a terminal, as a quiet card for a notebook, as a dict for machines."""

import os
from dataclasses import asdict, dataclass, field

from course.display import cards
from course.steps import ROOT, short_name

HEADLINES = {
    "passed": "passed",
    "not started": "not started yet",
    "wrong": "not right yet",
    "raised": "stopped with an error",
    "blocked": "blocked",
}
SIGNS = {
    "passed": ("✓", cards.GREEN),
    "not started": ("○", cards.AMBER),
    "wrong": ("✗", cards.RED),
    "raised": ("✗", cards.RED),
    "blocked": ("–", cards.QUIET),
}
CODE = ("called", "error", "printed")  # rows whose spaces matter


@dataclass
class Finding:
    """The verdict on one TODO, with everything that helps to go on. Plain text and numbers only."""

    step: str  # "step6_vlm"
    todo: str
    status: str  # "passed", "not started", "wrong", "raised" or "blocked"
    asks: str = ""
    called: str = ""  # how the call looked whose answer was wrong
    expected: str = ""
    got: str = ""
    difference: str = ""  # where the first difference is and how large; or which property does not hold
    more: list[str] = field(default_factory=list)  # further problems
    mistake: str = ""  # what its author says to whoever made it
    mistake_name: str = ""
    error: str = ""  # the exception and the learner's own frames
    blocked_by: str = ""
    hint: str = ""  # the first hint
    command: str = ""  # what to type for the next one
    file: str = ""
    line: int | None = None
    note: str = ""  # one sentence more: which function is not written, what a message means
    output: str = ""  # what their code printed
    manner: str = ""  # the circumstances in which alone it went wrong: see manners.py
    points: int = 1
    seed: int = 0  # what gives the same cases again

    @property
    def id(self) -> str:
        """The TODO with its step, as on the command line: "step6.projection"."""
        return f"{short_name(self.step)}.{self.todo}"

    @property
    def passed(self) -> bool:
        return self.status == "passed"

    @property
    def headline(self) -> str:
        by = f" by {self.blocked_by}" if self.blocked_by else ""
        return HEADLINES[self.status] + by

    @property
    def place(self) -> str:
        """The file, as short as it can be said, and the line."""
        where = _short(self.file)
        return f"{where}, line {self.line}" if where and self.line else where

    def rows(self) -> list[tuple[str, str]]:
        """What there is to say, as (label, text) in reading order."""
        if self.status == "passed":
            why = f"python3 -m course explain {self.id}" if self.command else ""
            return [(label, text) for label, text in (("printed", self.output), ("why so", why)) if text]
        rows = [("asked", self.asks), ("where", self.place), ("", self.note)]
        if self.status in ("wrong", "raised"):
            alike = self.expected == self.got
            rows += [
                ("called", self.called),
                ("error", self.error),
                ("form", f"{self.got}, as it should be" if alike and self.got.startswith("tensor") else ""),
                ("expected", "" if alike else self.expected),
                ("got", "" if alike else self.got),
                ("problem", self.difference),
                *(("also", text) for text in self.more),
                ("likely", self.mistake),
                ("printed", self.output),
            ]
        if self.status in ("wrong", "raised") or self.status == "not started":
            rows.append(("hint", f"{self.hint}\nMore: {self.command}" if self.hint else ""))
        return [(label, text) for label, text in rows if text]

    def text(self) -> str:
        lines = [f"{self.id}: {self.headline}"]
        for label, text in self.rows():
            first, *others = text.rstrip().split("\n")
            lines.append(f"  {label:<9} {first}")
            lines += [f"  {'':<9} {other}" for other in others]
        return "\n".join(lines)

    __str__ = text

    def html(self) -> str:
        sign, color = SIGNS[self.status]
        return cards.card(self.id, self.headline, self.rows(), color, sign, CODE)

    def to_dict(self) -> dict:
        """Everything, as plain JSON values."""
        return {"id": self.id, **asdict(self)}

    def _repr_html_(self) -> str:
        return cards.as_cell(self.html())

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"text/plain": self.text(), "text/html": self._repr_html_()}


def _short(file: str) -> str:
    """A path relative to the repository where it lies in it, otherwise as it is."""
    if not file:
        return ""
    try:
        relative = os.path.relpath(file, ROOT)
    except ValueError:  # another drive
        return file
    return file if relative.startswith("..") else relative


def display(finding: Finding) -> None:
    """Show a finding: a card in a notebook, text everywhere else."""
    cards.show(finding.text(), finding.html())
