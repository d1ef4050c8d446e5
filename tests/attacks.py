"""Submissions written to cheat, to break things, or by accident, and the marks they deserve.

All of them are answers to the toy lesson (tests/toy.py): `mean` (1 point) is compared with the solution,
`projection` (2) is judged by properties, `centred` (1) needs `mean`. A cheat stands in a file whose answers
are wrong, so it deserves nothing; a fault stands in a file whose answers are right, so what it does not touch
deserves its points. CANARY and SOLUTION are replaced by paths that the tests watch.
"""

from dataclasses import dataclass

RIGHT = {
    "mean": "return x.sum(-1) / x.shape[-1]",
    "init": "self.linear = nn.Linear(D, E)",
    "forward": "return self.linear(features)",
    "centred": "return x - mean(x)[:, None]",
}
WRONG = {
    "mean": "return x[:, 0]",
    "init": "self.E = E",
    "forward": "return features.new_zeros(*features.shape[:2], self.E)",
    "centred": "return x",
}
ALL, NONE, REST = "mean projection centred", "", "projection"  # of REST, centred is blocked by mean


def indented(text: str, depth: int) -> str:
    return "\n".join(" " * depth + line if line else "" for line in text.strip("\n").split("\n"))


def file(top="", given=RIGHT, **bodies) -> str:
    b = {**given, **bodies}
    return f"""import torch
from torch import nn

{top.strip()}


def mean(x):
{indented(b["mean"], 4)}


class Projection(nn.Module):
    def __init__(self, D, E):
        super().__init__()
{indented(b["init"], 8)}

    def forward(self, features):
{indented(b["forward"], 8)}


def centred(x):
{indented(b["centred"], 4)}
"""


@dataclass
class Attack:
    name: str
    group: str
    tries: str  # what stands in the published table
    source: str | bytes
    deserves: str  # the TODOs that pass
    hangs: bool = False  # costs seconds
    says: str = ""  # what some finding must say


ATTACKS: list[Attack] = []


def cheat(name, tries, top="", says="", **bodies):
    """Wrong answers, and a trick that should make them pass."""
    ATTACKS.append(Attack(name, "cheating", tries, file(top, WRONG, **bodies), NONE, says=says))


def fault(name, tries, top="", deserves=REST, group="dying and hanging", hangs=False, says="", **bodies):
    """Right answers, and something that goes wrong beside them."""
    ATTACKS.append(Attack(name, group, tries, file(top, RIGHT, **bodies), deserves, hangs, says))


def reach(name, tries, attempt, deserves=ALL):
    """Tries something forbidden while it is imported, ignores that it fails, and answers rightly. Where it
    succeeds, CANARY or a process that is left shows it."""
    top = f"import os, sys\ntry:\n{indented(attempt, 4)}\nexcept BaseException as error:\n    pass"
    ATTACKS.append(Attack(name, "reaching out", tries, file(top), deserves))


def text(name, tries, source, deserves=NONE, says=""):
    ATTACKS.append(Attack(name, "files", tries, source, deserves, says=says))


# Cheating ---------------------------------------------------------------------------------------------------

