"""The course as students get it, and the archive for Gradescope."""

import json
import os
import stat
import subprocess
import sys
import zipfile
from dataclasses import replace
from importlib import metadata

import pytest

from course import authoring, chain, cli, steps
from course.checking import check_solution, check_step, lesson, reference, stored
from course.errors import CourseError
from course.grading import gradescope, release
from course.learner import exercise, progress
from course.machine import setup
from tests import toy


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """(the toy's step with its solution, the same step in a copy for students)."""
    tmp = tmp_path_factory.mktemp("release")
    step = toy.lesson(tmp / "course")
    for name in (
        "tests/test_it.py",
        "course/grading/grade.py",
        ".course/memory.json",
        "course/chain.py",
        "course/training/templates/report.html",
        "course/grading/templates/class.html",
        "grades/ann.json",
        "LICENSE",
        "CONTRIBUTING.md",
        "docs/architecture.md",
    ):
        path = tmp / "course" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    (tmp / "course" / "README.md").write_text(
        "# A course\npython3 -m course test     # tests\nread on\n\n## For instructors\n\n"
        "secrets\n\n## For authors\n\nmore\n"
    )
    step.file("exercise").write_text(step.file("exercise").read_text() + "# the instructor's own try\n")
    release.release(tmp / "copy", chosen=[step], root=tmp / "course")
    return step, replace(step, root=tmp / "copy")


def test_solutions_and_mistakes_are_not_in_it(released):
    step, copy = released
    files = sorted(path.relative_to(copy.root).as_posix() for path in copy.root.rglob("*") if path.is_file())
    assert files == [
        "LICENSE",
        "README.md",
        "course/chain.py",
        "course/students_copy.json",
        "course/training/templates/report.html",
        "toy/checks.py",
        "toy/model_exercise.py",
        "toy/stored_cases.bin",
    ]
    assert copy.file("exercise").read_text() == authoring.generate(step.file("solution").read_text(), step)
    readme = (copy.root / "README.md").read_text()
    assert "secrets" not in readme and "more" not in readme and "course test" not in readme and "read on" in readme
    assert not release.leaked(copy.root, [step])
    copy.file("checks").write_text(copy.file("checks").read_text())


def test_a_solution_that_would_be_in_it_stops_the_release(tmp_path):
    long = toy.SOLUTION.replace(
        "return x.sum(-1) / x.shape[-1]",
        "total = x.sum(-1)\n    count_of_columns = x.shape[-1]\n    return total / count_of_columns",
    )
    step = toy.lesson(tmp_path / "course", solution=long, mistakes="MISTAKES = {}\n")
    (tmp_path / "course" / "README.md").write_text(
        "The answer: `total = x.sum(-1)  count_of_columns = x.shape[-1]  return total / count_of_columns`"
    )
    with pytest.raises(CourseError, match="README.md"):
        release.release(tmp_path / "copy", chosen=[step], root=tmp_path / "course")
    assert sorted(os.listdir(tmp_path)) == ["course"], "half a release is left"
    (tmp_path / "course" / "README.md").unlink()
    release.release(tmp_path / "copy", chosen=[step], root=tmp_path / "course")
    with pytest.raises(CourseError, match="already"):
        release.release(tmp_path / "copy", chosen=[step], root=tmp_path / "course")


def written(copy, source):
    copy.file("exercise").write_text(source)
    return {finding.todo: finding for finding in check_step(copy)}


