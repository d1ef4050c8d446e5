"""The process from which every submission's is forked: it has imported torch and the checks' calls, and knows
nothing else. Started once a batch with a clean environment, never forked from the process that knows the
solutions.

Over its control socket come, one byte and one descriptor at a time, the lifelines of new submissions. For
each it forks a monitor, which starts, watches and kills children on command, and ends them when its lifeline
closes: no process outlives the grader, however that dies. Children run the stranger's code; monitors and
zygote run none.
"""

import functools
import gc
import json
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable

from course.authoring.source import functions
from course.checking import StandInLM, calling, helpers, judging, standin, values, wire, with_grad
from course.grading import child, confine, tampering
from course.grading.tampering import Watch

# What a check's call relies on, besides torch and the checks' own functions: whoever replaces it is found out.
OURS = (calling, helpers, judging, standin, values, wire, child, tampering)

START, KILL, ENDED = b"S", b"K", struct.Struct(">i")


def main(control_fd: int, settings: dict) -> None:
    warm_up()
    import calls  # these two are made for this batch and lie beside the package (see stage.py)
    import todos

    functions(todos.EXERCISE)  # remembered, as every child needs it
    serve = functools.partial(
        child.serve, checks=calls.CHECKS, names=todos.NAMES, exercise=todos.EXERCISE, watch=Watch((calls, *OURS))
    )
    settings["memory"] += memory_now()
    control = socket.socket(fileno=control_fd)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # monitors are buried by the kernel
    gc.collect()
    gc.freeze()
    control.sendall(b"ready")
    while True:
        command, fds, _, _ = socket.recv_fds(control, 1, 1)
        if not command or not fds:
            os._exit(0)
        if (confine.fork_into_namespaces() if settings["namespaces"] else os.fork()) == 0:
            try:
                control.close()
                monitor(socket.socket(fileno=fds[0]), settings, serve)
            finally:
                os._exit(1)
        os.close(fds[0])


def warm_up() -> None:
    """Import what submissions import, and run once what torch sets up with files that children cannot read.

    One thread: after an operation on two, a forked child would wait for the second one for ever.
    """
    import torch

    torch.set_num_threads(1)
    import numpy  # noqa: F401
    import regex  # noqa: F401

    try:
        import matplotlib.pyplot  # noqa: F401, which writes a cache that it cannot write later
    except Exception:
        pass
    from torch import nn

    layers = nn.Sequential(
        nn.Conv2d(3, 4, 2, 2),
        nn.Flatten(),
        nn.LayerNorm(16),
        nn.BatchNorm1d(16),
        nn.Linear(16, 5),
        nn.GELU(),
        nn.Dropout(0.1),
    )
    x = torch.randn(2, 3, 4, 4)
    with_grad(layers, {"input": x}, torch.randn(2, 5), layers)
    layers.eval().load_state_dict(layers.state_dict())
    StandInLM(7, 4)(torch.tensor([[1, 2]]), labels=torch.tensor([[1, 2]]))[1].backward()
    torch.optim.AdamW(layers.parameters()).step()  # imports torch's compiler, which replaces functions of torch
    nn.functional.scaled_dot_product_attention(*torch.randn(3, 1, 2, 4, 8), is_causal=True)
    torch.einsum("bchw,bchw->b", x, x).softmax(0).multinomial(1, generator=torch.Generator().manual_seed(0))
    torch.cat([x, x]).double().flatten(1).svd()
    torch.view_as_complex(x[..., :2].contiguous()).abs().sort()


def memory_now() -> int:
    """The size of this process's address space in bytes."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 4 << 30


def monitor(lifeline: socket.socket, settings: dict, serve: Callable[[int], None]) -> None:
    """In the first fork of a submission: start, watch and kill its children, until the lifeline closes."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = None
    watched: list = [lifeline, woken]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if woken in ready:
            os.read(woken, 64)
        if child is not None:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                child = None
                lifeline.sendall(ENDED.pack(os.waitstatus_to_exitcode(status)))
        if lifeline in ready:
            command, fds, _, _ = socket.recv_fds(lifeline, 1, 1)
            if not command or command == KILL:
                if child is not None:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                if not command:
                    os._exit(0)
                if child is not None:
                    lifeline.sendall(ENDED.pack(-signal.SIGKILL))
                child = None
            elif fds:
                if child is not None:  # one that its owner has given up on
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                child = os.fork()
                if child == 0:
                    run(fds[0], settings, serve)
                os.close(fds[0])


def run(fd: int, settings: dict, serve: Callable[[int], None]) -> None:
    """In the child: give everything up, then serve."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        data = os.dup(fd) if fd < 3 else fd
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        os.dup2(data, 3)
        os.closerange(4, 1024)
        os.chdir("/")
        confine_all(settings)
        serve(3)
    finally:
        os._exit(1)


def confine_all(settings: dict) -> None:
    """Resource limits always; Landlock and seccomp where the settings say that they hold here."""
    confine.limit_resources(settings["memory"], settings["cpu"])
    if settings["landlock"] or settings["seccomp"]:
        confine.dies_with_parent()
        confine.drop_capabilities()
    if settings["landlock"]:
        confine.landlock(settings["readable"])
    if settings["seccomp"]:
        confine.seccomp()


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