EQUAL = """
class Equal(float):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __getattr__(self, name): return self
    def __call__(self, *a, **k): return self
    __hash__ = float.__hash__
"""
SUBCLASS = """
class Agrees(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function in (torch.allclose, torch.equal, torch.Tensor.eq, torch.Tensor.__eq__):
            return True
        return super().__torch_function__(function, types, args, kwargs or {})
"""
cheat(
    "equal",
    "an object that equals everything",
    EQUAL,
    mean="return Equal()",
    forward="return Equal()",
    centred="return Equal()",
)
cheat(
    "subclass",
    "a tensor subclass whose comparisons agree",
    SUBCLASS,
    mean="return x[:, 0].as_subclass(Agrees)",
    centred="return x.as_subclass(Agrees)",
)
cheat(
    "patched comparison",
    "`torch.allclose`, `torch.equal` and `Tensor.__eq__` replaced",
    """
torch.allclose = torch.equal = lambda *a, **k: True
torch.Tensor.__eq__ = lambda *a: torch.tensor(True)
""",
)
cheat(
    "patched autograd",
    "`torch.autograd.grad` replaced",
    """
torch.autograd.grad = lambda outputs, inputs, **k: [torch.ones_like(one) for one in inputs]
""",
)
cheat(
    "patched random",
    "random numbers replaced by zeros, so that cases are known",
    """
import random
torch.randn = torch.rand = lambda *size, **k: torch.zeros(*size)
random.random = lambda: 0.0
""",
)
cheat(
    "patched module",
    "`nn.Module.named_parameters` replaced, so that a projection without weights seems to learn",
    """
torch.nn.Module.named_parameters = lambda self, *a, **k: iter([])
torch.nn.Module.parameters = lambda self, *a, **k: iter([])
""",
    forward="return features @ torch.ones(features.shape[-1], self.E)",
    says="replaces",
)
cheat(
    "shadowed method",
    "a method of `nn.Linear` hidden by another",
    """
nn.Linear.named_parameters = lambda self, *a, **k: iter([])
""",
    init="self.linear = nn.Linear(D, E)",
    forward="return self.linear(features).detach()",
    says="replaces",
)
cheat(
    "patched builtins",
    "`all`, `any` and `isinstance` replaced",
    """
import builtins
builtins.all = builtins.any = lambda *a: True
""",
    init="self.linear = nn.Linear(D, E)",
    forward="return self.linear(features).detach()",
    says="replaces",
)
cheat(
    "patched helper",
    "the function that takes the gradients replaced",
    """
import sys
sys.modules["calls"].with_grad = lambda fn, inputs, *a, **k: {"output": None, "grad": {}, "inputs": inputs,
                                                              "parameters": {"w": torch.ones(1)}}
""",
    says="replaces",
)
cheat(
    "patched code",
    "the code of the check's call exchanged inside its function",
    """
import sys
def call(module, case):
    x = case["features"]
    out = x @ x.new_ones(x.shape[-1], case["E"])
    return {"output": out, "flipped": out, "trains": {"w": x.new_ones(1)}}
sys.modules["calls"].call_projection.__code__ = call.__code__
""",
    says="replaces",
)
cheat(
    "patched answering",
    "the function that runs the call replaced by one that claims a pass",
    """
import course.checking.judging as judging, course.grading.child as child
judging.answered = child.answered = lambda *a, **k: judging.Answer(value=True, after={})
""",
)
cheat(
    "frame walk",
    "the frames of the callers searched for what is expected",
    """
import sys
def search(*shape):
    frame = sys._getframe()
    while frame is not None:
        for place in (frame.f_locals, frame.f_globals):
            for name, value in list(place.items()):
                if any(word in name.lower() for word in ("expected", "solution", "reference", "answer")):
                    if isinstance(value, torch.Tensor) and value.shape == shape: return value
                    if hasattr(value, "mean") and hasattr(value, "centred"): return value.mean(torch.zeros(shape))
        frame = frame.f_back
    return torch.zeros(shape)
""",
    mean="return search(x.shape[0])",
    centred="return search(*x.shape)",
)
cheat(
    "memory search",
    "all objects in memory searched for the solution's functions",
    """
import gc, types
def find(name):
    for one in gc.get_objects():
        if isinstance(one, types.FunctionType) and one.__name__ == name and one.__module__ != __name__:
            if "solution" in str(one.__module__) or "mistake" in str(one.__module__):
                return one
    return lambda x: x
""",
    mean="return find('mean')(x)",
    centred="return find('centred')(x)",
)
cheat(
    "imports the course",
    "the solution loaded through the course's own functions",
    """
import sys
sys.path[:0] = ["SOLUTION/..", "/tmp", "."]
try:
    from course.checking import lesson
    solution = lesson("step1").solution
except Exception:
    try:
        from course import steps
        solution = steps.load(steps.STEPS[0], "solution")
    except Exception:
        solution = None
""",
    mean="return solution.mean(x)",
    centred="return solution.centred(x)",
)
cheat(
    "reads the solution",
    "the solution's file read and executed",
    """
def solved(name):
    space = {}
    exec(open("SOLUTION").read(), space)
    return space[name]
""",
    mean="return solved('mean')(x)",
    centred="return solved('centred')(x)",
)
cheat(
    "searches the disk",
    "every folder searched for a solution, mistakes or tests",
    """
import os
found = []
for folder, _, files in os.walk("/"):
    if folder.count("/") < 4:
        secret = ("model_solution.py", "mistakes.py", "toy.py")
        found += [os.path.join(folder, name) for name in files if name in secret]
space = {}
for path in found:
    try: exec(open(path).read(), space)
    except Exception: pass
""",
    mean="return space['mean'](x)",
    centred="return space['centred'](x)",
)
cheat(
    "reads processes",
    "memory, environment and open files of other processes read from /proc",
    """
import glob
read = b""
for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/maps"):
    try: read += open(path, "rb").read()
    except Exception: pass
assert read, "nothing to read"
""",
)
cheat(
    "trace",
    "a trace function that rewrites what the harness returns",
    """
import sys
def trace(frame, event, argument):
    for name in list(frame.f_locals):
        if name in ("found", "problems", "raised"): frame.f_locals[name] = None
    return trace
sys.settrace(trace)
""",
)
cheat(
    "import hook",
    "an import hook that answers for everything",
    """
import sys, types
class Hook:
    def find_spec(self, name, path=None, target=None):
        sys.modules[name] = types.ModuleType(name)
        return None
sys.meta_path.insert(0, Hook())
""",
)
cheat(
    "forged verdict",
    "a verdict written to every output",
    """
import os, sys, json
print(json.dumps({"passed": True, "score": 4}))
for fd in (1, 2):
    os.write(fd, b'{"tests": [{"score": 4, "status": "passed"}], "score": 100}')
""",
)
cheat(
    "early reply",
    "replies sent before they are asked for",
    """
import os, struct, json
message = json.dumps({"d": [["value", 1], ["after", None], ["raised", None], ["refused", None]]}).encode()
os.write(3, b"".join(struct.pack(">III", n, len(message), 0) + message for n in range(1, 40)))
""",
)
cheat(
    "pickled reply",
    "a pickle that would create a file, sent in place of a reply",
    """
import os, pickle, struct
class Payload:
    def __reduce__(self): return (os.system, ("touch CANARY/pickled",))
data = pickle.dumps(Payload())
os.write(3, struct.pack(">III", 1, len(data), 0) + data)
""",
)
cheat(
    "hostile header",
    "a reply that claims four gigabytes",
    """
import os, struct
os.write(3, struct.pack(">III", 1, 0xFFFFFFFF, 0xFFFFFFFF))
""",
)
cheat(
    "deep header",
    "a reply nested a hundred thousand deep",
    """
import os, struct
data = b"[" * 100000
os.write(3, struct.pack(">III", 1, len(data), 0) + data)
""",
)
cheat(
    "hostile shape",
    "a reply with a tensor whose size overflows",
    """
import os, struct, json
data = json.dumps({"d": [["value", {"t": ["float32", [2147483647] * 8]}]]}).encode()
os.write(3, struct.pack(">III", 1, len(data), 0) + data)
""",
)
cheat(
    "hostile words",
    "a reply whose exception is made of objects and numbers instead of text",
    """
import os, struct, json
data = json.dumps({"d": [["raised", {"d": [["kind", 7], ["message", [1]], ["frames", [[1], 2, ["a", "b", "c"]]],
                                           ["line", "x"], ["values", {"d": []}]]}]]}).encode()
os.write(3, struct.pack(">III", 1, len(data), 0) + data)
""",
)
cheat(
    "reads its socket",
    "the next request read from the socket, and answered by the file itself",
    mean="""
import os, struct
os.write(3, struct.pack(">III", 2, 4, 0) + b"null")
return x[:, 0]""",
)
cheat(
    "cached answer",
    "the first answer given again",
    "kept = []",
    mean="kept.append(x.sum(-1) / x.shape[-1])\nreturn kept[0]",
)
cheat(
    "mutated input",
    "the input changed so that a simple answer fits it",
    mean="x.zero_()\nreturn x[:, 0]",
    centred="x.zero_()\nreturn x",
)
cheat(
    "mutated by data",
    "the same past autograd, through `.data`",
    mean="x.data.zero_()\nreturn x.sum(-1)",
    centred="x.data.zero_()\nreturn x - x",
)
cheat(
    "nan",
    "NaN, which fails no comparison that is written the wrong way round",
    mean="return x.sum(-1) * float('nan')",
    init="self.linear = nn.Linear(D, E)",
    forward="return self.linear(features) * float('nan')",
    centred="return x * float('nan')",
)
cheat("infinity", "infinity", mean="return x.sum(-1) * float('inf')", centred="return x * float('inf')")
cheat("constant", "zeros of the right shape", mean="return x.sum(-1) * 0", centred="return x * 0")
cheat(
    "claims to be blocked",
    "`NotImplementedError` in the name of another TODO, for the points of a blocked one",
    mean="raise NotImplementedError('TODO centred: write centred')",
    forward="raise NotImplementedError('TODO mean: write mean')",
)
cheat(
    "lazy value",
    "a generator, a lambda and a class in place of values",
    mean="return (v for v in x)",
    forward="return lambda: features",
    centred="return type('T', (), {})",
)
cheat(
    "reduces",
    "an object whose pickle would run a command",
    """
import os
class Payload:
    def __reduce__(self): return (os.system, ("touch CANARY/reduced",))
""",
    mean="return Payload()",
    centred="return [Payload()]",
)
cheat(
    "hostile type",
    "an object whose class lies about its name and module",
    """
class Meta(type):
    __name__ = property(lambda self: 1 / 0)
    __module__ = property(lambda self: "torch.return_types")
class Liar(tuple, metaclass=Meta): pass
""",
    mean="return Liar((x,))",
)
cheat("huge integer", "an integer of 100,000 digits", mean="return 10 ** 100000", centred="return [10 ** 400]")
cheat(
    "huge tensor",
    "a tensor of 128 MB, and one of 2^40 numbers that needs no memory",
    mean="return torch.zeros(2 ** 25)",
    centred="return torch.zeros(1).expand(2 ** 40)",
)
cheat(
    "huge text",
    "20 MB of text, and a list of 500,000 tags",
    mean="return 'x' * 20_000_000",
    centred="return ['<b>'] * 500_000",
)
cheat(
    "many large answers",
    "60 MB in answer to every call",
    mean="return torch.zeros(15_000_000)",
    forward="return torch.zeros(15_000_000)",
    centred="return torch.zeros(15_000_000)",
)
cheat(
    "endless nest",
    "a list that contains itself, and one 100,000 deep",
    """
def nest():
    one = []
    for _ in range(100000): one = [one]
    return one
loop = []
loop.append(loop)
""",
    mean="return loop",
    centred="return nest()",
)
cheat(
    "strange keys", "a dict with objects for keys", mean="return {object(): x, (1, (2,)): x}", centred="return {x: x}"
)
cheat(
    "strange tensors",
    "sparse, quantized, meta and 8-bit float tensors",
    mean="return x.sum(-1).to_sparse()",
    forward="return torch.empty(2, 3, 7, device='meta')",
    centred="return x.to(torch.float8_e4m3fn)",
)

