"""A function of a step's module, at work in several Python processes at once; the same on every system.

Each process is a fresh interpreter that loads nothing but the module (some 50 ms). multiprocessing would import the
main program again, torch and all, or fork a process that may have threads, and it cannot find a module that was
loaded by path.
"""

import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

from course import steps


def call(module: ModuleType, function: str, shares: list, *rest: object) -> list:
    """[module.function(share, *rest) for share in shares], every share in a process of its own.

    `module` comes from course.steps or course.chain. Arguments and results travel as pickles, through pipes.
    Raises RuntimeError if a process fails; what went wrong has then been said on stderr.
    """

    def work(share):
        task = pickle.dumps((module.__source__, module.__file__, function, (share, *rest)))
        done = subprocess.run([sys.executable, "-m", __name__], input=task, stdout=subprocess.PIPE, cwd=steps.ROOT)
        if done.returncode:
            raise RuntimeError(f"a process that ran {function} ended with exit code {done.returncode}")
        return pickle.loads(done.stdout)

    with ThreadPoolExecutor(max(len(shares), 1)) as threads:  # a thread only waits for its process
        return list(threads.map(work, shares))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that waits for this one
    source, file, function, arguments = pickle.load(sys.stdin.buffer)
    result, sys.stdout = sys.stdout.buffer, sys.stderr  # what the module prints must not get into the result
    answer = getattr(steps.execute(source, file, "course_worker"), function)(*arguments)
    result.write(pickle.dumps(answer))
