"""The verb `grade`, from a folder of strangers' files to everything it writes; resume, and every right
alternative."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from course import authoring, steps
from course.checking import lesson
from course.checking.reference import Reference
from course.errors import UsageError
from course.grading import grade as grading
from course.grading.marking import findings
from course.grading.runner import Batch, Limits
from tests import toy
from tests.attacks import RIGHT, file

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="grading needs fork")
WRONG_AXIS = file(mean="return x.sum(0) / x.shape[0]")
CLASS = {
    "ann": file(),
    "bob": WRONG_AXIS,
    "cleo": file(forward="return self.linear(features * 0)"),
    "dan": file(mean="print('\\x1b[31mcase', x)\n" + RIGHT["mean"]),
    "eve": "def mean(x:\n",
    "<i>fred": file(mean="raise ValueError('<script>alert(1)</script>\\x1b[2J')"),
    "gus": "",
}
LIMITS = Limits(call=10.0, submission=60.0, memory=1 << 29)


def hand_in(folder: Path, files: dict) -> Path:
    for name, source in files.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "model_exercise.py").write_text(source)
    return folder


@pytest.fixture
def graded(tmp_path):
    """A function that grades a class of toys, and the lines it has said."""
    step = toy.lesson(tmp_path / "course")
    lines = []

    def run(**options):
        lines.clear()
        settings = grading.Settings(tmp_path / "in", step, tmp_path / "out", limits=LIMITS, trusted=True, **options)
        return grading.grade(settings, lines.append)

    run.lines, run.out, run.folder = lines, tmp_path / "out", tmp_path / "in"
    return run


def rows(out):
    with open(out / "grades.csv", newline="") as table:
        return {row["student"]: row for row in csv.DictReader(table)}


def test_a_class_is_graded(graded):
    hand_in(graded.folder, CLASS)
    weights = graded.folder.parent / "weights.json"
    weights.write_text('{"points": {"projection": 4}, "blocked": 0.5}')
    graded(seed=7, weights=weights)
    got = rows(graded.out)
    assert {name: row["score"] for name, row in got.items()} == {
        "ann": "6",
        "bob": "4.5",
        "cleo": "2",
        "dan": "6",
        "eve": "0",
        "i_fred": "4.5",
        "gus": "0",
    }
    assert got["bob"]["mean"] == "0" and got["bob"]["centred"] == "0.5" and got["gus"]["notes"] == "It is empty."
    report = (graded.out / "report.html").read_text()
    assert "<i>wrong axis</i> in <code>mean</code>" in report and "You average over the batch." in report
    assert "<i>no weights</i>" in report and "Seed 7" in report and "Run at level " in report
    assert "cannot be imported: SyntaxError" in report
    for path in graded.out.rglob("*.html"):
        assert "<script" not in path.read_text() and "<i>fred" not in path.read_text()
    said = json.loads((graded.out / "results" / "i_fred.json").read_text())
    assert (
        said["score"] == 4.5 and "ValueError: <script>" in said["tests"][0]["output"] and "\x1b" not in json.dumps(said)
    )
    assert "case" not in (graded.out / "pages" / "dan.html").read_text(), "what was printed over hidden cases is shown"
    assert "case" in (graded.out / "records" / "dan.json").read_text(), "the instructor cannot see it either"

    # again: nothing runs, and other weights apply all the same
    before = {path: path.stat().st_mtime_ns for path in (graded.out / "records").iterdir()}
    summary = graded()
    assert summary["graded_now"] == 0 and summary["seed"] == 7 and rows(graded.out)["ann"]["score"] == "4"
    assert before == {path: path.stat().st_mtime_ns for path in (graded.out / "records").iterdir()}

    # late, and into a gradebook
    due = grading.due("2026-03-01")
    for name in CLASS:
        os.utime(graded.folder / name / "model_exercise.py", (due + (1.5 if name == "dan" else -1) * 86400,) * 2)
    book = graded.folder.parent / "moodle.csv"
    weights.write_text('{"late": {"per_day": 0.25}}')
    book.write_text("Username,Grade,Maximum Grade\nann,,8\ndan,,8\nzoe,,8\n")
    graded(weights=weights, due=due, gradebook=book)
    got = rows(graded.out)
    assert (got["ann"]["score"], got["dan"]["score"], got["dan"]["days late"]) == ("4", "2", "2")
    assert (graded.out / "gradebook.csv").read_text() == "Username,Grade,Maximum Grade\nann,8,8\ndan,4,8\nzoe,,8\n"

    # a new file by one student, and one student again
    hand_in(graded.folder, {"bob": file()})
    assert graded()["graded_now"] == 1 and rows(graded.out)["bob"]["score"] == "4"
    assert graded(student="cleo")["graded_now"] == 1 and len(rows(graded.out)) == 7
    with pytest.raises(UsageError, match="ann"):
        graded(student="nobody")


@pytest.mark.slow
def test_the_same_seed_gives_the_same_grade(graded):
    hand_in(graded.folder, {name: CLASS[name] for name in ("bob", "cleo")})

    def all_of_it():
        return {
            path.name: [{key: value for key, value in one.items()} for one in json.loads(path.read_text())["findings"]]
            for path in (graded.out / "records").iterdir()
        }

    graded(seed=3)
    first = all_of_it()
    graded(seed=4)
    assert all_of_it() != first
    graded(seed=3)
    assert all_of_it() == first


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path):
    """Killed in the middle with SIGKILL: nothing is left running, and the next run grades only what is
    missing."""
    step = toy.lesson(tmp_path / "course")
    slow = file("import time", mean="time.sleep(0.5)\n" + RIGHT["mean"])
    hand_in(tmp_path / "in", {f"s{n}": slow + f"# {n}\n" for n in range(8)})
    code = f"""
