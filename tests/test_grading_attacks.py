"""Every attack and fault of tests/attacks.py gets the mark it deserves, and leaves nothing behind.

docs/grading.md publishes the table; `python -m tests.test_grading_attacks` writes it from a run.
"""

import concurrent.futures
import os
import stat
import time
from pathlib import Path

import pytest

from course import steps
from course.checking import lesson
from course.checking.reference import Reference
from course.grading.marking import findings
from course.grading.runner import Batch, Limits
from tests import toy
from tests.attacks import ATTACKS, Attack
from tests.conftest import absent

LIMITS = Limits(call=5.0, submission=30.0, grace=2.0, memory=1 << 29)
FAST = [attack for attack in ATTACKS if not attack.hangs]
SLOW = [attack for attack in ATTACKS if attack.hangs]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="grading needs fork")


def running(folder) -> list[str]:
    """The command lines of processes that belong to a batch in this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            said = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(folder) in said:
            found.append(said)
    return found


class Ground:
    """A toy lesson, a canary folder that attacks try to change, and a batch that runs them."""

    def __init__(self, tmp: Path, highest: int):
        self.step = toy.lesson(tmp / "course")
        self.canary = tmp / "canary"
        self.canary.mkdir()
        self.canary.chmod(0o777)
        (self.canary / "kept").write_text("kept")
        self.before = self.look()
        self.reference = Reference(lesson(self.step), 11)
        self.highest = highest

    def look(self):
        """Everything about the canary that an attack could change."""

        def one(path):
            said = path.lstat()
            return (
                path.name,
                said.st_mode,
                said.st_uid,
                said.st_nlink,
                said.st_mtime_ns,
                path.read_text() if stat.S_ISREG(said.st_mode) else "",
            )

        strays = [
            folder / "grading-attack-was-here"
            for folder in map(Path, ("/tmp", "/var/tmp", "/dev/shm", "/root", "/usr/lib", "."))
        ]
        return (
            sorted(one(path) for path in [self.canary, *self.canary.iterdir()]),
            [path for path in strays if path.exists()],
        )

    def source(self, attack: Attack) -> bytes:
        if isinstance(attack.source, bytes):
            return attack.source
        text = attack.source.replace("CANARY", str(self.canary))
        return text.replace("SOLUTION", str(self.step.file("solution"))).encode()

    def fight(self, attacks) -> dict:
        """{name: its findings} of all attacks, two at a time, in one batch, and then a right file."""
        found = {}
        with Batch(self.reference, limits=LIMITS, highest=self.highest, trusted=self.highest < 2) as batch:
            self.level, self.folder = batch.level, batch.folder
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                answers = pool.map(batch.run, map(self.source, attacks))
                for attack, answer in zip(attacks, answers):
                    found[attack.name] = findings(self.reference, answer)
            right = next(attack for attack in ATTACKS if attack.name == "loops")
            self.alive = findings(self.reference, batch.run(self.source(right)))
        deadline = time.monotonic() + 3
        while running(self.folder) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.left = running(self.folder)
        return found


def ground(tmp, highest, attacks):
    place = Ground(tmp, highest)
    found = place.fight(attacks)
    if place.level.number < highest:
        absent(f"this machine has {place.level.says}. {place.level.why}")
    return place, found


@pytest.fixture(scope="module")
def fought(tmp_path_factory):
    return ground(tmp_path_factory.mktemp("level3"), 3, FAST)


@pytest.fixture(scope="module")
def fought_slowly(tmp_path_factory):
    return ground(tmp_path_factory.mktemp("level3-slow"), 3, SLOW)


@pytest.fixture(scope="module")
def fought_without_bubblewrap(tmp_path_factory):
    return ground(tmp_path_factory.mktemp("level2"), 2, ATTACKS)


def deserved(attack: Attack, found) -> None:
    passed = " ".join(finding.todo for finding in found if finding.passed)
    said = "\n\n".join(finding.text() for finding in found)
    assert passed == attack.deserves, (
        f"{attack.name} ({attack.tries}) should pass {attack.deserves or 'nothing'}\n{said}"
    )
    assert attack.says in said, said
    for character in "\x1b\x07\x00\u202e":
        assert character not in said
    assert len(said) < 20_000


def unharmed(place: Ground) -> None:
    assert place.look() == place.before, "something was written outside"
    assert not place.left, "processes are left"
    assert all(finding.passed for finding in place.alive), "the grader no longer grades"


def test_there_are_enough():
    assert len(ATTACKS) >= 70 and len({attack.name for attack in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize("attack", FAST, ids=lambda attack: attack.name)
def test_attack(fought, attack):
    deserved(attack, fought[1][attack.name])


def test_attacks_leave_nothing_behind(fought):
    unharmed(fought[0])


@pytest.mark.slow
@pytest.mark.parametrize("attack", SLOW, ids=lambda attack: attack.name)
def test_hanging_attack(fought_slowly, attack):
    deserved(attack, fought_slowly[1][attack.name])


@pytest.mark.slow
def test_hanging_attacks_leave_nothing_behind(fought_slowly):
    unharmed(fought_slowly[0])


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack_without_bubblewrap(fought_without_bubblewrap, attack):
    deserved(attack, fought_without_bubblewrap[1][attack.name])


@pytest.mark.slow
def test_attacks_without_bubblewrap_leave_nothing_behind(fought_without_bubblewrap):
    unharmed(fought_without_bubblewrap[0])


# The table in the documentation

BEGIN, END = "<!-- attacks -->", "<!-- end of attacks -->"
PAGE = steps.ROOT / "docs" / "grading.md"
POINTS = {"mean": 1, "projection": 2, "centred": 1}


def table(rows) -> str:
    """The attacks as Markdown; `rows` gives (attack, the points it got)."""
    lines = ["| | what it tries | points it deserves | points it got |", "|---|---|---|---|"]
    for group in dict.fromkeys(attack.group for attack in ATTACKS):
        for attack, got in rows:
            if attack.group == group:
                points = sum(POINTS[todo] for todo in attack.deserves.split())
                lines.append(f"| {group} | {attack.tries.replace('|', chr(92) + '|')} | {points} | {got} |")
    return "\n".join(lines)


def test_the_published_table_is_this_one():
    page = PAGE.read_text(encoding="utf-8")
    published = page.partition(BEGIN)[2].partition(END)[0].strip()
    deserve = [(attack, sum(POINTS[todo] for todo in attack.deserves.split())) for attack in ATTACKS]
    assert published == table(deserve), "run python -m tests.test_grading_attacks"


def publish(tmp: Path) -> None:
    """Run every attack and write what came of it into docs/grading.md."""
    place = Ground(tmp, 3)
    found = place.fight(ATTACKS)
    unharmed(place)
    rows = [(attack, sum(finding.points for finding in found[attack.name] if finding.passed)) for attack in ATTACKS]
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    print(f"{len(rows)} attacks at {place.level.says}")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        publish(Path(folder))
