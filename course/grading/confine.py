"""What a child gives up before it runs a stranger's code: capabilities, resources, files (Landlock), system
calls (seccomp).

By ctypes, on Linux on x86_64 and aarch64. PyPI has no Landlock binding, and pyseccomp needs the libseccomp
library, which no pip installs; what is needed of both fits on this page. Each function raises OSError where
the kernel refuses.
"""

import ctypes
import os
import platform
import signal
import struct
import sys
from collections.abc import Iterable

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

# Landlock: https://docs.kernel.org/userspace-api/landlock.html
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
READ_FILE, WRITE_FILE, READ_DIR = 1 << 2, 1 << 1, 1 << 3
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many rights on files a version knows; 16 from version 5 on

# seccomp: https://man7.org/linux/man-pages/man2/seccomp.2.html
ARCH = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
ALLOW, KILL, ERRNO, EPERM, ENOSYS = 0x7FFF0000, 0x80000000, 0x00050000, 1, 38
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06

# System calls that answer "not permitted", by number on (x86_64, aarch64); None where there is no such call.
DENIED = {
    # new processes and programs; threads stay possible, see `_filter`
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    # the network, and passing descriptors; the child's own socket needs only read and write
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "process_madvise": (440, 440),
    "setpgid": (109, 154),
    "setsid": (112, 157),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    # namespaces and mounts
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "setns": (308, 268),
    "unshare": (272, 97),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    # wide doors into the kernel
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "quotactl": (179, 60),
    "iopl": (172, None),
    "ioperm": (173, None),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "personality": (135, 92),
    "seccomp": (317, 277),
    # who it is, and what it may use
    "setrlimit": (160, 164),
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setgroups": (116, 159),
    "setfsuid": (122, 151),
    "setfsgid": (123, 152),
    "capset": (126, 91),
    # memory that would outlive it
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semctl": (66, 191),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    # changes of files that Landlock leaves to us: owners, modes, times, attributes; and those that it
    # knows, again
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "setxattrat": (463, 463),
    "removexattrat": (466, 466),
    "truncate": (76, 45),
    "creat": (85, None),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
}
# Calls of which only some are denied: (x86_64, aarch64), which argument, the values that are not permitted.
DENIED_VALUES = {
    # PDEATHSIG, DUMPABLE, SECCOMP, CAPBSET_DROP, SECUREBITS, SET_MM, CAP_AMBIENT, SET_PTRACER
    "prctl": ((157, 167), 0, (1, 4, 22, 24, 28, 35, 47, 0x59616D61)),
    # a descriptor that signals a process: F_SETOWN, F_SETSIG, F_SETOWN_EX; FIOSETOWN, SIOCSPGRP;
    # TIOCSTI, TIOCLINUX
    "fcntl": ((72, 25), 1, (8, 10, 15)),
    "ioctl": ((16, 29), 1, (0x8901, 0x8902, 0x5412, 0x541C)),
}
CLONE, CLONE3, PRLIMIT = (56, 220), (435, 435), (302, 261)
CLONE_THREAD = 0x10000
NEW_USER, NEW_PID = 0x10000000, 0x20000000
NO_NEW_PRIVS, SET_SECCOMP, SET_PDEATHSIG = 38, 22, 1


def _call(number, *arguments) -> int:
    assert LIBC is not None  # whoever calls has looked
    result = LIBC.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _prctl(option, *arguments) -> None:
    assert LIBC is not None
    if LIBC.prctl(option, *(ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4])):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def dies_with_parent() -> None:
    """SIGKILL for this process when the one that forked it ends."""
    if LIBC is not None:
        _prctl(SET_PDEATHSIG, 9)


def limit_resources(memory: int, seconds: int) -> None:
    """At most so many bytes of memory and seconds of processor time, few descriptors, no files, no core dump.

    Memory counts twice: RLIMIT_DATA alone leaves out shared mappings.
    """
    for name, value in (
        ("RLIMIT_AS", memory),
        ("RLIMIT_DATA", memory),
        ("RLIMIT_CPU", seconds),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_NOFILE", 64),
    ):
        which = getattr(resource, name, None)
        if which is not None:
            hard = resource.getrlimit(which)[1]
            wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
            try:
                resource.setrlimit(which, (wanted, wanted))
            except (ValueError, OSError):
                if sys.platform == "linux":  # macOS knows some of these limits and refuses to set them
                    raise


