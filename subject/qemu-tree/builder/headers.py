# SPDX-License-Identifier: GPL-2.0-or-later
"""The headers that QEMU's own build would generate, made from a bare tree.

They go into a folder of ours; nothing is written into the tree. A header whose
content is as before keeps its time stamp, so that nothing is compiled anew.
Answers to the tree's scripts/qapi-gen.py, scripts/tracetool.py and meson.build.
"""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# What the tree's scripts/qapi-gen.py, the first argument, does, but for introspection: a third of
# its time, and nothing here asks for that. A third of the rest is the making of the same names
# over and over, and of copies of places in the schema by the general way.
QAPI_GEN = """
import contextlib, functools, os, sys
del sys.argv[0]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
with contextlib.suppress(ImportError, AttributeError):
    from qapi import common
    common.c_name = functools.lru_cache(None)(common.c_name)
    common.camel_to_upper = functools.lru_cache(None)(common.camel_to_upper)
with contextlib.suppress(ImportError):
    from qapi.source import QAPISourceInfo
    def copy_of(info):
        copy = object.__new__(type(info))
        vars(copy).update(vars(info))
        return copy
    if not hasattr(QAPISourceInfo, "__slots__"):
        QAPISourceInfo.__copy__ = copy_of
with contextlib.suppress(ImportError):
    import qapi.introspect
    qapi.introspect.gen_introspect = lambda *arguments: None
from qapi import main
sys.exit(main.main())
"""

# What meson finds out on an x86-64 Linux host with glibc; what the list has too
# many of, an older tree does not ask for.
FOUND = """
    CONFIG_ACCEPT4 CONFIG_ATOMIC64 CONFIG_AVX2_OPT CONFIG_CLOSE_RANGE CONFIG_CPUID_H CONFIG_DUP3
    CONFIG_EPOLL CONFIG_EPOLL_CREATE1 CONFIG_EVENTFD CONFIG_FALLOCATE
    CONFIG_FALLOCATE_PUNCH_HOLE CONFIG_FDATASYNC CONFIG_GETAUXVAL CONFIG_GETRANDOM CONFIG_GETTID
    CONFIG_INT128 CONFIG_INT128_TYPE CONFIG_IOVEC CONFIG_LINUX CONFIG_LINUX_MAGIC_H
    CONFIG_MADVISE CONFIG_MEMALIGN CONFIG_MEMFD CONFIG_POSIX CONFIG_POSIX_FALLOCATE
    CONFIG_POSIX_MADVISE CONFIG_POSIX_MEMALIGN CONFIG_PPOLL CONFIG_PRCTL_PR_SET_TIMERSLACK
    CONFIG_PREADV CONFIG_PTHREAD_AFFINITY_NP CONFIG_PTHREAD_SETNAME_NP_W_TID CONFIG_RELOCATABLE
    CONFIG_SENDFILE CONFIG_SIGNALFD CONFIG_SPLICE CONFIG_SYNC_FILE_RANGE CONFIG_SYSMACROS
    CONFIG_TCG CONFIG_TIMERFD CONFIG_TRACE_NOP CONFIG_VALLOC HAVE_COPY_FILE_RANGE
    HAVE_GETIFADDRS HAVE_MLOCKALL HAVE_OPENPTY HAVE_PTY_H HAVE_STRCHRNUL
    HAVE_STRUCT_STAT_ST_ATIM HAVE_SYSTEM_FUNCTION
""".split()

PATHS = {
    "BINDIR": "bin", "PREFIX": "", "QEMU_CONFDIR": "etc", "QEMU_DATADIR": "share",
    "QEMU_DESKTOPDIR": "share", "QEMU_FIRMWAREPATH": "share", "QEMU_HELPERDIR": "libexec",
    "QEMU_ICONDIR": "share", "QEMU_LOCALEDIR": "share", "QEMU_LOCALSTATEDIR": "var",
    "QEMU_MODDIR": "lib", "SYSCONFDIR": "etc",
}

TARGET = {
    "CONFIG_SOFTMMU": 1, "CONFIG_SYSTEM_ONLY": 1, "TARGET_BIG_ENDIAN": 0, "TARGET_DIRTY_RING": 1,
    "TARGET_I386": 1, "TARGET_LONG_BITS": 64, "TARGET_NAME": '"x86_64"',
    "TARGET_NOT_USING_LEGACY_NATIVE_ENDIAN_API": 1, "TARGET_SUPPORTS_MTTCG": 1,
    "TARGET_X86_64": 1, "TARGET_XML_FILES": '""',
}


