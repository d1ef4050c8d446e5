"""The course sets itself up, from a wheel made on the spot: no network and no real install."""

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from course.machine import setup
from course.machine.setup import SetupError, Venv
from course.steps import ROOT

NAME = "coursedummy"

# What the copy's command does instead of the real verbs: needs the dummy, then tells where it runs.
CLI = """
import sys
from course.machine import setup
from course.errors import CourseError


def main():
    try:
        setup.ensure(("json", "coursedummy"), sys.argv[1:])
    except CourseError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    import coursedummy
    print("running", coursedummy.VERSION, sys.prefix, sys.argv[1:])
    return 7
"""


def wheel(folder: Path, version: str = "1.0") -> None:
    """A wheel of the dummy package, by hand."""
    folder.mkdir(exist_ok=True)
    info = f"{NAME}-{version}.dist-info"
    files = {
        f"{NAME}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={hashlib.sha256(text.encode()).hexdigest()},{len(text)}\n" for name, text in files.items()
    )
    with zipfile.ZipFile(folder / f"{NAME}-{version}-py3-none-any.whl", "w") as file:
        for name, text in {**files, f"{NAME}-{version}.dist-info/RECORD": record}.items():
            file.writestr(name, text)


# Without ensurepip, environments are made by the pip outside, which is much quicker than installing a pip
# inside.
NO_ENSUREPIP = """
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "ensurepip" else real(name, *more)
"""


@pytest.fixture
def copy(tmp_path) -> Path:
    """The set-up's own files, a requirements.txt that asks for the dummy, a folder of wheels that has it."""
    folder = make(tmp_path / "a folder with spaces")
    if setup.pip_version() >= (22, 3):
        (folder / "course" / "cli.py").write_text(NO_ENSUREPIP + CLI)
    return folder


def make(folder: Path) -> Path:
    (folder / "course" / "machine").mkdir(parents=True)
    own = [
        path.name for path in (ROOT / "course" / "machine").glob("*.py") if path.stem in ("__init__", "files", "setup")
    ]
    for name in ("__init__.py", "__main__.py", "errors.py", "steps.py", *(f"machine/{name}" for name in own)):
        shutil.copy(ROOT / "course" / name, folder / "course" / name)
    (folder / "course" / "cli.py").write_text(CLI)
    (folder / "requirements.txt").write_text(f"{NAME}==1.0\n")
    wheel(folder / "wheels")
    return folder


def call(folder: Path, *words: str, python=sys.executable, cwd=None, **environment) -> subprocess.CompletedProcess:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "COURSE_", "PYTHON"))}
    clean |= {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": (folder / "wheels").as_uri(),
        "PIP_CONFIG_FILE": os.devnull,
        **environment,
    }
    start = ["-m", "course"] if cwd is None else [str(folder / "course")]
    return subprocess.run(
        [python, *start, *words],
        cwd=cwd or folder,
        env=clean,
        capture_output=True,
        text=True,
        timeout=600,
        stdin=subprocess.DEVNULL,
    )


def marker(folder) -> Path:
    return folder / ".venv" / "course-setup.json"


def went_on(done, folder) -> bool:
    return done.returncode == 7 and "running" in done.stdout and str(folder / ".venv") in done.stdout


def test_it_sets_itself_up_once_and_goes_on(tmp_path):
    copy = make(tmp_path / "a folder with spaces")
    done = call(copy, "run", "--seed", "1 2")
    assert went_on(done, copy), done.stderr
    assert "['run', '--seed', '1 2']" in done.stdout
    for text in ("lacks coursedummy", str(copy / ".venv"), "requirements.txt", "GB", "minutes"):
        assert text in done.stderr, text
    assert json.loads(marker(copy).read_text())["state"] == "done"
    again = call(copy, "run", PIP_FIND_LINKS="", cwd=tmp_path)  # by path, from elsewhere, with nothing to install from
    assert went_on(again, copy) and again.stderr == ""
    inside = call(copy, python=str(Venv(copy).python))  # activated
    assert went_on(inside, copy) and inside.stderr == ""


def test_an_interrupted_install_is_noticed_and_made_anew(copy):
    assert went_on(call(copy), copy)
    half = next((copy / ".venv").rglob(f"{NAME}.py"))
    half.write_text("VERSION = ")  # as a kill may leave it
    marker(copy).write_text(json.dumps({"state": "installing", "made": True, "requirements": "x"}))
    done = call(copy)
    assert went_on(done, copy) and "interrupted" in done.stderr


def test_an_environment_that_lost_its_python_is_made_anew(copy):
    assert went_on(call(copy), copy)
    python = Venv(copy).python
    python.unlink()
    python.symlink_to("/nowhere/python")
    done = call(copy)
    assert went_on(done, copy) and "does not work any more" in done.stderr