def test_a_check_says_the_same_without_the_solution(released):
    step, copy = released
    whole = authoring.filled(step.file("solution").read_text(), step)
    untouched = exercise.pristine(copy)
    assert {f.status for f in written(copy, whole).values()} == {"passed"}
    assert {f.status for f in written(copy, untouched).values()} == {"not started"}
    for todo, mistakes in lesson(step).mistakes.items():
        for mistake in mistakes:
            for seed in range(3):
                copy.file("exercise").write_text(mistake.applied(whole))
                finding = {f.todo: f for f in check_step(copy, seed=seed)}[todo]
                assert finding.status in ("wrong", "raised") and finding.mistake == mistake.says, finding.text()
    half = authoring.transplant(whole, untouched, ["mean"])
    found = written(copy, half)
    assert (found["mean"].status, found["centred"].blocked_by) == ("not started", "mean")
    other = mistake.applied(whole).replace("- mean(x).mean()", "- 0.5 * mean(x)[:, None]")
    assert "expected" in written(copy, other)["centred"].difference


def test_the_other_verbs_know_that_there_is_no_solution(released):
    step, copy = released
    whole = authoring.filled(step.file("solution").read_text(), step)
    untouched = exercise.pristine(copy)
    copy.file("exercise").write_text(whole)
    assert "no solution" in progress.explain(copy, "mean") or "why" in progress.explain(copy, "mean")
    assert chain.use(copy).__course__ == dict.fromkeys(step.todos, "mine")
    for _ in range(3):
        progress.next_hint(copy, "mean")
    assert "no solution" in progress.next_hint(copy, "mean")[2]
    with pytest.raises(CourseError, match="no solution"):
        check_solution(copy)
    with pytest.raises(CourseError, match="no solution"):
        chain.use(copy, code="solution")
    changed, kept = exercise.reset(copy)
    assert changed and kept.read_text() == whole and copy.file("exercise").read_text() == untouched
    with pytest.raises(CourseError, match="mean, projection, centred do not pass"):
        chain.use(copy)


def test_a_damaged_file_of_cases_is_said(released, tmp_path):
    _, copy = released
    broken = replace(copy, root=tmp_path)
    broken.folder.mkdir()
    broken.file("checks").write_text(copy.file("checks").read_text())
    broken.file("exercise").write_text(copy.file("exercise").read_text())
    for data in (b"", copy.file("stored").read_bytes()[:-5], b"\0" * 100):
        broken.file("stored").write_bytes(data)
        with pytest.raises(CourseError, match="damaged"):
            check_step(broken)


def test_a_released_solution_is_in_it(tmp_path):
    step = toy.lesson(tmp_path / "course")
    release.release(tmp_path / "copy", solutions=[step], chosen=[step], root=tmp_path / "course")
    copy = replace(step, root=tmp_path / "copy")
    assert copy.file("solution").exists() and not copy.file("stored").exists()
    assert all(finding.passed for finding in check_solution(copy))


def test_heavy_cases_are_left_out_where_there_are_others(tmp_path):
    heavy = toy.CHECKS.replace("for B, D in ((3, 5), (2, 7)):", "for B, D in ((300, 500), (2, 7)):")
    step = toy.lesson(tmp_path, checks=heavy)
    reference.save(lesson(step), tmp_path / "cases.bin", [1])
    assert (tmp_path / "cases.bin").stat().st_size < 2**18
    held = stored.load(tmp_path / "cases.bin").sets[0]
    assert [len(held[todo]["cases"]) for todo in ("mean", "projection", "centred")] == [1, 1, 1]


def test_a_students_copy_has_the_students_verbs(monkeypatch, tmp_path, capsys):
    (tmp_path / "students_copy.json").write_text("{}")
    monkeypatch.setattr(cli, "STUDENTS_COPY", tmp_path / "students_copy.json")
    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert "for learners" in said and "  grade " not in said and "audit" not in said and "Every verb" in said
    assert cli.main(["build"]) == 2 and "made for students" in capsys.readouterr().err