def drop_capabilities() -> None:
    """Give up every capability, also those that a user namespace gives."""
    header, none = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    _call({"x86_64": 126, "aarch64": 91}[platform.machine()], header, none)


def landlock_version() -> int:
    """The version of Landlock that the running kernel speaks; 0 where there is none."""
    if LIBC is None:
        return 0
    return max(0, LIBC.syscall(ctypes.c_long(CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(1)))


def landlock(readable: Iterable[str], devices: Iterable[str] = ("/dev/null", "/dev/urandom", "/dev/zero")) -> None:
    """From now on only these files and folders can be read, nothing can be written but the devices,
    nothing executed; where the kernel knows how, no TCP, and no signal to anyone outside."""
    version = landlock_version()
    if not version:
        raise OSError("there is no Landlock in this kernel")
    handled = (1 << RIGHTS.get(version, 16)) - 1
    attributes = struct.pack("=QQQ", handled, 3, 3)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _call(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    try:
        for path in (*readable, *devices):
            rights = READ_FILE | (READ_DIR if os.path.isdir(path) else 0)
            rights |= WRITE_FILE if path in devices else 0
            try:
                place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                _call(
                    ADD_RULE,
                    ctypes.c_int(ruleset),
                    ctypes.c_int(1),
                    struct.pack("=Qi", rights, place),
                    ctypes.c_uint32(0),
                )
            finally:
                os.close(place)
        _prctl(NO_NEW_PRIVS, 1)
        _call(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _filter(machine: str) -> bytes:
    """The BPF program: what is not named is allowed."""
    which, arch = ARCH[machine]
    program = []

    def do(code, value, yes=0, no=0):
        program.append(struct.pack("=HBBI", code, yes, no, value))

    def unless(code, value, answer):  # the next instruction runs only where the test holds
        do(code, value, 0, 1)
        do(RETURN, answer)

    do(LOAD, 4)
    do(EQUAL, arch, 1, 0)
    do(RETURN, KILL)
    do(LOAD, 0)
    if machine == "x86_64":
        unless(AT_LEAST, 0x40000000, ERRNO | ENOSYS)  # the x32 calls: other numbers for the same things
    for numbers in DENIED.values():
        if numbers[which] is not None:
            unless(EQUAL, numbers[which], ERRNO | EPERM)
    unless(EQUAL, CLONE3[which], ERRNO | ENOSYS)  # its flags lie in memory; glibc then takes clone
    do(EQUAL, CLONE[which], 0, 4)  # threads only
    do(LOAD, 16)
    do(ANY_BIT, CLONE_THREAD, 1, 0)
    do(RETURN, ERRNO | EPERM)
    do(RETURN, ALLOW)
    do(EQUAL, PRLIMIT[which], 0, 6)  # reading limits only: no new ones are given
    do(LOAD, 32)
    do(EQUAL, 0, 0, 2)
    do(LOAD, 36)
    do(EQUAL, 0, 1, 0)
    do(RETURN, ERRNO | EPERM)
    do(RETURN, ALLOW)
    for numbers, argument, values in DENIED_VALUES.values():
        do(EQUAL, numbers[which], 0, 2 * len(values) + 2)
        do(LOAD, 16 + 8 * argument)
        for value in values:
            unless(EQUAL, value, ERRNO | EPERM)
        do(RETURN, ALLOW)
    do(RETURN, ALLOW)
    return b"".join(program)


def seccomp() -> None:
    """From now on the calls above are not permitted, in this thread and all that it starts."""
    program = _filter(platform.machine())
    held = ctypes.create_string_buffer(program, len(program))
    address = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(held))
    _prctl(NO_NEW_PRIVS, 1)
    pointer = ctypes.create_string_buffer(address, len(address))
    _prctl(SET_SECCOMP, 2, ctypes.addressof(pointer))


def fork_into_namespaces() -> int:
    """Fork, and let the new process be number 1 of a process table and a user of its own: with its end, all
    that are in the table end.

    os.fork knows no flags, and `unshare` before it would take a second fork: milliseconds, with torch in memory.
    Only for a process with one thread, as Python is not told.
    """
    which, _ = ARCH[platform.machine()]
    return _call(CLONE[which], ctypes.c_long(NEW_USER | NEW_PID | signal.SIGCHLD), None, None, None, None)
