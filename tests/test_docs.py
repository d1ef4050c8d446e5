"""The pages for people: what they name is there."""

import json
import re
import shlex
from pathlib import Path

import pytest

from course import cli, steps
from course.errors import CourseError
from course.grading import release
from course.machine import doctor

ROOT = steps.ROOT
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += sorted((ROOT / ".github").rglob("*.yml"))
MADE = ("artifacts/", "submissions/", "grades/", "records/", "pages/", "results/", "peers/", "pictures/", ".course/")
TREE = re.compile(r"^( *)([\w.]+/?)(?:  +\S.*)?$")

each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


def text_of(path: Path) -> str:
    """A page with commands on one line each: a backslash at a line's end goes on in the next."""
    return re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))


def commands(text: str) -> list[str]:
    """What stands after `python3 -m` in code: the lines of blocks, and what stands in backticks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    code = lines + [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    return [found.group(1) for line in code if (found := re.search(r"python3? -m (.+)", line))]


def parts(command: str) -> list[str]:
    """The words of a command, without a comment behind it."""
    return shlex.split(command, comments=True)


def module_is_there(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@each_page
def test_commands_are_there(path):
    for command in commands(text_of(path)):
        module, *words = parts(command)
        if module != "course":
            ours = re.match(r"(course|benchmarks|tests|step\d)", module)
            assert not ours or module_is_there(module), f"python3 -m {command}"
        elif words and words[0].islower():
            assert words[0] in cli.VERBS, f"python3 -m {command}"
            if not any(re.fullmatch(r"[A-Z][A-Z.\[\]]*|STEP\.TODO|\.\.\.|\W+", word) for word in words):
                accepted(words)


def accepted(words: list[str]) -> None:
    """Let the command line read these words. `my_id` stands for a TODO that the reader has added."""
    own = words[: words.index("--")] if "--" in words else words
    try:
        cli.parser().parse_args([re.sub(r"\.my_id$", "", word) for word in own])
    except (CourseError, SystemExit) as error:
        pytest.fail(f"python3 -m course {' '.join(words)}: {error}")


@each_page
def test_files_in_backticks_are_there(path):
    prose = re.sub(r"^```.*?^```", "", text_of(path), flags=re.MULTILINE | re.DOTALL)
    for name in re.findall(r"`([\w.-]+/[\w./-]*)`", prose):
        there = (ROOT / name).exists() or (ROOT / "course" / name).is_dir()  # the floors' table names packages
        assert there or name.startswith(MADE) or name.isupper(), f"{path.name} names {name}"


def test_the_students_readme_links_to_what_they_have():
    said = release.for_students((ROOT / "README.md").read_text(encoding="utf-8"))
    links = [target for target in re.findall(r"\]\(([^)#\s]+)\)", said) if not target.startswith("http")]
    assert links and "CHANGELOG.md" in links
    for name in links:
        assert (ROOT / name).exists() and not name.startswith(release.FOLDERS) and name not in release.FILES, name
    assert "python3 -m course test" not in said and "python3 -m course learn" in said


# docs/architecture.md


def architecture() -> str:
    return (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def tree(text: str, top: str) -> set[str]:
    """The files of a tree that is drawn with two spaces a level, below the folder `top`; of templates/ the folder."""
    block = re.search(rf"^```\n{top}\n(.*?)^```", text, re.MULTILINE | re.DOTALL).group(1)
    found, folders = set(), []
    for line in block.splitlines():
        indent, name = TREE.match(line).groups()
        folders = [*folders[: len(indent) // 2 - 1], name]
        if not name.endswith("/") or name == "templates/":
            found.add(top + "".join(folders))
    return found


def test_the_tree_of_course_is_whole():
    there = {
        re.sub(r"(/templates/).+", r"\1", path.relative_to(ROOT).as_posix())
        for path in (ROOT / "course").rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.name not in ("__init__.py", "students_copy.json")
    }
    assert tree(architecture(), "course/") == there, "docs/architecture.md: a line for each file of course/"


def test_the_tree_of_a_step_is_there():
    assert all((ROOT / name).exists() for name in tree(architecture(), "step6_vlm/"))


def test_functions_in_the_architecture_are_there():
    """`course/x.py` followed or preceded by `name()` in one sentence: somewhere in course/ there is such a function."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "course").rglob("*.py"))
    exercise = steps.find_step("step6").file("solution").with_name("model_exercise.py").read_text(encoding="utf-8")
    named = re.findall(r"`(?:\w+\.)?(\w+)\([^`]*\)`", architecture())
    assert len(set(named)) > 25
    for name in named:
        assert re.search(rf"^ *(def|class) {name}\b", code + exercise, re.MULTILINE), name
    for name in re.findall(r"`([A-Z]\w+)` in `course", architecture()):
        assert re.search(rf"^class {name}\b", code, re.MULTILINE), name


# What stands in several places


def test_the_oldest_python_is_said_the_same_everywhere():
    floor = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text()).group(1)
    assert f"Python {floor} or newer" in (ROOT / "README.md").read_text(encoding="utf-8")
    ci = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert set(re.findall(r'python: \["([\d.]+)"', ci)) == {floor}
    assert f"sys.version_info < ({floor.replace('.', ', ')})" in (ROOT / "course" / "__main__.py").read_text()


def test_contributors_are_told_what_ci_installs():
    said = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"sudo apt-get install {' '.join(doctor.PROGRAMS)}\n" in said


def test_dev_containers_are_json_and_end_ready():
    for path in (ROOT / ".devcontainer").rglob("devcontainer.json"):
        said = json.loads(path.read_text(encoding="utf-8"))
        assert said["postCreateCommand"] == "python3 -m course setup" and said["forwardPorts"] == [8888]
