"""A filter of system calls for the sandbox, as the kernel's classic BPF program.

Code under test needs no namespaces of its own, no mounts, no tracing, no keys and no new kernel
interfaces, where most kernel exploits begin. The list is a shorter version of Flatpak's. A refused
call fails with EPERM; `clone3`, whose flags a filter cannot see, with ENOSYS, after which the C
library uses `clone`.
"""

from __future__ import annotations

import platform
import struct
from functools import cache

from upshot.errors import SandboxError

_NUMBERS = {
    "x86_64": (
        0xC000003E,
        {
            "unshare": 272,
            "setns": 308,
            "mount": 165,
            "umount2": 166,
            "pivot_root": 155,
            "ptrace": 101,
            "process_vm_readv": 310,
            "process_vm_writev": 311,
            "keyctl": 250,
            "add_key": 248,
            "request_key": 249,
            "bpf": 321,
            "perf_event_open": 298,
            "userfaultfd": 323,
            "io_uring_setup": 425,
            "kexec_load": 246,
            "init_module": 175,
            "finit_module": 313,
            "swapon": 167,
            "reboot": 169,
            "open_by_handle_at": 304,
            "fsopen": 430,
            "move_mount": 429,
            "open_tree": 428,
            "clone": 56,
            "clone3": 435,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "unshare": 97,
            "setns": 268,
            "mount": 40,
            "umount2": 39,
            "pivot_root": 41,
            "ptrace": 117,
            "process_vm_readv": 270,
            "process_vm_writev": 271,
            "keyctl": 219,
            "add_key": 217,
            "request_key": 218,
            "bpf": 280,
            "perf_event_open": 241,
            "userfaultfd": 282,
            "io_uring_setup": 425,
            "kexec_load": 104,
            "init_module": 105,
            "finit_module": 273,
            "swapon": 224,
            "reboot": 142,
            "open_by_handle_at": 265,
            "fsopen": 430,
            "move_mount": 429,
            "open_tree": 428,
            "clone": 220,
            "clone3": 435,
        },
    ),
}
"""AUDIT_ARCH and system call numbers, from include/uapi/linux/audit.h and the kernel's tables."""
_LOAD, _EQUAL, _AT_LEAST, _AND_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _EPERM, _ENOSYS, _KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
_NAMESPACES = 0x7E020080
"""Flags of clone that create namespaces: CLONE_NEWUSER and the like."""
_X32 = 0x40000000
"""Bit of the numbers of x32 system calls, which would bypass the filter."""


@cache
def build_filter(machine: str = "") -> bytes:
    """Build the filter for a machine, by default this one.

    >>> len(build_filter("x86_64")) % 8
    0

    Raises:
        SandboxError: the system call numbers of the machine are unknown.
    """
    machine = machine or platform.machine()
    if machine not in _NUMBERS:
        raise SandboxError(
            f"could not make a sandbox on {machine}: its system calls are not known; there are"
            f" {', '.join(_NUMBERS)}"
        )
    arch, numbers = _NUMBERS[machine]
    code = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, arch), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    if machine == "x86_64":
        code += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _EPERM)]
    code += [(_EQUAL, 0, 1, numbers["clone3"]), (_RETURN, 0, 0, _ENOSYS)]
    for name, number in numbers.items():
        if name not in ("clone", "clone3"):
            code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _EPERM)]
    code += [
        (_EQUAL, 0, 3, numbers["clone"]),
        (_LOAD, 0, 0, 16),
        (_AND_SET, 0, 1, _NAMESPACES),
        (_RETURN, 0, 0, _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)
