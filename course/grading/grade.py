"""The verb `grade`: submissions in, grades and reports out; what is graded is kept, so that a killed run goes
on.

Everything in the output folder is made from `records/`, one file per student. A record counts as long as the
file, the seed and the step are the same, so weights, due date and gradebook can be changed without running
anything again.
"""

import argparse
import concurrent.futures
import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch

from course.checking import lesson
from course.checking.record import fingerprint
from course.checking.reference import Reference
from course.errors import UsageError
from course.grading import gradebook, intake, outputs
from course.grading.flags import flags
from course.grading.marking import Weights, findings, not_run
from course.grading.outcome import Outcome
from course.grading.runner import Batch, Limits
from course.grading.text import clean, file_name
from course.machine.files import write
from course.steps import Step

WORKERS = min(8, max(2, os.cpu_count() or 2))


@dataclass
class Settings:
    """What the command line says."""

    submissions: Path
    step: Step
    out: Path
    weights: Path | None = None
    due: float | None = None  # seconds since 1970
    gradebook: Path | None = None
    column: str | None = None
    student: str | None = None
    seed: int | None = None
    trusted: bool = False
    limits: Limits | None = None
    highest: int = 3  # the highest level to try, for tests


def main(args: argparse.Namespace) -> int:
    """`python3 -m course grade`."""
    settings = Settings(
        Path(args.submissions),
        args.step,
        Path(args.out),
        args.weights and Path(args.weights),
        args.due and due(args.due),
        args.gradebook and Path(args.gradebook),
        args.column,
        args.student,
        args.seed,
        args.trust_submissions,
    )
    grade(settings, lambda line: print(line, flush=True))
    return 0


def due(text: str) -> float:
    """A date (its end) or a date with a time, on this machine's clock unless the text names a time zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--due {text} is no date: 2026-03-01, or 2026-03-01T23:59.") from None
    if len(text.strip()) <= 10:
        moment = moment.replace(hour=23, minute=59, second=59)
    return moment.timestamp()


def grade(settings: Settings, say: Callable[[str], object] = lambda line: None) -> dict:
    """Grade what is not graded yet, write everything, and return the batch's summary. Raises CourseError."""
    out, step = settings.out, settings.step
    a = lesson(step)
    weights = Weights.read(a.checks, settings.weights)
    submissions = intake.found(settings.submissions, exclude=out)
    book = gradebook.read(settings.gradebook, step, settings.column) if settings.gradebook else None
    seed = _seed(settings)
    key = _key(step, seed)
    wanted = _wanted(submissions, settings.student)
    records = {one.student: _kept(out, one.student) for one in submissions}
    todo = [one for one in wanted if settings.student or not _same(records[one.student], one, key)]
    if len(todo) < len(wanted):
        say(f"{len(wanted) - len(todo)} of {len(wanted)} are graded already, in {out}.")
    began = time.perf_counter()
    if todo:
        _run(settings, Reference(a, seed), todo, key, records, weights, say)
    have = [_timed(kept, one, settings.due) for one in submissions if (kept := records[one.student]) is not None]
    summary = {
        "step": step.name,
        "title": step.title,
        "seed": seed,
        "graded_now": len(todo),
        "seconds": round(time.perf_counter() - began, 2),
        "torch": torch.__version__,
        "when": time.strftime("%Y-%m-%d %H:%M"),
    }
    outputs.everything(out, have, a, weights, summary)
    if book is not None:
        for line in book.fill(have, weights, out / "gradebook.csv"):
            say(line)
    say(outputs.summary_text(have, weights, summary, out))
    return summary


def _run(settings: Settings, reference: Reference, todo, key, records, weights, say) -> None:
    """Grade these submissions into `records`, and onto the disk one by one."""
    a, out = reference.lesson, settings.out
    torch.set_num_threads(1)  # the children have the cores; what is judged here is small
    with Batch(reference, trusted=settings.trusted, limits=settings.limits, highest=settings.highest) as batch:
        level = {"level": batch.level.number, "level_says": clean(batch.level.says), "trusted": batch.level.trusted}
        say(f"{a.step.name}: {len(todo)} to grade. Seed {reference.seed}, {level['level_says']}.")
        if batch.level.why:
            say(clean(batch.level.why))
        write(out / "batch.json", json.dumps({"step": a.step.name, "seed": reference.seed}) + "\n")
        for one, data, fault, outcome in _outcomes(batch, todo):
            found = not_run(reference, fault) if fault else _judged(reference, outcome)
            record = {**_record(one, data, fault, outcome, found, key, a), **level}
            records[one.student] = record
            write(_place(out, one.student), json.dumps(record, indent=1) + "\n")
            say(outputs.line(record, weights))


