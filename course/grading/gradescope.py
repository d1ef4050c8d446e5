"""The verb `gradescope`: an autograder to upload, https://gradescope-autograders.readthedocs.io.

Gradescope starts a container as root for each submission, calls `setup.sh` when the image is built and
`run_autograder` with the file in /autograder/submission. The course lies where only root can read it; the
file itself runs as nobody, as confined as that container's kernel allows. Where it allows less than level 2,
the container that holds nothing but this one submission is what protects everybody else; what protects the
solution is the user.
"""

import argparse
import shlex
import zipfile
from pathlib import Path

from course import steps
from course.checking import lesson
from course.errors import CourseError
from course.grading.files import course_files
from course.grading.grade import Settings, grade
from course.grading.marking import Weights
from course.steps import Step

SETUP = """#!/usr/bin/env bash
set -euo pipefail
apt-get update
apt-get install -y python3 python3-venv bubblewrap
python=python3
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    apt-get install -y python3.11 python3.11-venv
    python=python3.11
fi
"$python" -m venv /opt/course-python
/opt/course-python/bin/pip install --no-cache-dir -r /autograder/source/requirements-grading.txt
chmod -R go-rwx /autograder/source
"""
RUN = """#!/usr/bin/env bash
# Whatever happens, there are results: Gradescope shows a missing file as an error of the autograder.
cd /autograder/source
/opt/course-python/bin/python -m {module} {step}
"""
MODULE = __spec__.name  # also where this very file runs as __main__
LEFT_OUT = ("tests/", "benchmarks/", ".ci/", "docs/")
PACKAGES = ("torch", "numpy", "regex", "pillow", "safetensors", "tqdm", "psutil", "matplotlib", "Jinja2")


def main(args: argparse.Namespace) -> int:
    out = Path(args.out)
    pack(args.step, out, args.weights and Path(args.weights))
    print(
        f"{out} is ready ({out.stat().st_size / 1e6:.1f} MB): upload it as the assignment's autograder.\n"
        f"Points on Gradescope: {Weights.read(lesson(args.step).checks, args.weights).best:g}."
    )
    return 0


def pack(step: Step, out: Path, weights: Path | None = None, root: Path = steps.ROOT) -> None:
    """Write the archive, whole or not at all."""
    if out.is_dir():
        raise CourseError(f"{out} is a folder: name an archive, such as autograder.zip.")
    Weights.read(lesson(step).checks, weights)
    names = [
        name
        for name in course_files(root)
        if not name.startswith(LEFT_OUT) and not name.endswith((".ipynb", ".safetensors"))
    ]
    temporary = out.with_name(f".{out.name}.part")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.write(root / name, name)
            archive.writestr(
                "requirements-grading.txt", requirements((root / "requirements.txt").read_text(encoding="utf-8"))
            )
            if weights is not None:
                archive.write(weights, "weights.json")
            for name, text in (
                ("setup.sh", SETUP),
                ("run_autograder", RUN.format(step=shlex.quote(step.name), module=MODULE)),
            ):
                member = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
                member.external_attr = 0o755 << 16
                archive.writestr(member, text)
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def requirements(text: str) -> str:
    """The lines of requirements.txt that grading needs; torch without CUDA, which a grader has no use for."""
    lines = [line for line in text.splitlines() if line.partition("==")[0].strip() in PACKAGES]
    return "--extra-index-url https://download.pytorch.org/whl/cpu\n" + "\n".join(lines) + "\n"


def run(step: Step, submission: Path, results: Path) -> None:
    """In the container: grade what was handed in, and write results.json."""
    import json
    import shutil
    import tempfile

    weights = steps.ROOT / "weights.json"
    with tempfile.TemporaryDirectory() as folder:
        try:
            place = Path(folder)
            (place / "in").mkdir()
            shutil.copytree(submission, place / "in" / "submission", symlinks=True)
            grade(
                Settings(place / "in", step, place / "out", weights if weights.exists() else None, trusted=True), print
            )
            said = next((place / "out" / "results").glob("*.json")).read_text(encoding="utf-8")
        except (CourseError, OSError, StopIteration) as error:
            said = json.dumps({"score": 0, "output": f"This submission could not be graded: {error}"})
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(said, encoding="utf-8")


if __name__ == "__main__":
    import sys

    run(steps.find_step(sys.argv[1]), Path("/autograder/submission"), Path("/autograder/results/results.json"))