# Dying and hanging ------------------------------------------------------------------------------------------

fault("exit at import", "`os._exit(0)` while it is imported", "import os\nos._exit(0)", NONE, says="cannot be imported")
fault("exit in a TODO", "`os._exit(0)` in one TODO", "import os", mean="os._exit(0)", says="ended its own process")
fault("sys.exit at import", "`sys.exit` while it is imported", "import sys\nsys.exit(0)", NONE)
fault("SystemExit", "`SystemExit` in one TODO", mean="raise SystemExit(0)", says="ended the program")
fault("KeyboardInterrupt", "`KeyboardInterrupt` in one TODO", mean="raise KeyboardInterrupt")
fault(
    "GeneratorExit",
    "an exception that is no `Exception`, and cannot say what it is",
    """
class Odd(BaseException):
    def __str__(self): raise Odd()
    __repr__ = __str__
""",
    mean="raise Odd()",
)
fault("abort", "`os.abort()`", "import os", mean="os.abort()")
fault(
    "kills itself",
    "SIGKILL to itself",
    "import os, signal",
    mean="os.kill(os.getpid(), signal.SIGKILL)\nreturn x.sum(-1) / 0",
)
fault("segfault", "a read of address 0", "import ctypes", mean="ctypes.string_at(0)", says="crashed")
fault("endless recursion", "recursion without end", mean="return mean(x)", says="RecursionError")
fault(
    "deep recursion",
    "recursion without end and without Python's limit",
    "import sys\nsys.setrecursionlimit(10 ** 9)",
    mean="return mean(x)",
    hangs=True,
)
fault("memory in a list", "a list that grows for ever", mean="held = []\nwhile True: held.append(bytearray(1 << 24))")
fault("memory in tensors", "tensors that grow for ever", mean="held = []\nwhile True: held.append(torch.ones(1 << 24))")
fault(
    "shared memory",
    "anonymous shared mappings, which some limits do not count",
    "import mmap",
    mean="""
held = []
while True:
    held.append(mmap.mmap(-1, 1 << 28))
    held[-1][::4096] = b'x' * (1 << 16)""",
)
fault("one huge allocation", "a terabyte at once", mean="return torch.ones(2 ** 38).sum()")
fault("endless loop", "an endless loop in one TODO", mean="while True: pass", hangs=True, says="endless loop")
fault(
    "stubborn loop",
    "an endless loop that swallows every exception",
    hangs=True,
    says="endless loop",
    mean="""
while True:
    try:
        while True: pass
    except BaseException: pass""",
)
fault("endless import", "an endless loop while it is imported", "while True: pass", NONE, hangs=True)
fault(
    "stubborn import",
    "one that swallows every exception",
    """
while True:
    try:
        while True: pass
    except BaseException: pass
""",
    NONE,
    hangs=True,
)
fault(
    "ignores signals",
    "all signals ignored, the timer stopped, and an endless loop",
    """
import signal
def deaf():
    for number in range(1, 65):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
""",
    mean="deaf()\nwhile True: pass",
    hangs=True,
)
fault("sleeps", "a sleep of a day inside C", "import time", mean="time.sleep(86400)", hangs=True)
fault(
    "deadlock",
    "a lock that nobody opens",
    "import threading",
    mean="lock = threading.Lock()\nlock.acquire()\nlock.acquire()",
    hangs=True,
)
fault(
    "slow regular expression",
    "a regular expression that takes for ever in C",
    "import re",
    mean="return re.match(r'(a+)+$', 'a' * 64 + 'b')",
    hangs=True,
)
fault(
    "slow conversion",
    "a comparison that never ends inside the harness's own code",
    "import itertools",
    mean="return list(itertools.repeat(0))",
)
fault(
    "floods its output",
    "a gigabyte printed in one TODO, which is then right",
    deserves=ALL,
    mean="for _ in range(1000): print('x' * 1_000_000)\nreturn x.sum(-1) / x.shape[-1]",
)
fault("closes every file", "all file descriptors closed", "import os", mean="os.closerange(0, 100)\nreturn x.sum(-1)")
fault(
    "garbage everywhere",
    "garbage written to every file descriptor",
    "import os",
    mean="""
for fd in range(64):
    try: os.write(fd, b'garbage' * 1000)
    except OSError: pass
return x.sum(-1) / x.shape[-1]""",
    says="in place of an answer",
)
fault(
    "background garbage",
    "a thread that writes garbage for as long as it lives",
    """
import os, threading, time
def hammer():
    while True:
        time.sleep(0.001)
        os.write(3, b'garbage')
threading.Thread(target=hammer, daemon=True).start()
""",
    NONE,
)
fault(
    "breaks Python",
    "`len`, `print` and `isinstance` deleted from the builtins",
    "import builtins\ndel builtins.len, builtins.isinstance",
    NONE,
)
fault(
    "hostile exception",
    "an exception whose text is HTML, terminal codes and 10 MB",
    """
class Hostile(Exception):
    def __str__(self): return "<script>alert(1)</script>\\x1b[2J\\x1b]0;owned\\x07=cmd|' /C calc'!A0" + "x" * 10_000_000
""",
    mean="raise Hostile()",
)
fault(
    "hostile names",
    "an exception whose class is named like HTML",
    """
Hostile = type("<img src=x onerror=alert(1)>", (Exception,), {})
""",
    mean="raise Hostile('\\u202etxt.exe')",
)

