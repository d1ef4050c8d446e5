"""Filling the gradebook that an instructor downloaded from Canvas or Moodle: its rows, its order, its other
columns stay.

Which column: Canvas ends an assignment's name in its number, "Step 6 (12345)"; Moodle's worksheet has a
"Grade" column. Rows of students who handed nothing in keep their text byte for byte.
"""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from course.errors import CourseError
from course.grading.marking import Weights
from course.grading.outputs import number, score
from course.grading.text import clean
from course.machine.files import write
from course.steps import Step

KNOWN_BY = (
    "id",
    "sis user id",
    "sis login id",
    "student",
    "identifier",
    "full name",
    "email address",
    "id number",
    "username",
    "sis_login_id",
    "name",
    "first name last name",
)


@dataclass
class Gradebook:
    """An LMS's CSV file: its rows as they are written, and which column is ours."""

    path: Path
    rows: list[list[str]]
    texts: list[str]  # the same rows, as they stand in the file
    delimiter: str
    newline: str
    bom: bool
    column: int

    def fill(self, records: list[dict], weights: Weights, out: Path) -> list[str]:
        """Write a copy with the scores in it, and return what is worth saying."""
        header = [name.strip().casefold() for name in self.rows[0]]
        by_name: dict[str, list[dict]] = {}
        for record in records:
            for name in dict.fromkeys(_plain(name) for name in (*record["ids"], record["student"], record["name"])):
                by_name.setdefault(name, []).append(record)
        texts, filled = list(self.texts), set()
        for place, row in enumerate(self.rows[1:], 1):
            found = self._of(row, header, by_name)
            if found is None:
                continue
            value = score(found, weights)
            possible = self._possible(row, header)
            if possible and weights.best:
                value = round(value / weights.best * possible, 2)
            new = row + [""] * (self.column + 1 - len(row))
            new[self.column] = number(value)
            texts[place] = self._text(new)
            filled.add(found["student"])
        write(out, ("\ufeff" if self.bom else "") + "".join(texts))
        missing = [record["name"] for record in records if record["student"] not in filled]
        said = [f"{out}: the column {self.rows[0][self.column]!r} is filled for {len(filled)} students."]
        if missing:
            said.append(
                f"Not in {self.path.name}: {', '.join(map(clean, missing[:20]))}{', ...' if len(missing) > 20 else ''}."
            )
        return said

    def _of(self, row, header, by_name) -> dict | None:
        """The record of a row's student: by number before name, and only where it is one student's."""
        for known in KNOWN_BY:
            for place, name in enumerate(header):
                if name == known and place < len(row) and row[place].strip():
                    found = by_name.get(_plain(row[place]), [])
                    if len(found) == 1:
                        return found[0]
        return None

    def _possible(self, row, header) -> float | None:
        """The points that the LMS gives at most: of Moodle's row, or of Canvas's row "Points Possible"."""
        if "maximum grade" in header:
            return _float(row[header.index("maximum grade")])
        for other in self.rows[1:4]:
            if other and other[0].strip().casefold() == "points possible" and self.column < len(other):
                return _float(other[self.column])
        return None

    def _text(self, row) -> str:
        text = io.StringIO()
        csv.writer(text, delimiter=self.delimiter, lineterminator=self.newline).writerow(row)
        return text.getvalue()


def _plain(name: str) -> str:
    """How names are compared: Moodle's "Participant 123" is 123, "Last, First" is "first last", spaces do
    not count."""
    name = clean(name).strip().casefold()
    name = re.sub(r"^participant\s+(\d+)$", r"\1", name)
    last, comma, first = name.partition(",")
    if comma:
        name = f"{first.strip()} {last.strip()}"
    return "".join(name.split())


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def read(path: Path, step: Step, column: str | None) -> Gradebook:
    """Raises CourseError where there is no such file, or no column of it is certain."""
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except FileNotFoundError:
        raise CourseError(f"There is no gradebook {path}.") from None
    except UnicodeDecodeError:
        raise CourseError(f"{path} is no UTF-8 text. Export the gradebook as CSV.") from None
    delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
    lines = text.splitlines(keepends=True)
    reader, rows, texts, before = csv.reader(lines, delimiter=delimiter), [], [], 0
    for row in reader:
        rows.append(row)
        texts.append("".join(lines[before : reader.line_num]))
        before = reader.line_num
    if not rows:
        raise CourseError(f"{path} is empty.")
    newline = "\r\n" if lines[0].endswith("\r\n") else "\n"
    if texts[-1] and not texts[-1].endswith(("\n", "\r")):
        texts[-1] += newline
    return Gradebook(
        path, rows, texts, delimiter, newline, data[:3] == b"\xef\xbb\xbf", _column(path, rows[0], step, column)
    )


def _column(path, header: list[str], step, column: str | None) -> int:
    names = [name.strip() for name in header]
    if column is not None:
        fits = [place for place, name in enumerate(names) if name.casefold() == column.strip().casefold()] or [
            place for place, name in enumerate(names) if column.strip().casefold() in name.casefold()
        ]
        if len(fits) == 1:
            return fits[0]
        raise CourseError(
            f"--column {column!r} names {len(fits) or 'no'} columns of {path.name}. There is: {', '.join(names)}."
        )
    if "Grade" in names:
        return names.index("Grade")
    assignments = [place for place, name in enumerate(names) if re.fullmatch(r".+ \(\d+\)", name)]
    ours = [
        place
        for place in assignments
        if step.number and re.search(rf"\bstep[ _]?{step.number}\b", names[place], re.IGNORECASE)
    ]
    for fits in (ours, assignments):
        if len(fits) == 1:
            return fits[0]
    raise CourseError(
        f"Which column of {path.name} is to be filled? Say --column NAME. There is: "
        f"{', '.join(names[place] for place in assignments) or ', '.join(names)}."
    )
