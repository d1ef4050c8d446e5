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

from course import cli
from course.grading import gradescope
from course.machine import installer, setup
from course.machine.installer import CPU_WHEELS, Installer
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


def wheel(folder: Path, version: str = "1.0", name: str = NAME) -> None:
    """A wheel of the dummy package, by hand."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{member},sha256={hashlib.sha256(text.encode()).hexdigest()},{len(text)}\n" for member, text in files.items()
    )
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        for member, text in {**files, f"{info}/RECORD": record}.items():
            file.writestr(member, text)


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
    own = [f"machine/{name}.py" for name in ("__init__", "files", "installer", "setup")]
    for name in ("__init__.py", "__main__.py", "errors.py", "steps.py", *own):
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
    clean = {key: value for key, value in clean.items() if value is not None}
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
    assert f"There is no {NAME}==9.0 for this Python" in done.stderr and "3.11 to 3.13" in done.stderr
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
        (
            "  cause: Failed to fetch: x\n  cause: error sending request for url\n  cause: dns error",
            "cannot be reached",
        ),
        ("  cause: Because there is no version of torch==9.0 and you require torch==9.0, we", "no torch==9.0 for this"),
        ("  cause: Because coursedummy was not found in the provided package locations", "no coursedummy for this"),
        ("  cause: invalid peer certificate: UnknownIssuer", "SSL_CERT_FILE"),
    ],
)
def test_what_pip_says_becomes_advice(text, says):
    assert says in setup.explain(text, Venv())


def test_a_python_that_cannot_make_environments_is_told_how(tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "pip_version", lambda: (0,))
    monkeypatch.setattr(setup.shutil, "which", lambda name: None)
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda name: None if name != "venv" else object())
    with pytest.raises(SetupError, match=r"sudo apt install python3\.\d+-venv"):
        setup.create(Venv(tmp_path))


# Which build of torch ---------------------------------------------------------------------------------------

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="one build of torch on this system")
CPU, DRIVERS = ["--torch-backend", "cpu"], ["--torch-backend", "auto"]


@pytest.mark.parametrize(
    "torch, gpu, uv, pip, says",
    [
        (
            "auto",
            False,
            CPU,
            ["--extra-index-url", CPU_WHEELS],
            "No NVIDIA GPU is seen here, so torch comes in its CPU",
        ),
        ("auto", True, DRIVERS, [], "An NVIDIA GPU is seen here, so torch comes in its CUDA build: about 3 GB"),
        ("cpu", True, CPU, ["--extra-index-url", CPU_WHEELS], "You chose it, so torch comes in its CPU build"),
        ("cuda", True, DRIVERS, [], "You chose it, so torch comes in its CUDA build"),
        ("cuda", False, [], [], "course setup --torch cpu"),  # for another machine: `auto` would not take CUDA here
    ],
)
def test_the_build_suits_the_machine(monkeypatch, torch, gpu, uv, pip, says):
    monkeypatch.setattr(installer, "chooses", lambda: True)
    for name, expected in (("uv", uv), ("pip", pip)):
        one = Installer(name, (name,))
        assert one.options(torch, gpu) == expected
        assert says in one.about(torch, gpu) and "5.3 GB on disk" in Installer(name, (name,)).about("cuda", gpu)
        told = Installer(name, (name,), ("find-links",))
        assert told.options(torch, gpu) == [] and f"settings of {name} (find-links) say" in told.about(torch, gpu)
    monkeypatch.setattr(installer, "chooses", lambda: False)
    assert one.options(torch, gpu) == told.options(torch, gpu) == [] and "GB on disk" in one.about(torch, gpu)


# A pip and a uv that write down how they were called, and put the dummy and a torch where they were told to.
FAKE = """
import os, pathlib, re, sys

words = sys.argv[1:]
python = words.pop(words.index("--python") + 1) if "--python" in words else sys.executable
words = [word for word in words if word != "--python"]
if words[-2:] == ["config", "list"]:
    print(os.environ.get("FAKE_SETTINGS", ""))
elif "install" in words and "-h" in words:
    print("--torch-backend <TORCH_BACKEND>")
elif "install" in words:
    cpu = "--extra-index-url" in words or words[-1] == "cpu"
    with open(os.environ["FAKE_LOG"], "a") as log:
        print(*words, file=log)
    if "FAKE_FAILS" in os.environ:
        sys.exit("No space left on device")
    site = next(pathlib.Path(python).parents[1].glob("lib/python*/site-packages"))
    for file in [words[i + 1] for i, word in enumerate(words) if word == "-r"]:
        for name, version in re.findall("^(course.*)==(.*)$", pathlib.Path(file).read_text(), re.MULTILINE):
            (site / f"{name}.py").write_text(f"VERSION = {version!r}")
    (site / ("torch-2.13.0+cpu.dist-info" if cpu else "torch-2.13.0.dist-info")).mkdir(exist_ok=True)
"""

# `setup` and `lint` beside the command that needs the dummy.
VERBS = """    try:
        if sys.argv[1] == "setup":
            return setup.set_up(*sys.argv[2:])
        if sys.argv[1] == "lint":
            setup.ensure(("coursetool",), sys.argv[1:], "requirements-dev.txt")
