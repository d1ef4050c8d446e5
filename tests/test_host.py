"""What the system says of the machine: cores, memory; and who asks for it does not pay for torch."""

import os
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from course import steps
from course.machine import host


def said(code: str) -> str:
    """What a fresh Python prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=steps.ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_nothing_heavy_is_loaded():
    code = "import sys; from course.machine import host, workers; print({'torch', 'numpy'} & set(sys.modules))"
    assert said(code) == "set()"


def test_the_machine_is_described():
    assert host.processor() and 1 <= host.cores() <= psutil.cpu_count()
    assert 0 < host.available_mb() <= host.memory_mb()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_only_cores_that_this_process_may_use_are_counted():
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])"
    assert said(f"{code}; from course.machine import host; print(host.cores())") == "1"


def test_a_system_without_affinity_has_all_its_cores(monkeypatch):
    monkeypatch.setattr(host.psutil, "Process", SimpleNamespace)
    assert host.cores() == psutil.cpu_count()


def test_the_peak_is_of_this_process_alone():
    """A child of a process that held much has held little."""
    held = bytearray(200 * 2**20)
    here = host.peak_memory_mb()
    there = float(said("from course.machine import host; print(host.peak_memory_mb())"))
    del held
    assert here > 200 and 1 < there < 100


def test_the_peak_on_windows_is_psutils(monkeypatch):
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=300 * 2**20))
    monkeypatch.setattr(host.psutil, "WINDOWS", True)
    monkeypatch.setattr(host.psutil, "Process", lambda: process)
    assert host.peak_memory_mb() == 300
