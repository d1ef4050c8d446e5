"""Every lesson's notebook, executed both ways at preset `smoke`: with the solution written in, and
untouched. Translations hold the same code (tests/test_contract.py), so they need not run.
"""

import json
import os
import shutil

import pytest

from course import authoring, steps
from course.authoring import notebooks

LEFT_OUT = shutil.ignore_patterns(
    ".git",
    ".venv",
    ".course",
    "artifacts",
    "__pycache__",
    ".pytest_cache",
    ".ruff_cache",
    ".ipynb_checkpoints",
    "*.backup-*",
)
LESSONS = [
    pytest.param(step, name, id=f"{step.name}.{name}")
    for step in steps.ROOMS
    for name in sorted({"tutorial.ipynb"} | {path.name for path in step.folder.glob("tutorial*.ipynb")})
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of what the notebooks use, with every exercise untouched; the tests write into it."""
    root = tmp_path_factory.mktemp("copy") / "repository"
    for name in ["course", *(step.name for step in steps.STEPS)]:
        if (steps.ROOT / name).exists():
            shutil.copytree(steps.ROOT / name, root / name, ignore=LEFT_OUT)
    return root


def in_copy(repository, step, code):
    """Make the step's exercise in the copy untouched or solved; return the step's folder there."""
    for one in steps.ROOMS:
        source = one.file("solution").read_text(encoding="utf-8")
        make = authoring.filled if code == "solved" and one == step else authoring.generate
        (repository / one.name / "model_exercise.py").write_text(make(source, one), encoding="utf-8")
    shutil.rmtree(repository / ".course", ignore_errors=True)
    return repository / step.name


def execute(path):
    """Run a notebook where it lies and return its code cells with their outputs. Raises what a cell
    raised.
    """
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    environment = {**os.environ, "COURSE_PRESET": "smoke", "MPLBACKEND": "agg", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.setdefault("OMP_NUM_THREADS", "1")
    environment.pop("PYTEST_CURRENT_TEST", None)
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute(env=environment)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell):
    """What a cell printed and displayed, as plain text."""
    return "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)


@pytest.mark.parametrize("code, status", [("solved", "passed"), ("untouched", "not started yet")])
@pytest.mark.parametrize("step", steps.ROOMS, ids=lambda step: step.name)
def test_a_notebook_runs(repository, step, code, status):
    cells = execute(in_copy(repository, step, code) / "tutorial.ipynb")
    seen = {}
    for cell in cells:
        assert not any(output.output_type == "error" for output in cell.outputs), cell.source
        for todo in notebooks.TEST_CELL.findall(cell.source):
            seen[todo] = shown(cell)
            assert f"{step.short}.{todo}: {status}" in seen[todo], f"{cell.source}\n{seen[todo]}"
            assert any("text/html" in output.get("data", {}) for output in cell.outputs)
    assert sorted(seen) == sorted(step.todos)


@pytest.mark.parametrize("step, name", LESSONS)
def test_a_notebook_is_committed_without_outputs(step, name):
    cells = json.loads((step.folder / name).read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None, cell["source"]