"""


class Machine:
    """A machine with a fake pip and, if wanted, a fake uv and a fake GPU."""

    def __init__(self, copy: Path):
        self.copy, self.programs, self.log = copy, copy / "programs", copy / "log.txt"
        (self.programs / "pip").mkdir(parents=True)
        (self.programs / "pip" / "__main__.py").write_text(FAKE)
        (self.programs / "pip" / "__init__.py").touch()
        cli = (copy / "course" / "cli.py").read_text()
        (copy / "course" / "cli.py").write_text(cli.replace("    try:\n", VERBS))

    def has(self, name: str, text: str) -> None:
        program = self.programs / name
        program.write_text(text)
        program.chmod(0o755)

    def call(self, *words: str, **environment) -> subprocess.CompletedProcess:
        path = os.pathsep.join([str(self.programs), "/usr/bin", "/bin"])
        own = {"PYTHONPATH": str(self.programs), "PATH": path, "FAKE_LOG": str(self.log)}
        unset = {"PIP_NO_INDEX": None, "PIP_FIND_LINKS": None, "XDG_CONFIG_HOME": str(self.copy)}
        return call(self.copy, *words, **own, **unset | environment)

    def installs(self) -> list[str]:
        """What was installed, call by call: the words after `install`."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.partition("install ")[2].replace(f"{self.copy}/", "") for line in lines]


@pytest.fixture
def machine(copy):
    return Machine(copy)


@linux_only
def test_without_a_gpu_the_cpu_build_is_fetched_and_the_choice_is_kept(machine):
    done = machine.call("run")
    assert went_on(done, machine.copy) and "No NVIDIA GPU is seen here" in done.stderr
    assert machine.installs() == [f"-r requirements.txt --extra-index-url {CPU_WHEELS}"]
    done = machine.call("setup", "cuda")
    assert done.returncode == 0 and "has the CPU build of torch. It stays until" in done.stderr
    assert machine.installs()[1:] == ["-r requirements.txt"] and Venv(machine.copy).torch() == "cuda"
    assert not Venv(machine.copy).before.exists()
    (machine.copy / "requirements.txt").write_text(f"{NAME}==2.0\n")
    assert went_on(machine.call("run"), machine.copy)
    assert machine.installs()[2:] == ["-r requirements.txt"]  # with no GPU, but it was chosen
    assert json.loads(marker(machine.copy).read_text())["torch"] == "cuda"
    assert machine.call("setup", "auto").returncode == 0
    assert machine.installs()[3:] == [f"-r requirements.txt --extra-index-url {CPU_WHEELS}"]
    assert (
        machine.call("setup").returncode == 0 and machine.installs()[4:] == machine.installs()[3:4]
    )  # again: as it is


@linux_only
def test_with_a_gpu_the_cuda_build_is_fetched(machine):
    machine.has("nvidia-smi", "#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-1)'\n")
    done = machine.call("run")
    assert went_on(done, machine.copy) and "An NVIDIA GPU is seen here" in done.stderr
    assert machine.installs() == ["-r requirements.txt"]


@linux_only
def test_uv_is_used_where_it_is_at_hand_unless_pip_was_told_where_packages_come_from(machine):
    machine.has("uv", f"#!{sys.executable}\n{FAKE}")
    settings = "global.extra-index-url='https://one'\n:env:.no-index='0'\nglobal.timeout='9'"
    assert went_on(machine.call("run"), machine.copy)
    assert machine.installs() == ["-r requirements.txt --torch-backend cpu"]
    done = machine.call("setup", FAKE_SETTINGS=settings)
    assert machine.installs()[1:] == ["-r requirements.txt"] and " -m pip install" in done.stderr
    (machine.copy / "uv").mkdir()
    (machine.copy / "uv" / "uv.toml").write_text('[pip]\nindex-url = "https://two"\n')
    shutil.rmtree(machine.copy / ".venv")
    done = machine.call("run")
    assert went_on(done, machine.copy) and "settings of uv (index-url) say" in done.stderr
    assert machine.installs()[2:] == ["-r requirements.txt"]
    (machine.copy / "uv" / "uv.toml").unlink()
    machine.call("setup", UV_TORCH_BACKEND="cu126")
    assert machine.installs()[3:] == ["-r requirements.txt"]


@linux_only
def test_settings_of_pip_win_and_are_named(machine):
    done = machine.call("setup", "cpu", FAKE_SETTINGS=":env:.find-links='/wheels'\nglobal.constraint='c.txt'")
    assert done.returncode == 0 and machine.installs() == ["-r requirements.txt"]
    assert "settings of pip (find-links, constraint) say where packages come from" in done.stderr
    assert "0.4 GB to download" in done.stderr and "3 GB to download and 5.3 GB on disk" in done.stderr
    assert machine.call("setup", "cpu").returncode == 0 and Venv(machine.copy).torch() == "cpu"  # without the settings
    done = machine.call("setup", "cuda", FAKE_SETTINGS=":env:.find-links='/wheels'")
    assert done.returncode == 0 and "so they decide" in done.stderr and Venv(machine.copy).torch() == "cpu"


