"""A room inside a step's folder is a lesson like the six: found by one word, checked, hinted, graded, trained."""

import sys

import pytest
import torch

from course import authoring, chain, checking, cli, steps
from course.checking import audit, record
from course.grading import grade as grading
from course.grading.runner import Limits
from course.learner import exercise, progress, upgrade
from course.training.place import Place
from tests import toy
from tests.attacks import file


@pytest.fixture
def side(tmp_path, monkeypatch):
    """A toy lesson in the folder of a step, in a list with the six."""
    room = toy.lesson(tmp_path, name="step9_toys/sums")
    step = steps.Step("step9_toys", "Toys", ("nothing",), 1, root=tmp_path)
    monkeypatch.setattr(steps, "ROOMS", (*steps.ROOMS, step, room))
    return room


def test_its_names(side):
    for text in ("sums", "SUMS", "step9_toys/sums", "./step9_toys/sums/", side):
        assert steps.find_step(text) is side
    assert (side.short, side.slug, side.package, side.number) == ("sums", "step9_toys_sums", "step9_toys.sums", 0)
    assert steps.find("sums.mean") == (side, "mean") == steps.find("mean")
    assert steps.find("step9") == (steps.ROOMS[-2], None), "a step's number is its own room"
    assert steps.select("step9+") == ([steps.ROOMS[-2], side], None)
    assert steps.select("sums.mean") == ([side], "mean") and steps.select("sums+") == ([side], None)
    with pytest.raises(steps.UnknownName, match="sums"):
        steps.find_step("sum")


def test_every_short_name_is_unique():
    names = [room.short for room in steps.ROOMS] + [str(room.number) for room in steps.STEPS]
    assert len(set(names)) == len(names)


def test_its_exercise_tests_itself(side, capsys):
    module = steps.load(side, "exercise")
    module.test_mean()
    assert "sums.mean: not started yet" in capsys.readouterr().out
    side.file("exercise").write_text(authoring.filled(toy.SOLUTION, side))
    module = steps.load(side, "exercise")
    module.test_mean()
    assert "sums.mean: passed" in capsys.readouterr().out
    assert module.__name__ != steps.load("step6", "exercise").__name__


def test_the_learners_verbs(side, capsys):
    side.file("exercise").write_text(
        authoring.filled(toy.SOLUTION, side).replace("x.sum(-1) / x.shape[-1]", "x.sum(0) / x.shape[0]")
    )
    assert cli.main(["check", "sums"]) == 1
    assert "average over the batch" in capsys.readouterr().out
    assert cli.main(["hint", "sums.mean"]) == 0 and "sums.mean, hint 1 of 3" in capsys.readouterr().out
    assert (side.root / ".course" / "step9_toys_sums.hints.json").exists()
    assert progress.status([side]) == {side.name: {"mean": "wrong", "projection": "passed", "centred": "blocked"}}
    assert "sums" in progress.table([side]) and record.recall(side, "passes", "projection")
    changed, kept = exercise.reset(side, "mean")
    assert changed and kept.parent == side.folder
    assert "up to date" in upgrade.upgrade([side], pull=False)[0].says


def test_the_chain_runs_on_it(side):
    side.file("exercise").write_text(authoring.filled(toy.SOLUTION, side))
    module = chain.use("sums")
    assert set(module.__course__.values()) == {"mine"} and module.mean(torch.ones(2, 3)).tolist() == [1.0, 1.0]
    place = Place("smoke", out=side.root / "artifacts")
    assert place.folder(side) == side.root / "artifacts" / "step9_toys_sums", "not inside the step's own artifact"
    assert place.command(side) == f"python3 -m course run --steps sums --preset smoke --out {place.root}"


def test_its_checks_are_audited(side):
    result = audit.audit_todo(side, "mean")
    assert result.todo == "sums.mean" and result.caught == result.catalogued == 3


@pytest.mark.skipif(sys.platform == "win32", reason="grading needs fork")
def test_it_is_graded(side, tmp_path):
    for name, source in {"ann": file(), "bob": file(mean="return x.sum(0) / x.shape[0]")}.items():
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "model_exercise.py").write_text(source)
    limits = Limits(call=10.0, submission=60.0, memory=1 << 29)
    grading.grade(grading.Settings(tmp_path / "in", side, tmp_path / "out", limits=limits, trusted=True))
    rows = (tmp_path / "out" / "grades.csv").read_text().splitlines()
    assert rows[1].startswith("ann,ann,4,4") and rows[2].startswith("bob,bob,2,4"), rows
    assert [finding.id for finding in checking.check_step(side)] == ["sums.mean", "sums.projection", "sums.centred"]