import sys
sys.path.insert(0, {str(steps.ROOT)!r})
from pathlib import Path
from course import steps
from course.grading import grade
step = steps.Step("toy", "A toy", ("mean", "projection", "centred"), 1, root=Path({str(step.root)!r}))
grade.grade(grade.Settings(Path({str(tmp_path / "in")!r}), step, Path({str(tmp_path / "out")!r}), trusted=True), print)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, cwd=steps.ROOT)
    records = tmp_path / "out" / "records"
    deadline = time.monotonic() + 60
    while len(list(records.glob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    have = len(list(records.glob("*.json")))
    assert 2 <= have < 8
    deadline = time.monotonic() + 10
    while zygotes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not zygotes(), "the killed grader has left processes"
    lines = []
    summary = grading.grade(grading.Settings(tmp_path / "in", step, tmp_path / "out", trusted=True), lines.append)
    assert summary["graded_now"] == 8 - have and len(rows(tmp_path / "out")) == 8
    assert all(row["score"] == "4" for row in rows(tmp_path / "out").values())


def zygotes() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            said = path.read_bytes()
        except OSError:
            continue
        if b"course.grading.zygote" in said:
            found.append(said.decode("utf-8", "replace"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("step", steps.ROOMS, ids=lambda step: step.name)
def test_right_answers_written_differently_get_full_marks(step):
    """Every alternative of tests/alternatives, the solution, and each known mistake, through the confined
    process."""
    a = lesson(step)
    reference = Reference(a, int.from_bytes(os.urandom(4), "little"))
    whole = authoring.filled(a.source, step)
    with Batch(reference, trusted=True) as batch:

        def statuses(source):
            return {finding.todo: finding for finding in findings(reference, batch.run(source.encode()))}

        for path in sorted((steps.ROOT / "tests" / "alternatives" / step.name).glob("*.py")):
            todo = path.stem.partition("__")[0]
            names = authoring.todo_functions(a.source)[todo]
            found = statuses(authoring.graft(whole, path.read_text(encoding="utf-8"), names))
            failed = [one.text() for one in found.values() if not one.passed]
            assert not failed, f"{path.name}, seed {reference.seed}\n" + "\n".join(failed)
        assert all(one.passed for one in statuses(whole).values())
        assert all(one.status == "not started" for one in statuses(a.exercise()).values())
        for todo, mistakes in a.mistakes.items():
            found = statuses(mistakes[0].applied(whole))[todo]
            assert not found.passed and found.mistake, found.text()
