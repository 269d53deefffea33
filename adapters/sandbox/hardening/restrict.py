"""What a worker gives up before it starts. Every step raises OSError where the kernel does not have it."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
from typing import Final

from .syscalls import (
    AT_EMPTY_PATH,
    AUDIT_ARCH,
    CLONE,
    CLONE3,
    CLONE_THREAD,
    DENIED,
    EXECVEAT,
    LANDLOCK_ADD_RULE,
    LANDLOCK_CREATE_RULESET,
    LANDLOCK_RESTRICT_SELF,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECCOMP,
    SECCOMP_MODE_FILTER,
    PathBeneathAttr,
    RulesetAttr,
    SockFilter,
    SockFprog,
    prctl,
    syscall,
)

NOBODY: Final = 65534
MAX_FILES: Final = 64
LIBRARIES: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
"""What the dynamic linker reads before the worker's own code runs."""

_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NR, _ARCH, _ARG0, _ARG4 = 0, 4, 16, 48
_X32_BIT = 0x40000000

_FS_EXECUTE, _FS_READ_FILE = 1 << 0, 1 << 2
_FS_BITS_OF_ABI: Final = {1: 13, 2: 14, 3: 15, 4: 15}
_FS_BITS_LATEST: Final = 16


def no_new_privileges() -> None:
    """No set-uid program can raise this process again; the condition of the two filters."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def drop_user() -> None:
    """From root to nobody, groups included. Somebody who is not root has nothing to drop."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def limit_resources(address_space_bytes: int) -> None:
    """No core dumps, no growing files, few descriptors, bounded memory."""
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, MAX_FILES),
        (resource.RLIMIT_AS, address_space_bytes),
    ):
        resource.setrlimit(kind, (value, value))


def restrict_files(binary_fd: int) -> None:
    """Landlock: nothing of the file system but the binary and the libraries it is linked to; no TCP, no signals to others where the kernel can say so."""
    abi = syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    access = (1 << _FS_BITS_OF_ABI.get(abi, _FS_BITS_LATEST)) - 1
    attributes = RulesetAttr(access, 0b11 if abi >= 4 else 0, 0b11 if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = syscall(LANDLOCK_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0))
    for path in LIBRARIES:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        _allow(ruleset, fd)
        os.close(fd)
    _allow(ruleset, binary_fd)
    syscall(LANDLOCK_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)


def _allow(ruleset: int, fd: int) -> None:
    rule = PathBeneathAttr(_FS_EXECUTE | _FS_READ_FILE, fd)
    syscall(LANDLOCK_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(1), ctypes.byref(rule), ctypes.c_uint32(0))


def filter_syscalls(binary_fd: int) -> None:
    """Seccomp: the denied calls fail with EPERM; new processes cannot be made, and of all programs only `binary_fd` can be executed."""
    machine = os.uname().machine
    if machine not in AUDIT_ARCH:
        raise OSError(errno.ENOSYS, f"no seccomp filter for {machine}")
    program = seccomp_program(machine, binary_fd)
    instructions = (SockFilter * len(program))(*program)
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(SockFprog(len(program), instructions)))


def seccomp_program(machine: str, binary_fd: int) -> list[SockFilter]:
    """The filter as BPF. Descriptors as high as `binary_fd` are beyond `MAX_FILES`, so once it is closed nothing can be executed any more."""
    allow, deny = SockFilter(_RET, 0, 0, _ALLOW), SockFilter(_RET, 0, 0, _ERRNO | errno.EPERM)
    program = [
        *(SockFilter(_LD, 0, 0, _ARCH), SockFilter(_JEQ, 1, 0, AUDIT_ARCH[machine]), deny),
        *(SockFilter(_LD, 0, 0, _NR), SockFilter(_JGE, 0, 1, _X32_BIT), deny),
        # glibc falls back to clone, whose flags can be looked at
        *(SockFilter(_JEQ, 0, 1, CLONE3), SockFilter(_RET, 0, 0, _ERRNO | errno.ENOSYS)),
        *(SockFilter(_JEQ, 0, 4, CLONE[machine]), SockFilter(_LD, 0, 0, _ARG0), SockFilter(_JSET, 0, 1, CLONE_THREAD), allow, deny),
        SockFilter(_JEQ, 0, 6, EXECVEAT[machine]),
        *(SockFilter(_LD, 0, 0, _ARG0), SockFilter(_JEQ, 0, 3, binary_fd), SockFilter(_LD, 0, 0, _ARG4), SockFilter(_JEQ, 0, 1, AT_EMPTY_PATH), allow, deny),
    ]
    for number in DENIED[machine]:
        program += [SockFilter(_JEQ, 0, 1, number), deny]
    return [*program, allow]
