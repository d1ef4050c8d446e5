"""The verb `release`: the course as students get it.

Left out are solutions, known mistakes, tests, and what grades. In their place each step gets a file of cases,
drawn now, with the answers expected and those of the known mistakes (course/checking/stored.py), so that
`check` still says what is wrong, and `reset` still knows the untouched exercise.
"""

import argparse
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from course import grading, steps
from course.authoring import mutations
from course.authoring.exercise import BEGIN, END
from course.checking import audit
from course.checking.lessons import lesson
from course.checking.reference import save
from course.errors import CourseError
from course.grading.files import copy, course_files
from course.learner.exercise import pristine
from course.machine.files import write
from course.steps import Step

SETS = 3  # of cases; a check draws one of them
GRADING = Path(grading.__file__).parent.relative_to(steps.ROOT).as_posix()
FOLDERS = ("tests/", "benchmarks/", ".ci/", ".github/", f"{GRADING}/")
FILES = (
    *(Path(str(module.__file__)).relative_to(steps.ROOT).as_posix() for module in (audit, mutations)),
    "docs/grading.md",
    "docs/architecture.md",
    "CONTRIBUTING.md",
    ".pre-commit-config.yaml",
    "requirements-dev.txt",
)


def main(args: argparse.Namespace) -> int:
    release(Path(args.to), args.solutions, say=lambda line: print(line, flush=True))
    print(f"{args.to} is ready. Unpack it where you will, and try: python3 -m course check step1")
    return 0


def release(
    to: Path,
    solutions: Iterable[Step] = (),
    chosen: Iterable[Step] = steps.ROOMS,
    root: Path = steps.ROOT,
    say: Callable[[str], object] = lambda line: None,
) -> None:
    """Write the copy for students into `to`, with the solutions of the steps `solutions`. It is there
    whole, or not at all. Raises CourseError where `to` holds something, or where a solution would be in it
    after all."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise CourseError(f"{to} is there already. Name a folder that does not exist, or an empty one.")
    given = {step.name for step in solutions}
    hidden = [step for step in chosen if step.name not in given]
    secret = {f"{step.name}/{steps.FILES[which]}" for step in hidden for which in ("solution", "mistakes")}
    names = [
        name
        for name in course_files(root, chosen)
        if not name.startswith(FOLDERS) and name not in FILES and name not in secret
    ]
    to.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{to.name}-", dir=to.parent))
    try:
        work.chmod(0o755)
        copy(names, work, root)
        for step in chosen:
            write(work / step.name / steps.FILES["exercise"], pristine(step))
        for step in hidden:
            say(f"{step.name}: cases, answers, mistakes ...")
            save(
                lesson(step),
                work / step.name / steps.FILES["stored"],
                [int.from_bytes(os.urandom(4), "little") for _ in range(SETS)],
            )
        (work / "course").mkdir(exist_ok=True)
        said = {"made": time.strftime("%Y-%m-%d"), "solutions": sorted(given)}
        (work / "course" / "students_copy.json").write_text(json.dumps(said) + "\n", encoding="utf-8")
        if (work / "README.md").exists():
            readme = work / "README.md"
            readme.write_text(for_students(readme.read_text(encoding="utf-8")), encoding="utf-8")
        leaks = leaked(work, hidden)
        if leaks:
            raise CourseError("A solution would be in the copy:\n" + "\n".join(f"  {leak}" for leak in leaks))
        if to.exists():
            to.rmdir()
        work.rename(to)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def for_students(readme: str) -> str:
    """The README without the sections and lines about what is left out."""
    readme = re.split(r"^## For instructors", readme, flags=re.MULTILINE)[0]
    lines = [line for line in readme.splitlines(keepends=True) if not line.startswith("python3 -m course test")]
    return (
        "".join(lines).rstrip()
        + "\n\nThis copy was made for students: it has no solutions, and no tests of the course itself.\n"
    )


def leaked(folder: Path, hidden: Iterable[Step]) -> list[str]:
    """Files of the copy in which the body of a TODO of these steps stands, whatever its layout."""
    bodies = {}
    for step in hidden:
        source = step.file("solution").read_text(encoding="utf-8")
        for body in re.findall(rf"{BEGIN}\n(.*?){END}", source, re.DOTALL):
            plain = "".join(body.split())
            if len(plain) > 60:
                bodies[plain] = step.name
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in (".py", ".md", ".ipynb", ".json", ".txt", ".toml", ""):
            text = "".join(path.read_text(encoding="utf-8", errors="replace").replace("\\n", "").split())
            found += [f"{path.relative_to(folder)}: of {name}" for body, name in bodies.items() if body in text]
    return found