class HeaderError(Exception):
    """A script of the tree failed; the message has its words."""


def write_if_changed(path, text):
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def defines(pairs):
    return "".join(f"#define {name} {value}\n" for name, value in pairs)


def config_host(version):
    parts = (version.split(".") + ["0", "0"])[:3]
    pairs = [(name, 1) for name in FOUND]
    pairs += [(f"CONFIG_{name}", f'"/usr/local/{path}"') for name, path in PATHS.items()]
    pairs += [("CONFIG_HOST_DSOSUF", '".so"'), ("CONFIG_TLS_PRIORITY", '"NORMAL"'),
              ("CONFIG_TRACE_FILE", '"trace"'), ("HOST_X86_64", 1),
              ("QEMU_VERSION", f'"{version}"')]
    pairs += [(f"QEMU_VERSION_{name}", part)
              for name, part in zip(("MAJOR", "MINOR", "MICRO"), parts)]
    return defines(pairs)


def run_script(name, command):
    # -S: they need the standard library alone, and a start with the user's packages takes longer.
    result = subprocess.run([sys.executable, "-B", "-S", *map(str, command)], capture_output=True,
                            text=True, check=False)
    if result.returncode != 0:
        raise HeaderError(f"{name} failed:\n{result.stderr.strip()}")
    return result.stdout


def trace_jobs(source, folders):
    """Each file includes the trace.h of its own folder."""
    for folder in sorted(folders):
        events = source / folder / "trace-events"
        if events.exists():
            group = re.sub("[/-]", "_", str(folder)) if folder.name else "root"
            yield group, events


def stamp_of(paths):
    """A text that changes when one of the files does."""
    status = ((path, path.stat()) for path in paths)
    return "".join(f"{path} {s.st_size} {s.st_mtime_ns}\n" for path, s in status)


def generate(source, out, version, folders):
    """Fills @out for files in @folders; returns the files of the tree that went in."""
    traces = list(trace_jobs(source, folders))
    inputs = [*sorted((source / "qapi").glob("*.json")), *(events for _, events in traces)]
    scripts = sorted((source / "scripts").glob("**/*.py"))
    stamp = stamp_of([*inputs, *scripts, source / "VERSION", Path(__file__)])
    if not (out / "stamp").exists() or (out / "stamp").read_text() != stamp:
        run_scripts(source, out, traces)
        write_constants(source, out, version)
        (out / "stamp").write_text(stamp)
    return inputs


def run_scripts(source, out, traces):
    schema = source / "qapi" / "qapi-schema.json"
    tracetool = source / "scripts" / "tracetool.py"

    def trace(job):
        group, events = job
        command = [tracetool, f"--group={group}", "--format=h", "--backends=nop", events]
        # Newer ones take the output's name, older ones write to stdout.
        scratch = out / "trace" / f".{group}"
        try:
            text = run_script(tracetool, [*command, scratch])
            if scratch.exists():
                text = scratch.read_text()
        except HeaderError:
            text = run_script(tracetool, command)
        scratch.unlink(missing_ok=True)
        write_if_changed(out / "trace" / f"trace-{group}.h", text)

    def qapi():
        script = source / "scripts" / "qapi-gen.py"
        run_script(script, ["-c", QAPI_GEN, script, "-o", out / "qapi", "-b", schema])

    (out / "trace").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(qapi)] + [pool.submit(trace, job) for job in traces]
        for job in jobs:
            job.result()


def write_constants(source, out, version):
    write_if_changed(out / "config-host.h", config_host(version))
    write_if_changed(out / "x86_64-softmmu-config-target.h", defines(TARGET.items()))
    for name in ("config-poison.h", "qemu-version.h", "x86_64-softmmu-config-devices.h"):
        write_if_changed(out / name, "")
    asm = out / "linux-headers" / "asm"
    asm.parent.mkdir(exist_ok=True)
    if asm.is_symlink():
        asm.unlink()
    asm.symlink_to(source / "linux-headers" / "asm-x86")
