"""What a worker process has given up, looked at from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from adapters.sandbox import MontySandbox, SandboxSettings, open_sandbox
from adapters.sandbox.hardening import restrict, syscalls
from adapters.sandbox.launcher import MEASURES, _write, prepare
from tests.adapters.sandbox_support import KvHost, answer, handler, job

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="the launcher is for Linux")]


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[MontySandbox]:
    async with open_sandbox(SandboxSettings(slots=1)) as opened:
        yield opened


@pytest.fixture
async def worker(sandbox: MontySandbox) -> psutil.Process:
    await sandbox.run(job(handler("return 1")), KvHost())
    [idle] = sandbox._workers._idle
    with idle.pool().checkout() as session:
        return psutil.Process(session.worker_pid)


def status(process: psutil.Process) -> dict[str, list[str]]:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return {name: values.split() for name, _, values in (line.partition(":") for line in lines)}


def limits_of(process: psutil.Process) -> dict[str, list[str]]:
    """Soft and hard limit by name."""
    lines = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
    return {line[:26].strip(): line[26:].split()[:2] for line in lines}


async def test_a_worker_is_as_hardened_as_its_status_says(sandbox: MontySandbox, worker: psutil.Process) -> None:
    hardening = sandbox.status().hardening
    assert set(hardening) == set(MEASURES)
    seen = status(worker)
    assert (seen["NoNewPrivs"] == ["1"]) == hardening["no_new_privileges"]
    assert (seen["Seccomp"] == ["2"]) == hardening["seccomp"]
    assert ("0" not in seen["Uid"]) == hardening["unprivileged_user"]
    assert hardening["no_new_privileges"]
    assert hardening["clean_environment"]


async def test_a_worker_has_no_environment_groups_files_or_children(worker: psutil.Process) -> None:
    assert worker.environ() == {}
    assert worker.num_fds() == 3
    assert worker.children() == []
    if os.geteuid() == 0:
        assert status(worker)["Groups"] == []
        assert status(worker)["CapEff"] == ["0000000000000000"]
    limits = limits_of(worker)
    assert limits["Max core file size"] == limits["Max file size"] == ["0", "0"]
    assert limits["Max open files"] == [str(restrict.MAX_FILES)] * 2
    assert limits["Max address space"] == [str(SandboxSettings().run_address_space_bytes)] * 2


async def test_an_idle_worker_is_small(worker: psutil.Process) -> None:
    assert worker.memory_info().rss < 16 * 1024 * 1024


async def test_without_the_launcher_runs_work_and_nothing_is_claimed() -> None:
    async with open_sandbox(SandboxSettings(slots=1, harden=False)) as bare:
        assert await answer(bare, "return 1") == 1
        assert not any(bare.status().hardening.values())


def test_a_folder_where_nothing_can_be_executed_falls_back(tmp_path: Path) -> None:
    launchers = prepare(tmp_path / "missing", run_bytes=2**30, check_bytes=2**30)
    assert (launchers.run, launchers.check) == (None, None)
    assert not any(launchers.hardening.values())


ATTEMPTS = """
import os, sys
sys.path.insert(0, FOLDER)
import ctypes, json, socket
from hardening import launch, syscalls
fd = os.open(sys.executable, os.O_RDONLY)
os.dup2(fd, launch.BINARY_FD, inheritable=False)
os.close(fd)
libc = syscalls.LIBC
launch._restrict(2**31)
def errno_of(attempt):
    try:
        attempt()
    except OSError as error:
        return error.errno
    return 0
found = {
    "read": errno_of(lambda: os.open("/etc/passwd", os.O_RDONLY)),
    "list": errno_of(lambda: os.listdir("/")),
    "write": errno_of(lambda: os.open("/tmp/picloud-probe", os.O_CREAT | os.O_WRONLY)),
    "socket": errno_of(socket.socket),
    "fork": errno_of(lambda: os.fork() or os._exit(0)),
    "exec": errno_of(lambda: os.execv("/bin/sh", ["/bin/sh", "-c", "exit 0"])),
    "kill": errno_of(lambda: os.kill(1, 0)),
    "ptrace": errno_of(lambda: syscalls.check(libc.ptrace(0, 0, 0, 0))),
    "unshare": errno_of(lambda: syscalls.check(libc.unshare(0x10000000))),
    "mount": errno_of(lambda: syscalls.check(libc.mount(b"x", b"/", b"tmpfs", 0, None))),
}
import threading
ran = []
thread = threading.Thread(target=lambda: ran.append(1))
thread.start()
thread.join()
found["thread"] = ran
sys.stdout.write(json.dumps(found))
sys.stdout.flush()
"""


def test_what_a_restricted_process_attempts_is_refused() -> None:
    folder = Path(restrict.__file__).parent.parent
    attempts = ATTEMPTS.replace("FOLDER", repr(str(folder))).replace("import threading\nran", "ran").replace("import os, sys", "import os, sys, threading")
    done = subprocess.run([sys.executable, "-IS", "-c", attempts], capture_output=True, text=True, timeout=30, check=True)
    found = json.loads(done.stdout)
    assert found.pop("thread") == [1]
    refused = {name for name, code in found.items() if code in (1, 13)}
    unavailable = done.stderr
    expected = set(found)
    if "landlock" in unavailable:
        expected -= {"read", "list", "write"}
    if "seccomp" in unavailable:
        expected -= {"socket", "fork", "exec", "kill", "ptrace", "unshare", "mount"}
    assert refused >= expected, (found, unavailable)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_judges_calls_as_meant(machine: str) -> None:
    program = [(step.code, step.jt, step.jf, step.k) for step in restrict.seccomp_program(machine, 200)]
    allow, eperm, enosys = 0x7FFF0000, 0x00050001, 0x00050026
    arch = syscalls.AUDIT_ARCH[machine]

    def judge(number: int, *args: int, of: int = arch) -> int:
        data = {0: number, 4: of} | {16 + 8 * index: arg for index, arg in enumerate(args)}
        at, value = 0, 0
        while True:
            code, jt, jf, k = program[at]
            at += 1
            if code == 0x06:
                return int(k)
            if code == 0x20:
                value = data.get(k, 0)
            else:
                met = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[code]
                at += jt if met else jf

    assert all(judge(number) == eperm for number in syscalls.DENIED[machine])
    assert judge(63) == allow
    assert judge(63, of=0xC000003E ^ 1) == eperm
    assert judge(0x40000000 | 63) == eperm
    assert judge(syscalls.CLONE3) == enosys
    assert judge(syscalls.CLONE[machine], 0x3D0F00) == allow
    assert judge(syscalls.CLONE[machine], 17) == eperm
    execveat = syscalls.EXECVEAT[machine]
    assert judge(execveat, 200, 0, 0, 0, 0x1000) == allow
    assert judge(execveat, 200, 0, 0, 0, 0) == eperm
    assert judge(execveat, 3, 0, 0, 0, 0x1000) == eperm


def test_a_python_path_with_spaces_goes_through_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spaced = tmp_path / "a b" / "python"
    spaced.parent.mkdir()
    spaced.symlink_to(os.path.realpath(sys.executable))
    monkeypatch.setattr(sys, "executable", str(spaced))
    launcher = _write(tmp_path / "run", 2**30)
    assert Path(launcher).read_text().startswith("#!/bin/sh\n")
    done = subprocess.run([launcher, "--probe"], capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout)["no_new_privileges"] is True
