# SPDX-License-Identifier: GPL-2.0-or-later
"""How each file of the tree is compiled.

Either as the user's configured build folder says (compile_commands.json, read
and nothing else), or as meson would for the target x86_64-softmmu.
"""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

# Of a build folder's flags, those that change what the code means. Warnings,
# optimisation, sanitizers and hardening are our own business, and a compiler
# other than ours may have written the rest.
WITH_ARGUMENT = ("-I", "-isystem", "-iquote", "-idirafter", "-include", "-D", "-U")
KEPT = re.compile(r"-(m|std=|fwrapv|fno-strict-aliasing|fno-common|fPIE|fPIC|pthread)")
DROPPED = re.compile(r"-(D|U)_FORTIFY_SOURCE|-mllvm")


def pkg_config(*packages):
    result = subprocess.run(["pkg-config", "--cflags", *packages], capture_output=True, text=True,
                            check=True)
    return result.stdout.split()


def absolute(flag, value, folder):
    """A path of @flag as seen from anywhere."""
    if flag.startswith("-i") or flag == "-I":
        if flag != "-include" or (folder / value).exists():
            return os.path.normpath(folder / value)
    return value


def relevant(arguments, folder):
    kept = []
    words = iter(arguments)
    for word in words:
        flag = next((flag for flag in WITH_ARGUMENT if word.startswith(flag)), None)
        if DROPPED.match(word):
            continue
        if flag:
            value = word[len(flag):] or next(words)
            kept += [flag, absolute(flag, value, folder)]
        elif KEPT.match(word):
            kept.append(word)
    return kept


class BuildFolder:
    """Flags from a configured build folder of the user's."""

    def __init__(self, source, build):
        self.source = source
        self.generated = build
        self.database = build / "compile_commands.json"
        self.entries = {}
        for entry in json.loads(self.database.read_text()):
            folder = Path(entry["directory"])
            path = os.path.realpath(folder / entry["file"])
            words = entry.get("arguments") or shlex.split(entry["command"])
            # A file of several libraries: as in the emulator for x86-64, if it is in that.
            if path not in self.entries or "x86_64-softmmu" in entry.get("output", ""):
                self.entries[path] = relevant(words[1:], folder)

    def inputs(self):
        return [self.database]

    def flags(self, path):
        """None: the build folder does not compile that file."""
        return self.entries.get(os.path.realpath(path))


class BareTree:
    """Flags as meson would make them, with headers from headers.py."""

    def __init__(self, source, generated):
        self.source = source
        self.generated = generated
        self.meson = {}
        glib = pkg_config("glib-2.0", "gio-unix-2.0")
        quoted = [generated, source, source / "include", source / "host/include/x86_64",
                  source / "host/include/generic", source / "tcg/i386"]
        self.common = ["-m64", "-mcx16", "-msse2", "-std=gnu11", "-D_GNU_SOURCE",
                       "-D_FILE_OFFSET_BITS=64", "-D_LARGEFILE_SOURCE", "-fno-strict-aliasing",
                       "-fno-common", "-fwrapv", "-fPIE", *glib,
                       f"-I{generated}", f"-I{source}", f"-I{generated}/qapi",
                       f"-I{generated}/trace",
                       "-isystem", f"{source}/linux-headers",
                       "-isystem", f"{generated}/linux-headers"]
        for folder in quoted:
            self.common += ["-iquote", str(folder)]

    def inputs(self):
        return list(self.meson_files())

    def meson_files(self):
        for folder in (".", "migration", "system", "softmmu"):
            path = self.source / folder / "meson.build"
            if path.exists():
                yield path

    def is_per_target(self, path):
        """Is it compiled once for each target, or once for all (system_ss)?"""
        folder = path.parent
        if folder not in self.meson:
            meson = folder / "meson.build"
            self.meson[folder] = meson.read_text() if meson.exists() else ""
        lists = re.findall(r"specific_ss\.add\((?:[^()]|\([^()]*\))*\)", self.meson[folder])
        return any(f"'{path.name}'" in text for text in lists)

    def flags(self, path):
        if self.is_per_target(path):
            return [*self.common, f"-I{self.source}/target/i386", "-DCOMPILING_PER_TARGET",
                    "-DNEED_CPU_H", '-DCONFIG_TARGET="x86_64-softmmu-config-target.h"',
                    '-DCONFIG_DEVICES="x86_64-softmmu-config-devices.h"']
        return [*self.common, "-DCONFIG_SOFTMMU", "-DCOMPILING_SYSTEM_VS_USER"]
