"""What a run writes: grades.csv, results/ for Gradescope, a page per student, report.html, and the lines in
the terminal.

All of it comes from the records. A stranger's text passes through `text` on its way here; the templates of pages
escape it.
"""

import csv
import io
import json
import statistics
from pathlib import Path

from course.checking.finding import Finding
from course.checking.lessons import Lesson
from course.grading import pages
from course.grading.marking import Weights, number
from course.grading.text import cell, clean, file_name
from course.machine.files import write

SHORT = {"passed": "passed", "not started": "not started", "wrong": "wrong", "raised": "error", "blocked": "blocked"}


def everything(out: Path, records: list[dict], lesson: Lesson, weights: Weights, summary: dict) -> None:
    for record in records:
        name = file_name(record["student"])
        write(out / "results" / f"{name}.json", json.dumps(results(record, weights, summary["step"]), indent=1) + "\n")
        write(out / "pages" / f"{name}.html", pages.student(record, findings(record), weights, summary["title"]))
    write(out / "grades.csv", grades(records, list(lesson.checks), weights))
    write(out / "report.html", pages.report(records, lesson, weights, summary))


def findings(record: dict) -> list[Finding]:
    """A record's findings, as a student may see them: without what their code printed over cases that stay
    hidden, and with inert text."""
    found = []
    for said in record["findings"]:
        fields: dict = {
            key: clean(value) if isinstance(value, str) else value for key, value in said.items() if key != "id"
        }
        fields["more"] = [clean(text) for text in said.get("more", [])]
        found.append(Finding(**{**fields, "output": ""}))
    return found


def statuses(record: dict) -> dict[str, str]:
    return {finding["todo"]: finding["status"] for finding in record["findings"]}


def score(record: dict, weights: Weights) -> float:
    return weights.total(statuses(record), record.get("days_late", 0))


def line(record: dict, weights: Weights) -> str:
    """A student's line in the terminal."""
    said = statuses(record)
    missing = [f"{todo} {SHORT[state]}" for todo, state in said.items() if state != "passed"]
    if record["fault"]:
        missing = [record["fault"]]
    elif len(missing) == len(said) and len(set(said.values())) == 1:
        missing = [f"all {SHORT[next(iter(said.values()))]}"]
    shown = "; ".join(missing[:4]) + (f"; {len(missing) - 4} more" if len(missing) > 4 else "")
    return f"  {clean(record['name'])[:32]:<32} {number(weights.total(said)):>6} of {number(weights.best)}" + (
        f"   {shown}" if shown else ""
    )


def summary_text(records: list[dict], weights: Weights, summary: dict, out: Path) -> str:
    """The last lines in the terminal."""
    points = [score(record, weights) for record in records] or [0.0]
    lines = [
        f"{summary['graded_now']} graded in {summary['seconds']:.0f} s. Of {len(records)}, the median is "
        f"{number(statistics.median(points))} of {number(weights.best)}."
    ]
    flagged = sum(bool(pages.notices(record)) for record in records)
    if flagged:
        lines.append(f"{flagged} to look at: report.html says why.")
    lines.append(f"{out / 'report.html'}, {out / 'grades.csv'}; pages/ and results/ have one file per student.")
    return "\n".join(lines)


def grades(records: list[dict], todos: list[str], weights: Weights) -> str:
    """grades.csv: one row per student, safe to open in a spreadsheet."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["student", "name", "score", "of", *todos, "days late", "file", "look at", "notes"])
    for record in records:
        said = statuses(record)
        notes = [record["fault"], *record.get("notes", [])]
        table.writerow(
            [
                cell(value)
                for value in (
                    record["student"],
                    record["name"],
                    number(score(record, weights)),
                    number(weights.best),
                    *(number(weights.of(todo, said[todo])) for todo in todos),
                    str(record.get("days_late", 0)),
                    record["file"],
                    "; ".join(record["flags"]),
                    " ".join(filter(None, notes)),
                )
            ]
        )
    return text.getvalue()


def results(record: dict, weights: Weights, step: str) -> dict:
    """Gradescope's results.json: https://gradescope-autograders.readthedocs.io/en/latest/specs/"""
    tests = []
    for place, finding in enumerate(findings(record), 1):
        tests.append(
            {
                "name": finding.todo,
                "number": str(place),
                "score": weights.of(finding.todo, finding.status),
                "max_score": weights.points[finding.todo],
                "status": "passed" if finding.passed else "failed",
                "output": finding.text(),
                "visibility": "visible",
            }
        )
    total = score(record, weights)
    said = [f"{number(total)} of {number(weights.best)} points. Seed {record['seed']}; {record['level_says']}."]
    if record.get("days_late"):
        said.append(f"Late by {record['days_late']} day{'s' if record['days_late'] > 1 else ''}.")
    said += record.get("notes", [])
    return {
        "score": total,
        "execution_time": record["seconds"],
        "output": clean(" ".join(said)),
        "output_format": "text",
        "test_output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "tests": tests,
        "extra_data": {
            "student": record["student"],
            "seed": record["seed"],
            "step": step,
            "level": record["level"],
            "trusted": record["trusted"],
            "sha256": record["sha256"],
            "flags": record["flags"],
        },
    }