def _before(out: Path, step) -> dict:
    """What the last run into this folder wrote about itself, if it was for the same step."""
    try:
        before = json.loads((out / "batch.json").read_text(encoding="utf-8"))
        return before if before["step"] == step.name and type(before["seed"]) is int else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _same(record: dict | None, one, key: str) -> bool:
    """Whether a record is of this very file, judged as it would be judged now."""
    data, fault = _read(one)
    now = (key, hashlib.sha256(data).hexdigest(), fault)
    return record is not None and (record.get("key"), record.get("sha256"), record.get("fault")) == now


def _seed(settings: Settings) -> int:
    """The seed that was asked for, that of the run which this one goes on, or a new one."""
    if settings.seed is not None:
        return settings.seed
    return _before(settings.out, settings.step).get("seed", int.from_bytes(os.urandom(4), "little"))


def _key(step, seed: int) -> str:
    """What a verdict depends on, besides the submission."""
    said = f"{fingerprint(step, step.file('solution'))} {seed} {torch.__version__}"
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _wanted(submissions, student):
    if student is None:
        return submissions
    asked = student.casefold()
    found = [
        one
        for one in submissions
        if asked in (one.student.casefold(), one.name.casefold(), *(i.casefold() for i in one.ids))
    ]
    if not found:
        names = ", ".join(one.student for one in submissions[:20])
        raise UsageError(
            f"There is no submission by {student!r}. There is: {names}{', ...' if len(submissions) > 20 else ''}."
        )
    return found


def _place(out: Path, student: str) -> Path:
    return out / "records" / f"{file_name(student)}.json"


def _kept(out: Path, student: str) -> dict | None:
    try:
        record = json.loads(_place(out, student).read_text(encoding="utf-8"))
        return record if isinstance(record, dict) and record.get("student") == student else None
    except (OSError, ValueError):
        return None


def _read(one) -> tuple[bytes, str]:
    """(the submission's bytes, why it cannot be graded or "")."""
    try:
        return one.read(), ""
    except intake.Unfit as unfit:
        return b"", str(unfit)


def _outcomes(batch: Batch, submissions):
    """(submission, its bytes, its fault, its outcome) as they are done; at most two per worker are held at a time."""

    def work(one):
        data, fault = _read(one)
        return one, data, fault, Outcome() if fault else batch.run(data)

    waiting: set[concurrent.futures.Future] = set()
    left = iter(submissions)
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        try:
            while True:
                while len(waiting) < 2 * WORKERS and (one := next(left, None)) is not None:
                    waiting.add(pool.submit(work, one))
                if not waiting:
                    return
                done, waiting = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BaseException:  # Ctrl-C: nobody waits for children that still run
            for future in waiting:
                future.cancel()
            batch.kill()
            raise


def _judged(reference: Reference, outcome: Outcome):
    try:
        return findings(reference, outcome)
    except Exception as error:  # the solution's answers are there already: it is theirs that we stumble over
        return not_run(reference, f"The answers could not be judged ({type(error).__name__}).")


def _record(one, data: bytes, fault: str, outcome: Outcome, found, key, a) -> dict:
    noticed = flags(data, a.step.name, a.exercise())
    replaced = sorted({name for names in outcome.replaced.values() for name in names})
    if replaced:
        noticed.append(f"replaces {', '.join(replaced[:4])}")
    return {
        "student": one.student,
        "name": one.name,
        "ids": list(one.ids),
        "file": one.file,
        "fault": fault,
        "imported": outcome.imported is None,
        "sha256": hashlib.sha256(data).hexdigest(),
        "key": key,
        "seed": found[0].seed,
        "seconds": round(outcome.seconds, 3),
        "restarts": outcome.restarts,
        "flags": noticed,
        "findings": [finding.to_dict() for finding in found],
    }


def _timed(record: dict, one, due: float | None) -> dict:
    """The record with what depends on today's command: notes, and how many days late."""
    days = 0
    if due is not None and one.time > due:
        days = math.ceil((one.time - due) / 86400)
    elif one.late:
        days = 1
    return {**record, "notes": list(one.notes), "days_late": days}
