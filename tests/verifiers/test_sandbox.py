"""Code in the sandbox reaches nothing, keeps nothing and ends when it should."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from upshot.errors import SandboxError
from upshot.verifiers import sandbox, seccomp
from upshot.verifiers.sandbox import Limits, Place, python, run

QUICK = Limits(seconds=5.0, memory_mb=300, processes=24, disk_mb=8, output_kb=64)


def said(program: str, limits: Limits = QUICK, **place: object) -> sandbox.Run:
    return run(python("-I", "-S", "-c", program), Place(**place), limits)  # type: ignore[arg-type]


def test_a_program_runs_and_says_how_it_ended() -> None:
    result = run(
        python(
            "-I",
            "-S",
            "-c",
            "import sys; sys.stdout.write(sys.stdin.read() + open('a/b.txt').read()); sys.exit(3)",
        ),
        Place({"a/b.txt": b"file"}),
        QUICK,
        b"input ",
    )
    assert (result.code, result.stdout, result.killed) == (3, b"input file", "")


def test_it_sees_no_file_of_this_machine_and_writes_none(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    result = said(
        f"import os\nfor path in ({str(secret)!r}, '/etc/passwd', '/etc/shadow', '/root/.bashrc',"
        " os.path.expanduser('~root')):\n    try:\n        print(open(path).read())\n    except"
        " OSError as e: print('no', type(e).__name__)\nfor path in ('/usr/x', '/x', '/tmp/x',"
        " '/etc/x', '/dev/x', '/dev/shm/x', '/proc/sys/kernel/hostname', '/var/x'):\n    try:\n   "
        "     open(path, 'w'); print('wrote', path)\n    except OSError: pass"
    )
    assert result.code == 0
    assert b"secret" not in result.stdout.replace(str(secret).encode(), b"")
    assert b"wrote" not in result.stdout
    assert result.stdout.count(b"no ") == 5


def test_it_has_no_network_and_no_way_to_this_machines_sockets() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0upshot-test-" + str(os.getpid()))
    abstract.listen()
    result = said(
        "import socket\nfor make in (lambda: socket.create_connection(('127.0.0.1',"
        f" {server.getsockname()[1]}), 1), lambda: socket.create_connection(('1.1.1.1', 53), 1),"
        f" lambda: socket.socket(socket.AF_UNIX).connect('\\0upshot-test-{os.getpid()}'), lambda:"
        " socket.getaddrinfo('example.com', 80)):\n    try:\n        make(); print('reached')\n   "
        " except OSError: print('refused')"
    )
    assert result.stdout.split() == [b"refused"] * 4
    server.close()
    abstract.close()


def test_it_is_nobody_without_rights() -> None:
    result = said(
        "import os; print(os.getuid(), os.getgid(), os.getgroups());"
        " print(open('/proc/self/status').read())"
    )
    user, status = result.stdout.split(b"\n", 1)
    assert int(user.split()[0]) >= 64_000
    assert b"CapEff:\t0000000000000000" in status
    assert b"CapBnd:\t0000000000000000" in status
    assert b"NoNewPrivs:\t1" in status
    assert b"Seccomp:\t2" in status
    attempts = said(
        "import os, ctypes\nlibc = ctypes.CDLL(None,"
        " use_errno=True)\nprint(libc.unshare(0x10000000), libc.mount(b'none', b'/sandbox',"
        " b'tmpfs', 0, 0), libc.ptrace(16, 1, 0, 0))\nfor call in (lambda: os.setuid(0), lambda:"
        " os.kill(1, 9) or 1/0, lambda: os.chroot('/'), lambda: os.nice(-5)):\n    try:\n       "
        " call(); print('did')\n    except (OSError, ZeroDivisionError) as e:"
        " print(type(e).__name__)"
    )
    lines = attempts.stdout.split(b"\n")
    assert lines[0] == b"-1 -1 -1"
    assert b"did" not in attempts.stdout


def test_it_sees_only_its_own_processes_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "hunter2")
    result = said(
        "import os; print(len([n for n in os.listdir('/proc') if n.isdigit()])); print(os.environ)"
    )
    assert int(result.stdout.split()[0]) <= 4
    assert b"hunter2" not in result.stdout


def test_time_ends_it_with_everything_it_started() -> None:
    mark = f"upshot-left-{os.getpid()}"
    started = time.monotonic()
    result = said(
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n       "
        f" os.execv('/bin/sleep', ['{mark}', '600'])\ntime.sleep(600)",
        Limits(seconds=1.0),
    )
    assert (result.code, result.killed) == (None, "time")
    assert time.monotonic() - started < 4
    time.sleep(0.3)
    assert (
        mark
        not in subprocess.run(
            ["ps", "-eo", "args"], capture_output=True, text=True, check=True
        ).stdout
    )


def test_what_it_leaves_behind_ends_with_it() -> None:
    mark = f"upshot-orphan-{os.getpid()}"
    result = said(
        "import os\nif os.fork() == 0:\n    os.setsid(); os.close(1); os.close(2)\n   "
        f" os.execv('/bin/sleep', ['{mark}', '600'])"
    )
    assert result.code == 0
    time.sleep(0.3)
    assert (
        mark
        not in subprocess.run(
            ["ps", "-eo", "args"], capture_output=True, text=True, check=True
        ).stdout
    )


def test_a_fork_bomb_stays_inside() -> None:
    result = said(
        "import os\nn = 0\ntry:\n    while True:\n        if os.fork() == 0:\n            import"
        " time; time.sleep(20)\n        n += 1\nexcept OSError as e: print(n, type(e).__name__,"
        " flush=True)\nos._exit(0)"
    )
    assert result.stdout.split()[1] == b"BlockingIOError"
    assert int(result.stdout.split()[0]) <= QUICK.processes
    assert said("print(1)").stdout == b"1\n", "the machine still starts processes"


def test_memory_of_one_and_of_many_is_bounded() -> None:
    single = said("x = []\nwhile True: x.append(bytearray(10_000_000))")
    assert single.code == 1
    assert b"MemoryError" in single.stderr
    many = said(
        "import os, time\nfor _ in range(10): \n    if os.fork() == 0: break\nx = bytearray(b'1') *"
        " 100_000_000\ntime.sleep(20)"
    )
    assert many.killed == "memory"


def test_a_full_disk_is_the_programs_own() -> None:
    single = said(
        "f = open('a', 'wb')\ntry:\n    while True: f.write(b'x' * 1_000_000); f.flush()\nexcept"
        " OSError as e: print(e.errno)"
    )
    assert single.stdout in (b"27\n", b"28\n") or single.code == -25, "file too large, or no space"
    many = said(
        "n = 0\ntry:\n    while True:\n        open(str(n), 'wb').write(b'x' * 500_000); n +="
        " 1\nexcept OSError as e: print(n, e.errno)"
    )
    assert many.stdout.split()[1] == b"28"
    assert int(many.stdout.split()[0]) <= 16


def test_a_flood_of_output_is_cut() -> None:
    result = said("import os\nwhile True: os.write(1, b'x' * 65536)")
    assert result.killed == "output"
    assert len(result.stdout) == QUICK.output_kb * 1024


def test_links_lead_nowhere_outside(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "outside").write_text("outside")
    (tmp_path / "given" / "link").symlink_to(tmp_path / "outside")
    result = said(
        f"import os\nos.symlink({str(tmp_path / 'outside')!r}, 'mine')\nfor path in ('mine',"
        f" {str(tmp_path / 'given' / 'link')!r}, '/proc/1/root{tmp_path}/outside',"
        f" '/proc/self/cwd/../../{tmp_path}/outside'):\n    try:\n       "
        " print(open(path).read())\n    except OSError: print('no')\ntry:\n   "
        f" open({str(tmp_path / 'given' / 'new')!r}, 'w'); print('wrote')\nexcept OSError:"
        " print('no')",
        folders=[tmp_path / "given"],
    )
    assert result.stdout.split() == [b"no"] * 5


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", ""])
def test_files_go_only_into_the_folder(path: str) -> None:
    with pytest.raises(ValueError, match="inside the sandbox"):
        run(["/bin/true"], Place({path: b"x"}))


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    mark = f"upshot-parent-{os.getpid()}"
    program = (
        "import threading, time\nfrom upshot.verifiers.sandbox import"
        f" *\nthreading.Thread(target=lambda: run(['/bin/sh', '-c', 'exec -a {mark} sleep 600 ||"
        " exec sleep 600'], limits=Limits(seconds=600.0))).start()\ntime.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    time.sleep(1.5)
    parent.kill()
    parent.wait()
    time.sleep(0.5)
    remaining = subprocess.run(
        ["ps", "-eo", "args"], capture_output=True, text=True, check=True
    ).stdout
    assert mark not in remaining


def test_many_at_once_do_not_disturb_each_other() -> None:
    results: list[bytes] = []
    threads = [
        threading.Thread(
            target=lambda n=n: results.append(
                said(f"open('f', 'w').write('{n}'); print(open('f').read())").stdout
            )
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [f"{n}\n".encode() for n in range(8)]


def test_without_bubblewrap_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    sandbox.find_programs.cache_clear()
    try:
        with pytest.raises(SandboxError, match="apt-get install bubblewrap"):
            run(["/bin/true"])
    finally:
        monkeypatch.undo()
        sandbox.find_programs.cache_clear()


def test_a_sandbox_in_which_python_does_not_run_is_refused_and_not_taken_for_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox, "bind_arguments", lambda folders: [])
    for cached in (sandbox.system_arguments, sandbox.require_sandbox):
        cached.cache_clear()
    try:
        if not sys.base_prefix.startswith("/usr"):
            with pytest.raises(SandboxError, match="this Python runs"):
                sandbox.require_sandbox()
    finally:
        monkeypatch.undo()
        for cached in (sandbox.system_arguments, sandbox.require_sandbox):
            cached.cache_clear()


def test_a_machine_whose_calls_are_unknown_is_refused() -> None:
    with pytest.raises(SandboxError, match="riscv64"):
        seccomp.build_filter("riscv64")
