"""When the suite runs on all cores, the tests of a file whose fixtures take long run in one process, and share them.
What a machine lacks skips a test, but not in CI.
"""

import os
import sys
from typing import NoReturn

import pytest

TOGETHER = (
    "test_ask",
    "test_browser",
    "test_export",
    "test_grading_attacks",
    "test_llava",
    "test_run",
    "test_step4_sft",
)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in TOGETHER:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def absent(what: str) -> NoReturn:
    """End a test for want of something. On Linux in CI that is a failure: .ci/run installs what tests need."""
    (pytest.fail if os.environ.get("CI") and sys.platform.startswith("linux") else pytest.skip)(what)