@linux_only
def test_a_choice_that_cannot_be_fetched_leaves_what_was_there(machine):
    assert went_on(machine.call("run"), machine.copy)
    done = machine.call("setup", "cuda", FAKE_FAILS="1")
    assert done.returncode == 1 and "The disk is full" in done.stderr
    assert Venv(machine.copy).torch() == "cpu" and went_on(machine.call("run"), machine.copy)
    inside = machine.call("setup", "cuda", python=str(Venv(machine.copy).python))
    assert inside.returncode == 1 and "deactivate" in inside.stderr


def test_the_real_pip_and_uv_are_asked(monkeypatch, tmp_path):
    """What `pip config list` prints, and where uv keeps its settings."""
    (tmp_path / "pip.conf").write_text("[global]\nextra-index-url = https://a\n  https://b\ntimeout = 5\n")
    for key in [key for key in os.environ if key.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels")
    pip = installer.pip_of(sys.executable, Path(sys.executable))
    assert {"extra-index-url", "find-links"} <= set(pip.settings) and "timeout" not in pip.settings
    assert installer.pip_of(str(tmp_path / "python"), Path(sys.executable)) is None
    (tmp_path / "uv.toml").write_text('torch-backend = "cu126"\n')
    monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / "uv.toml"))
    monkeypatch.setenv("UV_INDEX_URL", "https://c")
    assert installer.uv_settings() == ("index-url", "torch-backend")


def test_cuda_is_chosen_on_linux_only(monkeypatch):
    monkeypatch.setattr(installer, "chooses", lambda: False)
    with pytest.raises(SetupError, match="on Linux only"):
        setup.set_up("cuda")


# A file of requirements for one verb ------------------------------------------------------------------------


@linux_only
def test_a_verb_brings_its_own_requirements_which_stay_up_to_date(machine):
    copy, learners, lint = machine.copy, "requirements.txt", "requirements-dev.txt"
    (copy / lint).write_text(f"-r {learners}\ncoursetool==1.0\n")
    assert went_on(machine.call("run"), copy)
    assert list(json.loads(marker(copy).read_text())["requirements"]) == [learners]
    done = machine.call("lint")
    assert went_on(done, copy) and "lacks coursetool" in done.stderr and "once" not in done.stderr
    assert list(json.loads(marker(copy).read_text())["requirements"]) == [learners, lint]
    assert went_on(machine.call("run"), copy) and len(machine.installs()) == 2
    (copy / lint).write_text(f"-r {learners}\ncoursetool==2.0\n")
    done = machine.call("run")
    assert went_on(done, copy) and f"{lint} has changed" in done.stderr and len(machine.installs()) == 3
    assert machine.installs()[2].startswith(f"-r {learners} -r {lint}")
    (copy / lint).unlink()  # as in a copy for students
    assert went_on(machine.call("run"), copy)


@linux_only
def test_where_lint_came_first_the_pins_of_all_are_kept_up_to_date(machine):
    (machine.copy / "requirements-dev.txt").write_text("-r requirements.txt\ncoursetool==1.0\n")
    assert went_on(machine.call("lint"), machine.copy)
    (machine.copy / "requirements.txt").write_text(f"{NAME}==2.0\n")
    done = machine.call("run")
    assert went_on(done, machine.copy) and "requirements.txt has changed" in done.stderr
    assert len(machine.installs()) == 2


@linux_only
def test_what_an_earlier_version_set_up_is_updated(machine):
    assert went_on(machine.call("run"), machine.copy)
    marker(machine.copy).write_text(json.dumps({"state": "done", "made": True, "requirements": "a hash"}))
    done = machine.call("run")
    assert went_on(done, machine.copy) and "requirements.txt has changed" in done.stderr
    done = machine.call("run")
    assert went_on(done, machine.copy) and done.stderr == ""


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


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned_and_has_its_reason(file):
    plain = {"torch", "numpy", "matplotlib", "pillow", "jupyterlab", "pytest"}
    reason = False
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        if line.startswith(("#", "-r")):
            reason = line.startswith("#")
            continue
        name, sign, _ = line.partition("==")
        assert sign, line
        assert reason or name in plain, line


def test_requirements_bring_what_verbs_import():
    """Each name in a verb's `needs` belongs to a package of its file, or to one that JupyterLab brings."""
    brought = {
        "codespell_lib": ["codespell"],
        **importlib.metadata.packages_distributions(),
    }  # not where `lint` never ran
    for verb in cli.VERBS.values():
        text = (ROOT / verb.requirements).read_text(encoding="utf-8") + (ROOT / "requirements.txt").read_text("utf-8")
        pinned = {line.partition("==")[0].lower() for line in text.splitlines()} | {"ipykernel", "nbformat"}
        for name in verb.needs:
            assert pinned & {one.lower() for one in brought.get(name, [name])}, (verb.name, name)


def test_grading_elsewhere_gets_what_lessons_import():
    packages = {name.lower() for name in gradescope.PACKAGES}
    brought = importlib.metadata.packages_distributions()
    assert {brought[name][0].lower() for name in setup.LESSON} == packages
