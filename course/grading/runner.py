"""The trusted end: starts the zygote, hands submissions over, keeps the time, and takes back what was
answered.

Nothing that comes back is executed, imported or looked up by name; text is cut to a length, and whatever is
no message ends the child. A child that dies or hangs is replaced, and the next TODO goes on in a new one.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from course.checking import calling, wire
from course.checking.judging import Answer
from course.checking.parts import Problem
from course.checking.reference import Reference
from course.errors import CourseError
from course.grading import level as levels
from course.grading import stage, zygote
from course.grading.outcome import Outcome
from course.grading.text import clean


@dataclass
class Limits:
    """What a submission may use."""

    call: float = calling.SECONDS  # seconds for one call, as in a learner's own check
    grace: float = 3.0  # seconds beyond that, after which the child is killed
    submission: float = 300.0  # seconds for all of it
    memory: int = 2 << 30  # bytes on top of what torch takes


ANSWERS = 2**27  # bytes that a submission may answer in all


class Stopped(Exception):
    """The child is gone, or no longer to be believed; `raised` says why, for the report."""

    def __init__(self, kind: str, note: str):
        super().__init__(kind)
        self.raised = calling.Raised(kind, "", note=note)


class Batch:
    """A zygote and what it needs, for as long as the `with` block lasts. Use from the main thread; its
    submissions may run in several."""

    def __init__(self, reference: Reference, *, trusted: bool = False, limits: Limits | None = None, highest: int = 3):
        self.reference, self.limits = reference, limits or Limits()
        self.trusted, self.highest = trusted, highest
        self.todos = list(reference.lesson.checks)
        self.requests: dict[str, list[tuple[dict, tuple[bytes, bytes]]]] = {}  # per case: it, and as a message
        self._lock = threading.Lock()

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="grading-"))
        try:
            stage.build(self.reference.lesson, self.folder)
            self.level = levels.probe(self.folder, self.trusted, self.highest)
            exposed = stage.exposed([*self.level.readable, self.folder], self.reference.lesson.step)
            if exposed:
                shown = "\n".join(f"  {path}" for path in exposed[:5])
                raise CourseError(
                    f"A submission could read these files, which give the answers away:\n{shown}\n"
                    "Uninstall that copy of the course, or keep the course outside Python's folders."
                )
            self._start()
            self._prepare()  # while the zygote imports torch on the other core
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        level = self.level
        settings = {
            "memory": self.limits.memory,
            "cpu": int(self.limits.submission) + 5,
            "readable": level.readable,
            "namespaces": level.sandbox and level.namespaces,
            "landlock": level.landlock,
            "seccomp": level.seccomp,
        }
        self.control, theirs = socket.socketpair()
        self.errors = tempfile.TemporaryFile()
        arguments = (str(theirs.fileno()), json.dumps(settings))
        self.process = subprocess.Popen(
            levels.command(self.folder, level, zygote.__name__, *arguments),
            env=levels.environment(self.folder, level),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
            start_new_session=True,
            **levels.as_user(level),
        )
        theirs.close()

    def _prepare(self):
        """The cases as requests, and the solution's answers to them: whatever is wrong with a check shows
        now."""
        for todo in self.todos:
            check = self.reference.lesson.checks[todo]
            cases = self.reference.cases(check)
            common = {"check": todo, "seed": self.reference.seed + 1, "look": check.judge is not None}
            self.requests[todo] = [(case, wire.pack({**common, "case": case})) for case in cases]
            for number in range(len(cases)):
                self.reference.solved(check, number)

    def _wait(self):
        self.control.settimeout(120)
        try:
            ready = self.control.recv(1000)
        except OSError:
            ready = b""
        if not ready:
            raise CourseError(f"The process that runs submissions does not start.\n{self._said()}")

    def _said(self) -> str:
        self.errors.seek(0)
        return self.errors.read()[-2000:].decode("utf-8", "replace")

    def kill(self) -> None:
        """End every process of the batch."""
        try:  # the group: at levels without a process table of its own, monitors and children too
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def __exit__(self, *_):
        if hasattr(self, "process"):
            self.kill()
            self.process.wait()
            self.control.close()
            self.errors.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, source: bytes) -> Outcome:
        """Everything that the submission answers. Never raises for anything that it does."""
        return Run(self, source).all()

    def _lifeline(self) -> socket.socket:
        mine, theirs = socket.socketpair()
        with self._lock, theirs:
            try:
                socket.send_fds(self.control, [b"S"], [theirs.fileno()])
            except OSError:
                mine.close()
                raise CourseError(f"The process that runs submissions has ended.\n{self._said()}") from None
        return mine


class Run:
    """One submission: its lifeline to a monitor, and the data socket of the child that is alive now."""

    def __init__(self, batch: Batch, source: bytes):
        self.batch, self.source, self.outcome = batch, source, Outcome()
        self.deadline = time.monotonic() + batch.limits.submission
        self.data: socket.socket | None = None
        self.received = 0

    def all(self) -> Outcome:
        with self.batch._lifeline() as self.lifeline:
            try:
                self._begin()
                if self.outcome.imported is None:
                    for todo in self.batch.todos:
                        self._todo(todo)
            except Stopped as stopped:
                self.outcome.imported = stopped.raised
            finally:
                if self.data is not None:
                    self.data.close()
        return self.outcome

    def _todo(self, todo: str) -> None:
        answers, printed = self.outcome.calls.setdefault(todo, []), []
        try:
            if self.data is None:
                self.outcome.restarts += 1
                self._begin()
                if self.outcome.imported is not None:
                    raise Stopped(
                        "ImportError",
                        "After the process was started again the file could not be imported: "
                        + self.outcome.imported.headline,
                    )
            for number, (case, request) in enumerate(self.batch.requests[todo]):
                said = self._ask(request, number + 2)
                answers.append(self._answer(said, todo, case))
                printed.append(_text(said.get("printed"), calling.KEPT))
                if answers[-1].raised is not None:
                    break
        except Stopped as stopped:
            answers.append(Answer(raised=stopped.raised))
            self.outcome.imported = None
        self.outcome.output[todo] = "".join(printed)[: calling.KEPT]

    def _begin(self) -> None:
        """Start a child, and let it import the file."""
        self.data, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self.lifeline, [b"S"], [theirs.fileno()])
            except OSError:
                raise Stopped(*_ending(self._status())) from None
        hello = self._ask(wire.pack({"source": self.source, "seconds": self.batch.limits.call}), 0)
        self._drain()
        self.outcome.lines = {
            name: line for name, line in _dict(hello.get("lines")).items() if type(name) is str and type(line) is int
        }
        self.outcome.untouched = [name for name in _list(hello.get("untouched")) if type(name) is str]
        said = self._ask(wire.pack({}), 1)
        self.outcome.imported = _raised(said.get("raised"))
        self._replaced(said, "the import")
        self.outcome.printed = _text(said.get("printed"), calling.KEPT)

    def _answer(self, said: dict, todo: str, case: dict) -> Answer:
        self._replaced(said, todo)
        refused = said.get("refused")
        if refused is not None:
            fields = _dict(refused)
            refused = Problem(_text(fields.get("property"), 60), _text(fields.get("text"), 300))
        return Answer(said.get("value"), said.get("after", case), _raised(said.get("raised")), refused)

    def _replaced(self, said: dict, when: str) -> None:
        if replaced := [_text(name, 80) for name in _list(said.get("replaced"))[:8]]:
            self.outcome.replaced[when] = replaced

    def _ask(self, request: tuple[bytes, bytes], number: int) -> dict:
        """Send a request and wait for the answer that carries its number. Raises Stopped."""
        header, raw = request
        seconds = min(self.batch.limits.call + self.batch.limits.grace, self.deadline - time.monotonic())
        until, began = time.monotonic() + max(seconds, 0), time.monotonic()
        try:
            self._send(wire.PREFIX.pack(number, len(header), len(raw)) + header, until)
            self._send(raw, until)
            answered, header, raw = wire.PREFIX.unpack(self._receive(wire.PREFIX.size, until))
            if answered != number or header > wire.HEADER or raw > wire.RAW:
                raise wire.Fault("it is not the answer to what was asked")
            self.received += header + raw
            if self.received > ANSWERS:
                raise wire.Fault("its answers are too large in all")
            said = wire.unpack(self._receive(header, until), self._receive(raw, until))
            if type(said) is not dict:
                raise wire.Fault("it is no answer")
            return said
        except wire.Fault as fault:
            self._kill()
            raise Stopped(
                "ProtocolFault", f"The process sent something in place of an answer, and was stopped ({fault})."
            ) from None
        except TimeoutError:
            self._kill()
            whole = time.monotonic() >= self.deadline
            limit = self.batch.limits.submission if whole else self.batch.limits.call
            raise Stopped(
                "TooSlow",
                f"Still running after {limit:g} seconds{' for the whole file' if whole else ''}: "
                "the process was stopped. Is there an endless loop?",
            ) from None
        except (OSError, EOFError):
            raise Stopped(*_ending(self._status())) from None
        finally:
            self.outcome.seconds += time.monotonic() - began

    def _send(self, data: bytes, until: float) -> None:
        assert self.data is not None  # the child runs
        self.data.settimeout(max(until - time.monotonic(), 1e-3))
        self.data.sendall(data)

    def _receive(self, count: int, until: float) -> bytearray:
        assert self.data is not None
        held, have = bytearray(count), 0
        view = memoryview(held)
        while have < count:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.data.settimeout(left)
            got = self.data.recv_into(view[have:])
            if not got:
                raise EOFError
            have += got
        return held

    def _kill(self) -> None:
        try:
            self.lifeline.sendall(b"K")
        except OSError:
            pass
        self._status()

    def _status(self) -> int | None:
        """How the child ended, from its monitor; a child that has only closed its socket is killed."""
        assert self.data is not None
        self.data.close()
        self.data = None
        try:
            self.lifeline.settimeout(2)
            try:
                return self._ended()
            except TimeoutError:
                self.lifeline.sendall(b"K")
                return self._ended()
        except OSError:
            return None
        finally:
            self.lifeline.settimeout(None)

    def _drain(self) -> None:
        """Forget how earlier children ended, where nobody waited for the word: the new one has answered by now."""
        self.lifeline.setblocking(False)
        try:
            while self.lifeline.recv(64):
                pass
        except BlockingIOError:
            pass
        finally:
            self.lifeline.setblocking(True)

    def _ended(self) -> int | None:
        said = self.lifeline.recv(4)
        return int.from_bytes(said, "big", signed=True) if len(said) == 4 else None


def _ending(status: int | None) -> tuple[str, str]:
    if status is None or status == -signal.SIGKILL:
        return "Stopped", "The process was killed: too much memory or time, or it cut itself off."
    if status >= 0:
        return "Ended", "The code ended its own process instead of returning a value."
    if -status == signal.SIGXCPU:
        return "TooSlow", "The process used up its processor time."
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    crash = -status in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGABRT)
    return name, (
        "The process crashed: recursion without end, far too much memory, or code that reaches around Python."
        if crash
        else "The process was ended by a signal."
    )


def _raised(said) -> calling.Raised | None:
    """An exception in words, as far as it is one: every field is checked and cut."""
    if said is None:
        return None
    said = _dict(said)
    frames = [
        (line, _text(function, 80), _text(text, 200))
        for line, function, text in (
            frame for frame in _list(said.get("frames"))[:50] if type(frame) is list and len(frame) == 3
        )
        if type(line) is int
    ]
    line, waiting = said.get("line"), said.get("waiting_for")
    return calling.Raised(
        _text(said.get("kind"), 80) or "Error",
        _text(said.get("message"), 1000),
        frames,
        [_text(value, 120) for value in _list(said.get("values"))[:12]],
        line if type(line) is int else None,
        _text(waiting, 60) if type(waiting) is str else None,
    )


def _text(said, most: int) -> str:
    return clean(said[:most]) if type(said) is str else ""


def _dict(said) -> dict:
    return said if type(said) is dict else {}


def _list(said) -> list:
    return said if type(said) is list else []