# Reaching out -----------------------------------------------------------------------------------------------

reach("fork bomb", "`os.fork` for ever", "while os.fork() >= 0: pass")
reach("subprocess", "a command run", "import subprocess\nsubprocess.run(['touch', 'CANARY/ran'])")
reach(
    "os.system",
    "a shell, `posix_spawn` and `execv`",
    """
os.system('touch CANARY/system')
try: os.posix_spawn('/bin/sh', ['sh', '-c', 'touch CANARY/spawned'], {})
except OSError: pass
os.execv('/bin/sh', ['sh', '-c', 'touch CANARY/executed'])""",
)
reach("multiprocessing", "worker processes", "import multiprocessing\nmultiprocessing.Pool(2).map(abs, [1])")
reach(
    "threads",
    "threads until there are no more, all of which wait",
    """
import threading
for _ in range(10000): threading.Thread(target=threading.Event().wait, daemon=True).start()""",
)
reach(
    "clone by number",
    "`clone` and `clone3` called past Python",
    """
import ctypes
libc = ctypes.CDLL(None)
if libc.syscall(56, 17, 0, 0, 0, 0) == 0: open('CANARY/cloned', 'w'); os._exit(0)
libc.syscall(435, ctypes.create_string_buffer(88), 88)""",
)
reach(
    "writes files",
    "files written in the places where one could",
    """
for folder in ('CANARY', '/tmp', '/var/tmp', '/dev/shm', '/root', os.path.expanduser('~'), '.', '/usr/lib', sys.prefix):
    try: open(os.path.join(folder, 'grading-attack-was-here'), 'w').write('x')
    except OSError: pass""",
)
reach(
    "changes files",
    "a file cut, deleted, renamed, its mode, owner and times changed, links to it made",
    """
for attempt in (lambda: os.truncate('CANARY/kept', 0), lambda: os.remove('CANARY/kept'),
                lambda: os.rename('CANARY/kept', 'CANARY/gone'), lambda: os.chmod('CANARY/kept', 0o777),
                lambda: os.chown('CANARY/kept', 1, 1), lambda: os.utime('CANARY/kept', (0, 0)),
                lambda: os.link('CANARY/kept', 'CANARY/hard'), lambda: os.symlink('CANARY/kept', 'CANARY/soft'),
                lambda: os.mkdir('CANARY/folder'), lambda: os.mkfifo('CANARY/pipe'),
                lambda: os.setxattr('CANARY/kept', 'user.a', b'1'), lambda: open('CANARY/kept', 'a').write('x')):
    try: attempt()
    except OSError: pass""",
)
reach(
    "network",
    "a connection, a name looked up, a local socket",
    """
import socket, urllib.request
for attempt in (lambda: socket.create_connection(('127.0.0.1', 22), 1), lambda: socket.gethostbyname('example.org'),
                lambda: socket.socket(socket.AF_UNIX).connect('/run/docker.sock'),
                lambda: urllib.request.urlopen('http://example.org', timeout=1)):
    try: attempt(); open('CANARY/connected', 'w')
    except Exception: pass""",
)
reach(
    "kills its parent",
    "signals to its parent, to process 1 and to everybody",
    """
import signal
for pid in (os.getppid(), 1, 2, 3, -1, 0):
    for number in (signal.SIGKILL, signal.SIGSTOP):
        try: os.kill(pid, number)
        except OSError: pass""",
)
reach(
    "signals by descriptor",
    "a descriptor whose owner is the parent, so that the kernel sends the signal",
    """
import fcntl, signal
fcntl.fcntl(3, 10, signal.SIGKILL)
fcntl.fcntl(3, fcntl.F_SETOWN, os.getppid())
fcntl.fcntl(3, fcntl.F_SETFL, os.O_ASYNC)""",
)
reach(
    "ptrace",
    "`ptrace`, `process_vm_readv` and `pidfd_getfd` on its parent",
    """
import ctypes
libc = ctypes.CDLL(None)
for number in (101, 310, 311, 434, 438): libc.syscall(number, os.getppid(), 16, 0, 0, 0, 0)""",
)
reach(
    "memory of others",
    "/proc/*/mem opened for writing",
    """
for pid in (os.getppid(), 1): open(f'/proc/{pid}/mem', 'r+b').write(b'x')""",
)
reach(
    "raises its limits",
    "its limits raised, its priority too, another's limits lowered",
    """
import resource
for name in ('RLIMIT_AS', 'RLIMIT_DATA', 'RLIMIT_FSIZE', 'RLIMIT_NOFILE', 'RLIMIT_CPU'):
    try: resource.setrlimit(getattr(resource, name), (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError): pass
    try: resource.prlimit(os.getppid(), getattr(resource, name), (1, 1))
    except (OSError, ValueError): pass
os.nice(-10)""",
)
reach(
    "namespaces and mounts",
    "`unshare`, `setns`, `mount`, `chroot` and `pivot_root`",
    """
import ctypes
libc = ctypes.CDLL(None)
for number, *arguments in ((272, 0x10020000), (308, 3, 0), (165, b'none', b'/tmp', b'tmpfs', 0, 0), (161, b'/'),
                           (155, b'/', b'/'), (428, -100, b'/', 1), (430, b'tmpfs', 0)):
    libc.syscall(number, *arguments)
open('/tmp/grading-attack-was-here', 'w')""",
)
reach(
    "kernel doors",
    "bpf, io_uring, keyrings, userfaultfd, perf, memfd and an executed memfd",
    """
import ctypes
libc = ctypes.CDLL(None)
for number in (321, 425, 426, 248, 250, 323, 298, 447): libc.syscall(number, 0, 0, 0, 0, 0, 0)
fd = libc.syscall(319, b'x', 0)
if fd >= 0: os.execve(fd, ['x'], {})""",
)
reach(
    "changes who it is",
    "`setuid`, `capset`, `prctl` against dying with its parent",
    """
import ctypes
libc = ctypes.CDLL(None)
for option in (1, 4, 22, 24, 47): libc.prctl(option, 0, 0, 0, 0)
for attempt in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]), os.setsid):
    try: attempt()
    except OSError: pass""",
)
reach(
    "memory that stays",
    "System V memory and a message queue, which outlive a process",
    """
import ctypes
libc = ctypes.CDLL(None)
libc.syscall(29, 0x6772, 4096, 0o1666)
libc.syscall(68, 0x6772, 0o1666)
libc.syscall(240, b'grading-attack', 0o102, 0o666, 0)""",
)
reach(
    "terminal",
    "keys typed into the instructor's terminal",
    """
import fcntl
for path in ('/dev/tty', '/dev/pts/0', '/dev/console', 0, 1, 2):
    try: fcntl.ioctl(os.open(path, 2) if isinstance(path, str) else path, 0x5412, b'x')
    except OSError: pass""",
)
reach(
    "opens its confinement",
    "Landlock and seccomp called again, to allow more",
    """
import ctypes
libc = ctypes.CDLL(None)
libc.syscall(444, 0, 0, 0)
libc.syscall(317, 0, 0, 0)
libc.prctl(22, 0, 0, 0, 0)
open('CANARY/opened', 'w')""",
)
reach(
    "devices",
    "disks and memory opened as devices, a device made",
    """
for path in ('/dev/mem', '/dev/kmsg', '/dev/sda', '/dev/vda', '/dev/fuse', '/dev/kvm'):
    try: os.open(path, os.O_RDWR)
    except OSError: pass
os.mknod('CANARY/device', 0o60666, 0x800)""",
)
reach(
    "thread that stays",
    "a thread that never ends",
    """
import threading, time
threading.Thread(target=lambda: time.sleep(86400)).start()""",
)
reach(
    "work at exit",
    "files written when the interpreter ends or an object dies",
    """
import atexit
atexit.register(lambda: open('CANARY/at-exit', 'w'))
class Late:
    def __del__(self): open('CANARY/deleted', 'w')
late = Late()""",
)

