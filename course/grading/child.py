"""The process that executes a submission and answers calls. Everything here may fall into a stranger's hands:
it holds no expected value, and nobody believes more of what it says than its values.

Messages in: {"source", "seconds"} once, then {"check", "case", "seed", "look"}, where `look` asks whether
functions have been replaced. Out: {"lines", "untouched"}, then {"raised", "printed", "replaced"} of the
import, then an answer per call; each carries the number of what it answers.
"""

import io
import os
import tokenize
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from course import steps
from course.authoring.source import functions, same_function
from course.checking import calling, wire
from course.checking.judging import Answer, answered
from course.checking.parts import Problem
from course.grading.tampering import Watch

FILE = "model_exercise.py"


def send(fd: int, number: int, message: object) -> None:
    header, raw = wire.pack(message)
    for part in (wire.PREFIX.pack(number, len(header), len(raw)) + header, raw):
        left = memoryview(part)
        while left:
            left = left[os.write(fd, left) :]


def receive(fd: int) -> tuple[int, dict]:
    number, header, raw = wire.PREFIX.unpack(_exactly(fd, wire.PREFIX.size))
    header = _exactly(fd, header)
    return number, wire.unpack(header, _exactly(fd, raw))


def _exactly(fd: int, count: int) -> bytearray:
    held = bytearray(count)
    left = memoryview(held)
    while left:
        got = os.readv(fd, [left])
        if not got:
            os._exit(0)
        left = left[got:]
    return held


def serve(fd: int, checks: dict, names: Iterable[str], exercise: str, watch: Watch) -> None:
    """Answer calls until the socket closes."""
    number, hello = receive(fd)
    source, seconds = hello["source"], hello["seconds"]
    send(fd, number, read(source, names, exercise))
    kept = calling.Kept()
    module, raised = calling.run(lambda: executed(source), FILE, kept=kept, seconds=seconds)
    number, _ = receive(fd)
    send(fd, number, {"raised": in_words(raised), "printed": str(kept), "replaced": watch.replaced()})
    while True:
        number, asked = receive(fd)
        kept = calling.Kept()
        case = asked["case"]
        answer = answered(checks[asked["check"]], module, case, seed=asked["seed"], kept=kept, seconds=seconds)
        replaced = watch.replaced() if asked["look"] else []
        try:
            send(fd, number, said(answer, case, str(kept), replaced))
        except wire.Fault as error:
            refused = Answer(refused=Problem("answer type", f"the answer is no value that can be judged: {error}"))
            send(fd, number, said(refused, case, str(kept), replaced))


def said(answer: Answer, case: dict, printed: str, replaced: list[str]) -> dict:
    return {
        "value": answer.value,
        **({} if answer.after is case else {"after": answer.after}),
        "raised": in_words(answer.raised),
        "refused": vars(answer.refused) if answer.refused else None,
        "printed": printed,
        "replaced": replaced,
    }


def in_words(raised: calling.Raised | None) -> dict | None:
    return {**vars(raised), "frames": [list(frame) for frame in raised.frames]} if raised else None


def read(source: bytes, names: Iterable[str], exercise: str) -> dict:
    """Where the file's functions stand, and which of the TODOs' still read as in the exercise."""
    try:
        text = decoded(source)
        have = functions(text)
        return {
            "lines": {name: function.line for name, function in have.items() if name in names},
            "untouched": [name for name in names if same_function(text, exercise, name)],
        }
    except Exception:  # no Python, or nested too deeply
        return {"lines": {}, "untouched": []}


def executed(source: bytes) -> ModuleType:
    """The submission as a module that knows itself as model_exercise.py, and whose lines tracebacks show."""
    text = decoded(source)
    return steps.execute(text, Path("/") / FILE, "submission", shown_as=FILE)


def decoded(source: bytes) -> str:
    """The text of a Python file: by its declaration or as UTF-8; latin-1 where it is neither, so that an
    umlaut in a comment costs nobody a grade."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        return source.decode(encoding)
    except (SyntaxError, UnicodeDecodeError):
        return source.decode("latin-1")
