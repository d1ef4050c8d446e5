"""Milestones: bands measured over seeds, what is said inside and outside of them, and that every lesson's are
measured."""

import ast
import json
import math

import pytest

from course import steps
from course.authoring import notebooks
from course.learner import milestones

LESSONS = [pytest.param(step, id=step.name) for step in steps.STEPS[1:]]  # step 1 trains nothing by gradient


def calls(step) -> list[ast.Call]:
    cells = notebooks.code_cells((step.folder / "tutorial.ipynb").read_text(encoding="utf-8"))
    return [
        node
        for cell in cells
        for node in ast.walk(ast.parse(cell))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "milestone"
    ]


@pytest.mark.parametrize("step", LESSONS)
def test_every_milestone_of_a_lesson_is_measured_and_explained(step):
    known = json.loads(milestones.MEASURED.read_text(encoding="utf-8"))
    used = calls(step)
    assert used
    for call in used:
        name, better, *causes = (one.value for one in (call.args[0], *call.args[2:]))
        assert name.startswith(f"{step.short}.") and better in ("lower", "higher", "near")
        assert len(known[name]) >= 3 and all(map(math.isfinite, known[name]))
        assert 1 <= len(causes) <= 3 and all(len(cause) > 20 for cause in causes)
    assert {name for name in known if name.startswith(f"{step.short}.")} == {call.args[0].value for call in used}


@pytest.mark.parametrize(
    "better, value, fine",
    [
        ("lower", 1.0, True),
        ("lower", 2.2, True),
        ("lower", 2.6, False),
        ("lower", -9.0, True),
        ("lower", math.nan, False),
        ("higher", 1.0, True),
        ("higher", 0.2, False),
        ("higher", 99.0, True),
        ("near", 1.2, True),
        ("near", 0.2, False),
        ("near", 2.6, False),
        ("near", math.inf, False),
    ],
)
def test_a_value_is_judged_by_other_seeds(tmp_path, monkeypatch, capsys, better, value, fine):
    monkeypatch.setattr(milestones, "MEASURED", tmp_path / "known.json")
    milestones.MEASURED.write_text('{"step9.loss": [1.0, 1.75, 1.5]}')
    assert milestones.milestone("step9.loss", value, better, "the mask is missing", "the rate is 0") is fine
    said = capsys.readouterr().out
    assert ("as it should be" in said) is fine and ("1. the mask is missing\n" in said) is not fine
    assert "over 3 seeds it was from 1 to 1.75" in said


def test_a_band_has_some_room_even_where_all_seeds_agree():
    assert milestones.band([0.0, 0.0, 0.0], "lower") == (-math.inf, 0.01)
    assert milestones.band([100.0, 100.0], "near") == (95.0, 105.0)


def test_a_milestone_is_written_down_while_measuring(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(milestones.DIARY, str(tmp_path / "diary"))
    monkeypatch.setattr(milestones, "MEASURED", tmp_path / "none.json")
    assert milestones.milestone("step9.loss", 0.5, "lower") and milestones.milestone("step9.score", 1.0, "higher")
    assert [json.loads(line) for line in (tmp_path / "diary").read_text().splitlines()] == [
        ["step9.loss", 0.5],
        ["step9.score", 1.0],
    ]
    assert "not measured elsewhere" in capsys.readouterr().out