def test_the_archive_for_gradescope(tmp_path):
    step = steps.find_step("step5")
    distributions = metadata.packages_distributions()
    weights = tmp_path / "w.json"
    weights.write_text('{"points": {"dpo_loss": 4}}')
    gradescope.pack(step, tmp_path / "autograder.zip", weights)
    with zipfile.ZipFile(tmp_path / "autograder.zip") as archive:
        names = archive.namelist()
        for name in ("setup.sh", "run_autograder"):
            assert archive.getinfo(name).external_attr >> 16 & stat.S_IXUSR
            assert subprocess.run(["bash", "-n"], input=archive.read(name)).returncode == 0
        assert "step5_rlhf" in archive.read("run_autograder").decode()
        assert "torch==" in archive.read("requirements-grading.txt").decode()
        assert {"step5_rlhf/model_solution.py", "course/grading/zygote.py", "weights.json"} <= set(names)
        templates = {path.relative_to(steps.ROOT).as_posix() for path in (steps.ROOT / "course").rglob("*.html")}
        assert len(templates) > 4 and templates <= set(names)
        wanted = archive.read("requirements-grading.txt").decode()
        for module in setup.LESSON:  # what the graded pages and plots need too
            assert any(f"\n{name}==" in wanted for name in distributions[module]), module
        assert not any(name.startswith(("tests/", ".git/")) or "__pycache__" in name for name in names)
        archive.extractall(tmp_path / "source")
    assert sum(path.stat().st_size for path in (tmp_path / "source").rglob("*")) < 5e6
    with pytest.raises(CourseError):
        gradescope.pack(step, tmp_path)


@pytest.mark.slow
def test_the_archive_for_gradescope_grades(tmp_path):
    """As the container would start it: the unpacked archive grades a file and writes results.json, also
    where there is nothing to grade."""
    step = steps.find_step("step5")
    gradescope.pack(step, tmp_path / "autograder.zip")
    with zipfile.ZipFile(tmp_path / "autograder.zip") as archive:
        archive.extractall(tmp_path / "source")
    code = (
        "from pathlib import Path; from course import steps; from course.grading import gradescope\n"
        "gradescope.run(steps.find_step('step5'), Path({!r}), Path({!r}))"
    )
    for source, score in ((authoring.filled(lesson(step).source, step), 6), (None, 0)):
        handed_in, results = tmp_path / f"in{score}", tmp_path / f"out{score}" / "results.json"
        handed_in.mkdir()
        if source:
            (handed_in / "my file.py").write_text(source)
        subprocess.run(
            [sys.executable, "-c", code.format(str(handed_in), str(results))],
            cwd=tmp_path / "source",
            check=True,
            stdout=subprocess.DEVNULL,
        )
        said = json.loads(results.read_text())
        assert said["score"] == (sum(check.points for check in lesson(step).checks.values()) if source else 0)


@pytest.mark.slow
def test_the_whole_course_is_released(tmp_path):
    """The real course: nothing leaks, and a student's copy checks, resets and hints in a process of its
    own."""
    hidden = [steps.find_step("step4"), steps.find_step("step5")]
    given = [step for step in steps.STEPS if step not in hidden]
    release.release(tmp_path / "copy", solutions=given)
    assert not list((tmp_path / "copy").rglob("test_*.py")) and not list(
        (tmp_path / "copy" / "step4_sft").glob("m*s.py")
    )

    def course(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "course", *arguments], cwd=tmp_path / "copy", capture_output=True, text=True
        )

    said = course("check", "step4")
    assert said.returncode == 1 and "not started yet" in said.stdout and not said.stderr, said.stderr
    a = lesson("step4")
    mistake = a.mistakes["collate"][0]
    exercise = tmp_path / "copy" / "step4_sft" / "model_exercise.py"
    exercise.write_text(mistake.applied(authoring.filled(a.source, a.step)))
    assert mistake.says.split(".")[0] in " ".join(course("check", "step4.collate").stdout.split())
    assert "untouched again" in course("reset", "step4").stdout
    assert course("check", "--solution").returncode == 1 and "  grade " not in course("--help").stdout
    status = course("status")
    assert status.returncode == 0 and "step4" in status.stdout
    assert "made for students" in course("test").stderr
    assert len([path for path in (tmp_path / "copy").rglob("*") if path.is_file() and path.stat().st_size > 5e6]) == 0