# Files ------------------------------------------------------------------------------------------------------

text("empty functions", "functions without an answer", file(mean="pass", init="pass", forward="pass", centred="pass"))
text("syntax error", "a syntax error", "def mean(x:\n    return x\n", says="SyntaxError")
text("missing functions", "none of the functions", "x = 1\n", says="")
text("no Python", "a letter instead of a program", "Dear instructor,\nI was ill.\n", says="SyntaxError")
text("binary", "bytes that are no text", bytes(range(256)) * 20)
text("null bytes", "null bytes in the text", file().encode() + b"\0\0")
text("UTF-16", "UTF-16, as an editor may save it", file().encode("utf-16"))
text("latin-1", "an umlaut in latin-1, not declared", b"# \xfcber\n" + file().encode(), ALL)
text(
    "declared latin-1",
    "an umlaut in latin-1, declared",
    b"# -*- coding: latin-1 -*-\n# \xfcber\n" + file().encode(),
    ALL,
)
text("nested source", "100,000 parentheses", "x = " + "(" * 100000 + ")" * 100000)
text("nested comparison", "an expression 50,000 terms deep", "x = " + "-" * 50000 + "1\n" + file())
text("huge literal", "a number of 900,000 digits", "x = " + "9" * 900000 + "\n" + file())
text(
    "import star",
    "`from course.checking import *`, then right answers",
    "from course.checking import *\n" + file(),
    ALL,
)
text("marked by a byte order mark", "a byte order mark in front", b"\xef\xbb\xbf" + file().encode(), ALL)
text("Windows line ends", "line ends of Windows", file().replace("\n", "\r\n"), ALL)
text("tabs", "tabs for spaces", file().replace("    ", "\t"), ALL)
text("a megabyte of comments", "comments up to the limit of a file", file() + "# x\n" * 200000, ALL)

