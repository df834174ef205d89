# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a command where there is next to nothing, as a fuzzing service's runner does.

    sandbox.py --root DIR [--bind DIR=PATH]... [--deny-userfaultfd] -- COMMAND...

The command sees DIR/ as its root, read-only, with a /proc of its own, no
network, and a /dev of null, zero, full, random and urandom. --bind shows the
folder DIR at PATH, read-only but for PATH /tmp. It has no capabilities, and its
children end when it does. --deny-userfaultfd makes the system call fail with
EPERM, as some containers do. Works as root, and elsewhere where users may make
namespaces. Exit status: the command's (128 + N for signal N), 125 where there
is no sandbox to be had.
"""

import argparse
import ctypes
import os
import struct
import sys
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18

PR_SET_PDEATHSIG = 1
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
SIGKILL = 9
LAST_CAPABILITY = 63
EPERM = 1

DEVICES = ("null", "zero", "full", "random", "urandom")
NO_SANDBOX = 125

# userfaultfd's number, by machine (asm/unistd.h).
USERFAULTFD = {"x86_64": 323, "aarch64": 282}

libc = ctypes.CDLL(None, use_errno=True)


def check(result, what):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def prctl(option, argument, *more):
    arguments = [ctypes.c_ulong(value) if isinstance(value, int) else value
                 for value in (argument, *more)]
    return libc.prctl(option, *arguments)


def mount(source, target, kind, flags, data=""):
    check(libc.mount(os.fsencode(source), os.fsencode(target), os.fsencode(kind),
                     ctypes.c_ulong(flags), data.encode()), f"mount on {target}")


def bind(source, target, read_only):
    mount(source, target, "", MS_BIND | MS_REC)
    if read_only:
        # In a user namespace the flags that the file system has must stay.
        locked = os.statvfs(target).f_flag & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC |
                                              os.ST_NOATIME | os.ST_RELATIME)
        mount("none", target, "", MS_BIND | MS_REMOUNT | MS_RDONLY | locked)


def unshare():
    flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
    user, group = os.geteuid(), os.getegid()
    check(libc.unshare(flags | (CLONE_NEWUSER if user else 0)), "unshare")
    if user:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="ascii")


def fill(root, binds):
    """Everything is mounted below root; its folders have to exist already."""
    mount("none", "/", "", MS_REC | MS_PRIVATE)
    bind(root, root, read_only=False)
    mount("proc", root / "proc", "proc", MS_NOSUID)
    mount("tmpfs", root / "dev", "tmpfs", MS_NOSUID, "size=64k")
    for name in DEVICES:
        (root / "dev" / name).touch()
        mount(f"/dev/{name}", root / "dev" / name, "", MS_BIND)
    for folder, path in binds:
        bind(folder, root / path.lstrip("/"), read_only=path != "/tmp")
    mount("none", root, "", MS_BIND | MS_REMOUNT | MS_RDONLY)


def drop_capabilities():
    for capability in range(LAST_CAPABILITY + 1):
        if prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            break
    check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


class SockFprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def deny_userfaultfd():
    """A seccomp filter: load the number, compare, EPERM or allow (linux/seccomp.h)."""
    machine = os.uname().machine
    if machine not in USERFAULTFD:
        raise OSError(0, f"the number of userfaultfd on {machine} is not known")
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in (
        (0x20, 0, 0, 0),
        (0x15, 0, 1, USERFAULTFD[machine]),
        (0x06, 0, 0, 0x00050000 | EPERM),
        (0x06, 0, 0, 0x7fff0000)))
    memory = ctypes.create_string_buffer(code, len(code))
    program = SockFprog(len(code) // 8, ctypes.addressof(memory))
    check(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0), "seccomp")


def run_inside(options, command):
    """The first process of the new PID namespace: with it, all others end."""
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    try:
        fill(options.root, options.bind)
        os.chroot(options.root)
        os.chdir("/")
        drop_capabilities()
        if options.deny_userfaultfd:
            deny_userfaultfd()
        child = os.fork()
        if child == 0:
            os.execve(command[0], command, os.environ)
    except OSError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        os._exit(NO_SANDBOX)
    return wait_for(child)


def wait_for(child):
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def parse_bind(text):
    folder, _, path = text.partition("=")
    if not path.startswith("/"):
        raise argparse.ArgumentTypeError(f"'{text}' is not DIR=/PATH")
    return Path(folder).resolve(), path


def main():
    parser = argparse.ArgumentParser(prog="sandbox.py", description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="what becomes /")
    parser.add_argument("--bind", type=parse_bind, action="append", default=[],
                        metavar="DIR=PATH", help="a folder that is to be seen inside")
    parser.add_argument("--deny-userfaultfd", action="store_true")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    options.root = options.root.resolve()
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    try:
        unshare()
    except OSError as error:
        print(f"sandbox: {error}: be root, or allow users to make namespaces "
              "(sysctl kernel.unprivileged_userns_clone=1)", file=sys.stderr)
        return NO_SANDBOX
    first = os.fork()
    if first == 0:
        os._exit(run_inside(options, options.command))
    return wait_for(first)


if __name__ == "__main__":
    sys.exit(main())
