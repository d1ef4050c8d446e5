"""The command line as a lesson's cells have it: %course in a real kernel; and what a card is made of."""

import shutil

import pytest

from course import steps
from course.checking import Finding
from course.display import cards
from course.display.commands import in_cell
from tests.test_notebooks import LEFT_OUT, execute, shown


def test_the_verbs_work_as_cells(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    root = tmp_path / "repository"
    for name in ("course", "step6_vlm"):
        shutil.copytree(steps.ROOT / name, root / name, ignore=LEFT_OUT)
    lines = [
        "status",
        "hint step6.projection",
        "hint step6.projection",
        "check step6.projection",
        "explain step6.projection",
        "reset step6.projection",
        "hint step6.projektion",
        "hint",
        "run --preset tiny",
    ]
    page = nbformat.v4.new_notebook()
    page.cells = [
        nbformat.v4.new_code_cell("import sys; sys.path.insert(0, '..')\nfrom course import notebook\nnotebook.begin()")
    ]
    page.cells += [nbformat.v4.new_code_cell(f"%course {line}") for line in lines]
    nbformat.write(page, root / "step6_vlm" / "page.ipynb")
    first, *cells = execute(root / "step6_vlm" / "page.ipynb")
    assert not first.outputs  # nothing is in the way, so nothing is said
    status, hint, hint_2, check, explain, reset, unknown, incomplete, run = map(shown, cells)
    assert "next: " in status and "step6" in status
    assert "hint 1 of 3" in hint and "hint 2 of 3" in hint_2
    assert check.startswith("step6.projection: not started yet") and "0 of 1 pass" in check
    assert "to see the solution now would spoil it" in explain
    assert "untouched already" in reset
    assert "Did you mean projection?" in unknown
    assert "STEP.TODO" in incomplete
    assert run == "In a terminal: python3 -m course run --preset tiny"
    for cell in cells:
        assert all(
            "text/html" in output.data and 'role="status"' in output.data["text/html"] for output in cell.outputs
        )
        assert "python3 -m course hint" not in "".join(output.data["text/html"] for output in cell.outputs)


def test_a_card_says_in_words_what_its_colour_says():
    for status, words in (
        ("passed", "passed"),
        ("not started", "not started yet"),
        ("wrong", "not right yet"),
        ("raised", "stopped with an error"),
        ("blocked", "blocked by mean"),
    ):
        finding = Finding("step6_vlm", "projection", status, blocked_by="mean" if status == "blocked" else "")
        assert f"<b>{words}</b>" in finding.html()


def test_what_a_card_shows_is_text():
    shown = cards.card(
        "a<b", "x & y", [("printed", "<script>alert(1)</script>"), ("hint", "one\ntwo")], code=("printed",)
    )
    assert "<script>" not in shown and "a&lt;b" in shown and "x &amp; y" in shown and "one<br>two" in shown


def test_a_cell_names_the_cells_own_command():
    assert in_cell("More: python3 -m course hint step1.merge", ["hint"]) == "More: %course hint step1.merge"
    assert in_cell("then python3 -m course run", ["hint"]) == "then python3 -m course run"