# Right answers, written differently -------------------------------------------------------------------------


def right(name, tries, top="", **bodies):
    ATTACKS.append(Attack(name, "right answers", tries, file(top, RIGHT, **bodies), ALL))


right(
    "loops",
    "loops instead of operations on tensors",
    mean="return torch.stack([sum(value for value in row) / len(row) for row in x])",
)
right(
    "compiler",
    "an optimizer, deterministic algorithms and `torch.compile`, set up while it is imported",
    """
torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))]).step()
torch.use_deterministic_algorithms(True)


@torch.compile
def unused(x):
    return x + 1
""",
)
right("slow", "a pause in every call", "import time", mean="time.sleep(0.3)\nreturn x.mean(-1)")
right(
    "noisy",
    "prints, warnings, a log and progress bars on every call",
    "import warnings, logging, sys",
    mean="""
print(x, '\\x1b[31m<b>')
warnings.warn('careful')
logging.warning('careful')
sys.stderr.write('\\rworking...')
return x.mean(-1)""",
)
right(
    "numpy",
    "NumPy for what needs no gradient",
    "import numpy as np",
    mean="return x @ torch.from_numpy(np.full(x.shape[1], 1 / x.shape[1], dtype=np.float32))",
)
right(
    "other layers",
    "a projection of three layers with a norm",
    init="self.layers = nn.Sequential(nn.LayerNorm(D), nn.Linear(D, 9), nn.GELU(), nn.Linear(9, E))",
    forward="return self.layers(features)",
)
right(
    "changes the surroundings",
    "the default dtype, the seeds and the folder changed, and left that way",
    "import os, random",
    mean="""
result = x.mean(-1)
torch.manual_seed(0); random.seed(0); torch.set_default_dtype(torch.float64)
os.chdir('/')
return result""",
)
right(
    "adds to torch",
    "a method added to tensors",
    "torch.Tensor.average = lambda self: self.mean(-1)",
    mean="return x.average()",
)
right(
    "replaces its output",
    "`sys.stdout` replaced by an object that raises",
    """
import sys
class Loud:
    def write(self, text): raise OSError('no')
    def flush(self): raise OSError('no')
""",
    mean="sys.stdout = sys.stderr = Loud()\nreturn x.mean(-1)",
)
right(
    "threads of its own",
    "a thread that computes the answer",
    "from concurrent.futures import ThreadPoolExecutor",
    mean="with ThreadPoolExecutor(2) as pool: return pool.submit(lambda: x.mean(-1)).result()",
)
right(
    "keeps state",
    "a cache keyed by the input",
    "cache = {}",
    centred="""
key = x.data_ptr()
cache[key] = x - mean(x)[:, None]
return cache[key]""",
)
