"""Running the learner's code inside this process: seeded, with its prints kept and its exceptions put in words."""

import contextlib
import ctypes
import io
import linecache
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

SECONDS = 30.0  # for one call; an endless loop ends here
KEPT = 4096  # characters of what the code printed


@dataclass
class Raised:
    """An exception in words: plain text only, so that no frame and no tensor stays alive through it."""

    kind: str
    message: str
    frames: list[tuple[int, str, str]] = field(default_factory=list)  # (line, function, its text)
    values: list[str] = field(default_factory=list)  # the innermost frame's tensors and numbers
    line: int | None = None
    waiting_for: str | None = None  # the TODO whose `raise NotImplementedError("TODO ...")` this is
    note: str = ""  # a sentence that says more than the kind does

    @property
    def headline(self) -> str:
        return f"{self.kind}: {self.message}" if self.message else self.kind

    def text(self, file: str) -> str:
        """The frames and the exception, the way Python shows them."""
        shown = self.frames if len(self.frames) <= 8 else [*self.frames[:4], None, *self.frames[-3:]]
        lines = []
        for frame in shown:
            if frame is None:
                lines.append(f"  ... {len(self.frames) - 7} more")
            else:
                lines.append(f"  {file}, line {frame[0]}, in {frame[1]}")
                lines.append(f"    {frame[2]}")
        lines.append(self.headline)
        if self.values:
            lines.append("where " + ", ".join(self.values))
        return "\n".join(lines)


class TooSlow(BaseException):
    """Raised into code that runs for longer than its limit; no `except Exception` catches it."""


@contextlib.contextmanager
def limit(seconds: float | None) -> Iterator[None]:
    """Interrupt the body with TooSlow after so many seconds.

    In the main thread of Linux and macOS a timer's signal does it. Elsewhere (Windows, other threads) another thread
    asks for it, and it happens as soon as the body runs Python code, not in the middle of a long call of torch.
    """
    main = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not seconds or main and signal.getitimer(signal.ITIMER_REAL)[0] > 0:  # an outer limit holds already
        yield
        return
    text = f"still running after {seconds:g} seconds: is there an endless loop?"
    with _by_signal(seconds, text) if main else _by_thread(seconds, text):
        yield


AGAIN = 1.0  # seconds until the next interruption, should a `finally` have swallowed one


@contextlib.contextmanager
def _by_signal(seconds, text):
    def stop(signum, frame):
        raise TooSlow(text)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _by_thread(seconds, text):
    ask, thread = ctypes.pythonapi.PyThreadState_SetAsyncExc, ctypes.c_ulong(threading.get_ident())
    # `ask` takes a class, and makes the exception from it later, without arguments.
    kind = type("TooSlow", (TooSlow,), {"__str__": lambda self: text})
    over, lock = threading.Event(), threading.Lock()

    def watch():
        wait = seconds
        while not over.wait(wait):
            with lock:
                if not over.is_set():
                    ask(thread, ctypes.py_object(kind))
            wait = AGAIN

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        with lock:
            over.set()
        ask(thread, None)  # takes back an interruption that was asked for and has not come yet


BITS = np.random.MT19937()  # in place of NumPy's own, whose state takes long to read and to put back


@contextlib.contextmanager
def same_world(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's random numbers; put them and torch's switches back afterwards."""
    before = random.getstate(), np.random.get_bit_generator(), torch.get_rng_state(), torch.is_grad_enabled()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    dtype, deterministic = torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()
    coarse = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    folder = os.getcwd()
    random.seed(seed)
    np.random.set_bit_generator(BITS)
    np.random.seed(seed % 2**32)
    # torch.manual_seed keeps a stack trace for devices that may come, which takes longer than many a call
    (torch if torch.accelerator.is_available() else torch.default_generator).manual_seed(seed)
    torch.set_grad_enabled(True)
    # A GPU's convolutions round to three digits otherwise, and in other places for other batches.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_bit_generator(before[1])
        torch.set_rng_state(before[2])
        torch.set_grad_enabled(before[3])
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        torch.set_default_dtype(dtype)
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = coarse
        if torch.are_deterministic_algorithms_enabled() != deterministic:
            torch.use_deterministic_algorithms(deterministic)  # imports torch's compiler: a second
        os.chdir(folder)


class Kept(io.TextIOBase):
    """A standard output that keeps the first KEPT characters."""

    def __init__(self):
        self.text, self.more = "", False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        room = KEPT - len(self.text)
        self.text, self.more = self.text + text[:room], self.more or len(text) > room
        return len(text)

    def __str__(self):
        return self.text + ("\n... and more" if self.more else "")


def run(
    function: Callable[[], Any], file: str, *, seed: int = 0, kept: Kept | None = None, seconds: float | None = SECONDS
) -> tuple[Any, Raised | None]:
    """Call `function()`: (its value, None), or (None, Raised) for whatever it raised. Random numbers and torch's
    switches are afterwards what they were before; what is printed goes to `kept`.

    `file` is the learner's: the frames of a Raised are those whose code was compiled under this name.
    """
    kept = Kept() if kept is None else kept
    out, err = sys.stdout, sys.stderr
    try:
        with same_world(seed), contextlib.redirect_stdout(kept), contextlib.redirect_stderr(kept), limit(seconds):
            return function(), None
    except BaseException as error:  # SystemExit and KeyboardInterrupt are theirs too
        return None, _in_words(error, file)
    finally:
        sys.stdout, sys.stderr = out, err


def _in_words(error: BaseException, file: str) -> Raised:
    kind = type(error).__name__
    if isinstance(error, SyntaxError) and error.filename == file:
        return Raised(
            kind, str(error.msg), [(error.lineno or 1, "the file", (error.text or "").strip())], line=error.lineno
        )
    try:
        message = str(error)[:1000]
    except BaseException:
        message = "(an exception that cannot say what it is)"
    frames, values, line = [], [], None
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename == file:
            line = traceback.tb_lineno
            text = linecache.getline(file, line).strip()
            name = getattr(code, "co_qualname", code.co_name)
            frames.append((line, name.replace("<module>", "the file"), text))
            values = _values(traceback.tb_frame)
        traceback = traceback.tb_next
    raised = Raised(kind, message, frames, values, line)
    if isinstance(error, NotImplementedError) and message.startswith("TODO "):
        raised.waiting_for, raised.values = message[5:].partition(":")[0].strip(), []
    return raised


def _values(frame) -> list[str]:
    """A frame's tensors and numbers, in words."""
    described = []
    for name, value in frame.f_locals.items() if frame.f_code.co_name != "<module>" else ():
        if type(value) is torch.Tensor:
            described.append(f"{name} is {list(value.shape)} {str(value.dtype).removeprefix('torch.')}")
        elif type(value) in (int, float, bool) and not name.startswith("_"):
            huge = type(value) is int and abs(value) >= 10**12
            described.append(f"{name} is huge" if huge else f"{name} = {value}")
    return described[:12]
