# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs a program that may crash, hang or eat memory, within limits.

What ends here ends for certain: the child has a process group of its own, which
is killed when the limits are passed or the caller is done with it.
"""

import os
import resource
import signal
import subprocess
import threading
import time
from dataclasses import dataclass

POLL_SECONDS = 0.005


@dataclass
class Limits:
    wall: float = 20.0  # seconds
    cpu: int = 4  # seconds
    memory: int = 512 << 20  # bytes of resident memory, above which it is a blow-up
    # Seconds in which it takes no CPU time: it waits for what will not come. 0: it may.
    idle: float = 0.0


def _limit_child(limits):
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu, limits.cpu + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def resident_peak(pid):
    """VmHWM, bytes; 0 if the process is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) << 10
    except OSError:
        pass
    return 0


def cpu_ticks(pid):
    """utime and stime of all threads; None if the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[11]) + int(fields[12])


class Progress:
    """How long a process has taken no CPU time."""

    def __init__(self, pid):
        self.pid = pid
        self.ticks = None
        self.since = time.monotonic()

    def idle(self):
        """Seconds."""
        ticks = cpu_ticks(self.pid)
        if ticks != self.ticks:
            self.ticks, self.since = ticks, time.monotonic()
        return time.monotonic() - self.since


class LimitedProcess:
    """A started program; its output is collected as text."""

    def __init__(self, command, limits, environment=None, stdin=subprocess.DEVNULL):
        self.limits = limits
        self.peak = 0
        self.killed_for = None  # "hang" or "memory blow-up"
        self.started = time.monotonic()
        # preexec_fn: nothing but setrlimit() runs there.
        self.process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, errors="replace",
                                        env=environment, start_new_session=True,
                                        preexec_fn=lambda: _limit_child(limits))
        self._progress = Progress(self.process.pid)
        self.out, self.err = [], []
        self._readers = [threading.Thread(target=self._collect, args=pair, daemon=True)
                         for pair in ((self.process.stdout, self.out),
                                      (self.process.stderr, self.err))]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _collect(stream, lines):
        for line in stream:
            lines.append(line)

    def ended(self):
        """True once it has ended by itself or for a limit that it passed."""
        if self.process.poll() is not None:
            return True
        self.peak = max(self.peak, resident_peak(self.process.pid))
        if self.peak > self.limits.memory:
            self.killed_for = "memory blow-up"
        elif time.monotonic() - self.started > self.limits.wall or \
                0 < self.limits.idle < self._progress.idle():
            self.killed_for = "hang"
        if self.killed_for:
            self.kill()
        return self.killed_for is not None

    def wait(self, until=lambda: False):
        """Waits for the end or until @until() is true; returns whether it ended."""
        while not self.ended():
            if until():
                return False
            time.sleep(POLL_SECONDS)
        return True

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self):
        """Ends it whatever it does; afterwards out and err are whole."""
        self.kill()
        for reader in self._readers:
            reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def signal(self):
        """The signal that it died of by itself, or 0."""
        code = self.process.returncode
        return -code if code is not None and code < 0 and not self.killed_for else 0

    def signal_name(self):
        return signal.Signals(self.signal).name if self.signal else ""
