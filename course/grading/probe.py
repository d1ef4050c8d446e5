"""Run as the zygote would be, once at the start of a batch: confine a child and say what it can still do.

What counts is what happens, not what a kernel lists. Prints one JSON object. Only the standard library.
"""

import json
import os
import socket
import sys
from collections.abc import Callable, Iterable

from course.grading import confine


def holds(*tests: Callable[[], object]) -> bool:
    """Whether each of these is refused, in a child of its own kind."""
    for test in tests:
        try:
            test()
        except OSError:
            continue
        return False
    return True


def in_a_child(attempt: Callable[[], bool]) -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if attempt() else 1)
        finally:
            os._exit(2)
    return os.waitpid(pid, 0)[1] == 0


def main(readable: Iterable[str], secret: str, folder: str) -> dict:
    def landlock():
        confine.drop_capabilities()
        confine.landlock(readable)
        return holds(
            lambda: open(secret).close(),
            lambda: open(os.path.join(folder, "new"), "w").close(),
            lambda: os.mkdir(os.path.join(folder, "new")),
            lambda: os.listdir("/"),
        )

    def seccomp():
        confine.seccomp()
        return holds(
            os.fork,
            socket.socket,
            lambda: os.kill(os.getppid(), 0),
            lambda: os.chmod(folder, 0o755),
            lambda: os.execv(sys.executable, [sys.executable, "-c", "0"]),
        )

    def namespaces():
        pid = confine.fork_into_namespaces()
        if pid == 0:
            os._exit(0 if os.getpid() == 1 else 1)
        return os.waitpid(pid, 0)[1] == 0

    return {
        "landlock": in_a_child(landlock),
        "seccomp": in_a_child(seccomp),
        "namespaces": in_a_child(namespaces),
        "version": confine.landlock_version(),
        "hidden": holds(lambda: open(secret).close()),
        "user": os.geteuid(),
    }


if __name__ == "__main__":
    print(json.dumps(main(*json.loads(sys.argv[1]))))
