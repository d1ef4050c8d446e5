"""The doctor finds what is wrong, says what to do, and is quiet where nothing is."""

import json

import pytest
import torch

from course import cli, steps
from course.machine import compute, doctor, host, setup
from tests.conftest import absent


@pytest.fixture(autouse=True)
def a_healthy_machine(monkeypatch):
    monkeypatch.setattr(host, "available_mb", lambda: 8000.0)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 50 * 2**30}))
    monkeypatch.setattr(setup, "missing", lambda names: [])
    monkeypatch.setattr(setup, "torch_version", lambda: (2, 13))


def named(points, name):
    return next(point for point in points if point.name == name)


def test_a_healthy_machine_has_no_remedies(capsys, monkeypatch):
    points = doctor.examine()
    assert [point for point in points if point.remedy and point.needed] == []
    assert doctor.text(points).endswith("Nothing is in the way.")
    doctor.quietly()
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(setup, "ensure", lambda *args: None)
    assert cli.main(["doctor"]) == 0


@pytest.mark.parametrize(
    "what, change, says, needed",
    [
        ("memory", lambda m: m.setattr(host, "available_mb", lambda: 300.0), "close other programs", True),
        (
            "disk",
            lambda m: m.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 5e8})),
            "--out",
            True,
        ),
        ("packages", lambda m: m.setattr(setup, "torch_version", lambda: (2, 4)), "torch 2.11 or newer", True),
        (
            "packages",
            lambda m: m.setattr(setup, "missing", lambda names: [n for n in names if n == "jupyterlab"]),
            "pip install -r requirements.txt",
            False,
        ),
        ("Python", lambda m: m.setattr(doctor.sys, "version_info", (3, 10, 2)), "3.11", True),
        ("folders", lambda m: m.setattr(doctor.os, "access", lambda path, mode: False), "your home", True),
    ],
)
def test_what_is_wrong_comes_with_its_remedy(monkeypatch, capsys, what, change, says, needed):
    with monkeypatch.context() as m:
        change(m)
        points = doctor.examine(probing=False)
        doctor.quietly()
    point = named(points, what)
    assert says in point.remedy and point.needed == needed and says in doctor.text(points)
    assert (says in capsys.readouterr().out) == needed
    assert doctor.text(points).endswith(f"In the way: {what}." if needed else "Nothing is in the way.")


def test_programs_for_tests_and_grading_come_with_one_command_and_are_never_in_the_way(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    (point,) = doctor.programs()
    assert "not there: chromium, chromedriver, bwrap" in point.says and not point.needed
    assert "sudo apt-get install chromium chromium-driver bubblewrap" in point.remedy
    monkeypatch.setattr(doctor.shutil, "which", lambda name: name if name in ("google-chrome", "bwrap") else None)
    assert doctor.programs()[0].remedy.endswith("apt-get install chromium-driver")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: name)
    (point,) = doctor.programs()
    assert "all there" in point.says and not point.remedy


def test_ci_installs_what_the_doctor_names():
    script = (steps.ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert f"--no-install-recommends {' '.join(doctor.PROGRAMS)})" in script


@pytest.mark.parametrize("ci", [True, False])
def test_in_ci_nothing_is_skipped_for_want_of_a_program(monkeypatch, ci):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("CI", "true") if ci else monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.fail.Exception if ci else pytest.skip.Exception, match="no browser"):
        absent("no browser")
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(pytest.skip.Exception):
        absent("no browser")


def test_a_driver_without_cuda_in_torch_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "without CUDA" in named(doctor.devices(), "GPU").says
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "CUDA 13.0" in named(doctor.devices(), "GPU").remedy
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert named(doctor.devices(), "GPU").remedy == ""


def test_a_slow_machine_is_told_how_slow(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "MEASURED", tmp_path / "measured.json")
    assert "missing" in doctor.presets()[0].says
    monkeypatch.setattr(doctor, "probe", lambda seconds=1.0: 5.0)
    report = {"preset": "tiny", "seconds": 600, "peak_memory_mb": 900, "hardware": {"gpu": None, "cores": 2}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    doctor.keep(tmp_path / "report.json")
    kept = json.loads(doctor.MEASURED.read_text())["tiny"]
    assert kept["seconds"] == 600 and kept["probe_ms"] == 5.0 and kept["on"].startswith("2 ")
    monkeypatch.setattr(doctor, "probe", lambda seconds=1.0: 15.0)
    assert "about 30 min here" in named(doctor.presets(), "tiny").says
    assert "not measured" in named(doctor.presets(), "base").says
    monkeypatch.setattr(host, "available_mb", lambda: 950.0)
    assert "0.9 GB of memory" in named(doctor.presets(), "tiny").remedy


def test_the_committed_figures_are_there_and_the_probe_measures():
    measured = json.loads(doctor.MEASURED.read_text())
    assert measured["tiny"]["seconds"] > 60 and measured["tiny"]["probe_ms"] > 0
    assert 0 < doctor.probe(0.05) < 10_000


def test_free_memory_is_less_than_all(monkeypatch):
    monkeypatch.undo()
    assert 0 < host.available_mb() <= host.memory_mb() + 1
    assert compute.available_mb(torch.device("cpu")) == pytest.approx(host.available_mb(), rel=0.2)
