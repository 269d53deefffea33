"""System call numbers and structures of the kernel interfaces that Python has no names for (Linux on x86_64 and aarch64)."""

from __future__ import annotations

import ctypes
import os
from typing import Final

LIBC: Final = ctypes.CDLL(None, use_errno=True)

PR_SET_NO_NEW_PRIVS: Final = 38
PR_SET_SECCOMP: Final = 22
SECCOMP_MODE_FILTER: Final = 2

AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_COMMON: Final = (424, 425, 426, 427, 428, 429, 430, 432, 434, 438)
"""pidfd_send_signal, io_uring_setup/enter/register, open_tree, move_mount, fsopen, fsmount, pidfd_open, pidfd_getfd."""

# socket bind listen accept connect accept4 socketpair, execve fork vfork kill ptrace process_vm_readv process_vm_writev,
# personality pivot_root chroot mount umount2 swapon swapoff reboot sethostname unshare setns,
# init_module delete_module finit_module kexec_load kexec_file_load, add_key request_key keyctl,
# perf_event_open name_to_handle_at open_by_handle_at bpf userfaultfd memfd_create
DENIED: Final = {
    "x86_64": (
        *(41, 49, 50, 43, 42, 288, 53, 59, 57, 58, 62, 101, 310, 311, 135, 155, 161, 165, 166, 167, 168, 169, 170, 272, 308),
        *(175, 176, 313, 246, 320, 248, 249, 250, 298, 303, 304, 321, 323, 319),
        *_COMMON,
    ),
    "aarch64": (
        *(198, 200, 201, 202, 203, 242, 199, 221, 129, 117, 270, 271, 92, 41, 51, 40, 39, 224, 225, 142, 161, 97, 268),
        *(105, 106, 273, 104, 294, 217, 218, 219, 241, 264, 265, 280, 282, 279),
        *_COMMON,
    ),
}

CLONE: Final = {"x86_64": 56, "aarch64": 220}
EXECVEAT: Final = {"x86_64": 322, "aarch64": 281}
CLONE3: Final = 435
CLONE_THREAD: Final = 0x10000
AT_EMPTY_PATH: Final = 0x1000

LANDLOCK_CREATE_RULESET: Final = 444
LANDLOCK_ADD_RULE: Final = 445
LANDLOCK_RESTRICT_SELF: Final = 446


class RulesetAttr(ctypes.Structure):
    """struct landlock_ruleset_attr."""

    _fields_ = (("handled_access_fs", ctypes.c_uint64), ("handled_access_net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class PathBeneathAttr(ctypes.Structure):
    """struct landlock_path_beneath_attr."""

    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


class SockFilter(ctypes.Structure):
    """struct sock_filter."""

    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class SockFprog(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("len", ctypes.c_uint16), ("filter", ctypes.POINTER(SockFilter)))


def prctl(option: int, *args: object) -> None:
    """Control this process; raises OSError. See the manual page of the same name."""
    padded = [*args, 0, 0, 0, 0][:4]
    check(LIBC.prctl(option, *(ctypes.c_ulong(arg) if isinstance(arg, int) else arg for arg in padded)))


def syscall(number: int, *args: object) -> int:
    """Make a system call that has no wrapper; raises OSError."""
    return check(LIBC.syscall(ctypes.c_long(number), *args))


def check(result: int) -> int:
    """Turn a result of -1 into the OSError of errno."""
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