def test_somebodys_own_environment_is_used_and_never_removed(copy):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", copy / ".venv"], check=True)
    site = next((copy / ".venv").rglob("site-packages"))
    (site / f"{NAME}.py").write_text("VERSION = 'mine'\n")
    done = call(copy)
    assert went_on(done, copy) and "running mine" in done.stdout and done.stderr == ""
    assert not marker(copy).exists()
    marker(copy).write_text(json.dumps({"state": "installing", "made": False, "requirements": "x"}))
    done = call(copy)
    assert done.returncode == 1 and "remove the folder" in done.stderr and (site / f"{NAME}.py").exists()


def test_changed_pins_are_installed_and_without_a_network_what_is_there_will_do(copy):
    assert went_on(call(copy), copy)
    wheel(copy / "wheels", "2.0")
    (copy / "requirements.txt").write_text(f"{NAME}==2.0\n")
    done = call(copy)
    assert went_on(done, copy) and "running 2.0" in done.stdout and "has changed" in done.stderr
    (copy / "requirements.txt").write_text(f"{NAME}==3.0\n")
    done = call(copy)
    assert went_on(done, copy) and "running 2.0" in done.stdout and "Going on with what is installed" in done.stderr


def test_a_failed_install_says_what_and_what_to_do(copy):
    (copy / "requirements.txt").write_text(f"{NAME}==9.0\n")
    done = call(copy)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"There is no {NAME}==9.0 for this Python" in done.stderr and "3.10 to 3.13" in done.stderr
    (copy / "requirements.txt").write_text(f"{NAME}==1.0\n")
    assert went_on(call(copy), copy)


def test_it_never_goes_round_and_round(copy):
    (copy / "requirements.txt").write_text("")  # installs nothing, so the module stays missing
    done = call(copy)
    assert done.returncode == 1 and "still lacks coursedummy" in done.stderr and "Remove that folder" in done.stderr


@pytest.mark.parametrize(
    "text, says",
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        (
            "WARNING: Retrying ... NewConnectionError: Failed to establish\nERROR: No matching distribution "
            "found for torch==2.13.0",
            "cannot be reached",
        ),
        ("Failed to resolve 'pypi.org' ([Errno -3] Temporary failure in name resolution)", "Check the network"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]", "PIP_CERT"),
        (
            "ERROR: Could not find a version that satisfies the requirement torch==2.13.0 (from versions: none)",
            "no torch==2.13.0 for this Python",
        ),
        ("ERROR: Failed to build regex", "no ready wheel"),
        ("OSError: [Errno 13] Permission denied: '/opt'", "may not be written"),
        ("something else", "It said: something else"),
    ],
)
def test_what_pip_says_becomes_advice(text, says):
    assert says in setup.explain(text, Venv())


def test_a_python_that_cannot_make_environments_is_told_how(tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "pip_version", lambda: (0,))
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda name: None if name != "venv" else object())
    with pytest.raises(SetupError, match=r"sudo apt install python3\.\d+-venv"):
        setup.create(Venv(tmp_path))


def test_without_ensurepip_the_pip_outside_installs(copy):
    if setup.pip_version() < (22, 3):
        pytest.skip("this pip cannot install into another environment")
    done = call(copy)
    assert went_on(done, copy), done.stderr
    assert "pip --python" in done.stderr


def test_an_old_torch_counts_as_missing(monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.5.1+cu121" if name == "torch" else real(name))
    assert setup.missing(("torch", "json")) == ["torch"]
    assert setup.reasons(["torch"]) == "torch 2.11 or newer (it has 2.5)"
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.11.0a0+nv" if name == "torch" else real(name))
    assert setup.missing(("torch", "json")) == []


def test_old_pythons_get_a_sentence():
    """Older Pythons have to parse __main__.py up to its sentence: no newer syntax in it."""
    import ast

    source = (ROOT / "course" / "__main__.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 4))
    assert source.index("version_info < (3, 11)") < source.index("from course")
    run = source.replace("sys.version_info < (3, 11)", "True").replace("(3, 11)", "(9, 9)")
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True)
    assert done.returncode == 1 and "needs Python 3.11 or newer" in done.stderr and "Traceback" not in done.stderr


def test_the_command_line_needs_only_the_standard_library():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules); import course.cli; "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - "
        "set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code, str(ROOT)], capture_output=True, text=True)
    assert done.stdout.split() == ["course"], done.stderr


def test_every_requirement_is_pinned_and_has_its_reason():
    plain = {"torch", "numpy", "matplotlib", "pillow", "jupyterlab", "pytest"}
    reason = False
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            reason = True
            continue
        name, sign, _ = line.partition("==")
        assert sign, line
        assert reason or name in plain, line
