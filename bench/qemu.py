# SPDX-License-Identifier: GPL-2.0-or-later
"""A snapshot loaded by a real QEMU of the machine "none": the peer of loads.py.

QMP over a unix socket, as docs/interop/qmp-spec of QEMU says. The process is
started first, and the load alone is timed.
"""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time

TIMEOUT = 120  # seconds, for each answer
SAMPLE = 0.002  # seconds


def find_qemu():
    """The binary that QTEST_QEMU_BINARY names, or the installed one, or None."""
    return os.environ.get("QTEST_QEMU_BINARY") or shutil.which("qemu-system-x86_64")


class Qmp:
    """A QMP connection: commands, and events that are waited for."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
        self.file = self.socket.makefile("r")
        self.events = []
        self.read()
        self.command("qmp_capabilities")

    def read(self):
        line = self.file.readline()
        if not line:
            raise RuntimeError("QEMU closed its QMP socket")
        return json.loads(line)

    def command(self, name, **arguments):
        message = json.dumps({"execute": name, "arguments": arguments})
        self.socket.sendall(message.encode())
        while True:
            answer = self.read()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RuntimeError(f"{name}: {answer['error']['desc']}")
            self.events.append(answer)

    def wait_migration(self):
        """Waits for the end of a migration; raises if it failed."""
        while True:
            event = self.events.pop(0) if self.events else self.read()
            status = event.get("data", {}).get("status")
            if event.get("event") == "MIGRATION" and status in ("completed", "failed"):
                if status == "failed":
                    info = self.command("query-migrate")
                    raise RuntimeError(info.get("error-desc", "the load failed"))
                return


def status_kib(pid, key):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(key + ":"):
                return int(line.split()[1])
    return 0


def cpu_ms(pid):
    """User and system time of all threads, also of those that have ended."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


class Sampler(threading.Thread):
    """Notes every two milliseconds how much memory a process got."""

    def __init__(self, pid, start):
        super().__init__()
        self.pid = pid
        self.begin = start
        self.timeline = []
        self.done = threading.Event()

    def run(self):
        mib = os.sysconf("SC_PAGE_SIZE") / (1 << 20)
        base = None
        while not self.done.wait(SAMPLE):
            with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:
                fields = file.read().split()
            now = (int(fields[1]) - int(fields[2])) * mib
            base = now if base is None else base
            self.timeline.append([(time.monotonic() - self.begin) * 1000, now - base])


def load(qmp, process, path, channels, timeline):
    """The load itself; returns what bench-one-load prints."""
    capabilities = [{"capability": "mapped-ram", "state": True},
                    {"capability": "events", "state": True},
                    {"capability": "multifd", "state": channels > 0}]
    qmp.command("migrate-set-capabilities", capabilities=capabilities)
    if channels:
        qmp.command("migrate-set-parameters", **{"multifd-channels": channels})
    cpu = cpu_ms(process.pid)
    anonymous = status_kib(process.pid, "RssAnon")
    start = time.monotonic()
    sampler = Sampler(process.pid, start)
    if timeline:
        sampler.start()
    qmp.command("migrate-incoming", uri="file:" + path)
    qmp.wait_migration()
    loaded = time.monotonic()
    qmp.command("cont")
    first = time.monotonic()
    if timeline:
        sampler.done.set()
        sampler.join()
    return {"first_ms": (first - start) * 1000, "loaded_ms": (loaded - start) * 1000,
            "cpu_ms": cpu_ms(process.pid) - cpu, "peak_kib": status_kib(process.pid, "VmHWM"),
            "anon_kib": status_kib(process.pid, "RssAnon") - anonymous,
            "timeline": sampler.timeline}


def load_snapshot(binary, path, mib, channels=0, timeline=False):
    """Loads @path in a fresh QEMU with @mib of RAM; channels > 0: multifd."""
    with tempfile.TemporaryDirectory() as folder:
        sock = os.path.join(folder, "qmp")
        with open(os.path.join(folder, "log"), "w+", encoding="utf-8") as log:
            process = subprocess.Popen(
                [binary, "-machine", "none", "-m", str(mib), "-nodefaults", "-no-user-config",
                 "-display", "none", "-S", "-incoming", "defer", "-qmp",
                 f"unix:{sock},server=on,wait=off"], stdin=subprocess.DEVNULL, stderr=log)
            try:
                return load(Qmp(sock), process, path, channels, timeline)
            except (OSError, RuntimeError) as error:
                log.seek(0)
                raise RuntimeError(f"{binary}: {error}\n{log.read()}") from error
            finally:
                process.kill()
                process.wait()
