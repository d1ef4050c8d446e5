"""`python3 -m course lint` finds what it should, and a test that hangs is a failure."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from course import steps
from course.authoring import lint

PAGE = """# The page

## Two words, and `code`

[a](other.md) [b](other.md#two-words-and-code) [c](#the-page) [d](https://example.org/x?y#z) [e](mailto:a@b.c)
![f](pictures/one%20two.png) <a href="step1_x/tutorial.ipynb#First-part">g</a> <a name="own"></a>[h](#own)

| a | b |
|---|---|
| [i](other.md) | ![](attachment:x.png) |

```
[in code](nowhere.md)
```
"""


@pytest.fixture
def course(tmp_path) -> Path:
    """A course of one page, a page beside it, a picture and a lesson."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "pictures").mkdir()
    (tmp_path / "docs" / "pictures" / "one two.png").touch()
    (tmp_path / "docs" / "page.md").write_text(PAGE.replace("step1_x", "../step1_x"))
    (tmp_path / "docs" / "other.md").write_text(PAGE.split("[a]")[0])
    (tmp_path / "step1_x").mkdir()
    lesson(tmp_path, "# First part\n\n[a](../docs/page.md)")
    return tmp_path


def lesson(course: Path, text: str) -> None:
    cells = [
        {"cell_type": "code", "source": ["# [in code](nowhere.md)"]},
        {"cell_type": "markdown", "source": text.splitlines(keepends=True)},
    ]
    (course / "step1_x" / "tutorial.ipynb").write_text(json.dumps({"cells": cells}))


def test_links_that_lead_somewhere(course):
    assert list(lint.broken_links(course)) == []


@pytest.mark.parametrize(
    "link, says",
    [
        ("[x](nowhere.md)", "nowhere.md: no such file in the course"),
        ("![x](pictures/three.png)", "no such file"),
        ('<img src="three.png">', "three.png: no such file"),
        ("[x](other.md#two-words)", "other.md#two-words: no such heading"),
        ("[x](#Two-words)", "no such heading"),
        ("[x](../step1_x/tutorial.ipynb#first-part)", "no such heading"),
        ("[x](pictures/one%20two.png#a)", "no such heading"),
        ("[x](/docs/other.md)", "no such file"),
        ("[x](../../elsewhere.md)", "no such file"),
        ("[x](https:/example.org)", "not an address"),
        ("[x](http://example)", "not an address"),
        ('<a href="http://[::1">x</a>', "Invalid IPv6"),
        ("[x](htp://example.org)", "what is htp:?"),
        ("[x][y]\n\n[y]: nowhere.md", "no such file"),
    ],
)
def test_broken_links_are_named_with_their_place(course, link, says):
    (course / "elsewhere.md").touch()
    page = course / "docs" / "page.md"
    page.write_text(f"{page.read_text()}\nand\n{link}\n")
    (found,) = lint.broken_links(course / "docs" / "..")
    assert found.startswith("docs/page.md, line 16") and says in found
    lesson(course, f"text\n\n[a](../docs/nothing.md)\n\n{link}")
    assert any(
        said.startswith("step1_x/tutorial.ipynb, cell 2, line 3: ../docs/nothing.md") for said in found_in(course)
    )


def found_in(course: Path) -> list[str]:
    return list(lint.broken_links(course))


def test_lint_prints_each_check_and_fails_if_one_does(course, capsys, monkeypatch):
    monkeypatch.setattr(lint, "TOOLS", {"types": ("this", "-q"), "style": ("nothing_of_this_name",)})
    monkeypatch.setattr(lint, "run", lambda command, root: "line 3: bad" if "nothing" in command[0] else "")
    assert lint.main(course) == 1
    assert capsys.readouterr().out == "links: fine\ntypes: fine\nstyle: not fine\nline 3: bad\n\n"
    monkeypatch.setattr(lint, "TOOLS", {"types": ("this",)})
    assert lint.main(course) == 0


def test_what_a_tool_says_is_kept_and_silence_is_no_success(tmp_path):
    (tmp_path / "fails.py").write_text("import sys\nprint('a')\nsys.exit('b')")
    (tmp_path / "mute.py").write_text("raise SystemExit(3)")
    (tmp_path / "fine.py").write_text("print('never mind')")
    assert lint.run(("fails",), tmp_path) == "a\nb"
    assert lint.run(("mute",), tmp_path) == "exit status 3"
    assert lint.run(("fine",), tmp_path) == ""


def test_a_test_that_hangs_is_a_failure_with_a_stack(tmp_path):
    """The settings of pyproject.toml, with a shorter limit, on a test that nothing in Python can interrupt."""
    settings = tomllib.loads((steps.ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert settings["faulthandler_timeout"] > 60
    hang = "import re\n\n\ndef test_hangs():\n    re.match('(a+)+$', 'a' * 60 + 'b')\n"
    (tmp_path / "test_one.py").write_text(f"{hang}\n\ndef test_after():\n    pass\n")
    (tmp_path / "test_two.py").write_text(
        "import pytest\n\n\n@pytest.mark.parametrize('i', range(4))\ndef test(i): pass"
    )
    (tmp_path / "pytest.ini").write_text(
        f"[pytest]\naddopts = {settings['addopts']}\nfaulthandler_timeout = 4\n"
        f"faulthandler_exit_on_timeout = {settings['faulthandler_exit_on_timeout']}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1 and "FAILED test_one.py::test_hangs" in done.stdout, done.stdout + done.stderr
    assert "Timeout (0:00:04)" in done.stderr and 'test_one.py", line 5 in test_hangs' in done.stderr
    assert "4 passed" in done.stdout or "5 passed" in done.stdout
