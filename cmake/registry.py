# SPDX-License-Identifier: GPL-2.0-or-later
"""The registry of findings in QEMU, corpus/findings, as Python sees it.

property/findings.c reads the same files for the fuzz targets; here it is for
what runs the reproducers (findings.py, rediscover.py) and writes docs/findings.md.
"""

import configparser
import io
import re
from pathlib import Path

OUTCOMES = ("right", "refused", "crash", "hang", "memory blow-up", "accepted wrong",
            "refused wrongly", "leak", "unpredictable")
GOOD = ("right", "refused")
ANY = (1 << 64) - 1
SUBJECTS = ("qemu-binary", "qemu-tree")


class RegistryError(Exception):
    """A finding.ini is not as it must be."""


def version_key(text):
    return tuple(int(number) for number in re.findall(r"\d+", text))


def outcome_class(text):
    """'crash SIGFPE' -> 'crash'."""
    for name in sorted(OUTCOMES, key=len, reverse=True):
        if text.startswith(name):
            return name
    raise RegistryError(f"'{text}' is no outcome: {', '.join(OUTCOMES)}")


def values_of(repair):
    """The first and the last value of a field that trigger it: 'N', 'N-', 'N-M', or any."""
    first, dash, last = repair.get("value", "0-").partition("-")
    return int(first, 0), int(last, 0) if last else ANY if dash else int(first, 0)


class Finding:
    """One folder of the registry."""

    def __init__(self, folder):
        self.folder = folder
        self.id = folder.name
        try:
            self._read(self._parser())
        except (OSError, configparser.Error, KeyError, RegistryError) as error:
            raise RegistryError(f"{folder / 'finding.ini'}: {error}") from error

    def _parser(self):
        parser = configparser.ConfigParser(interpolation=None, delimiters=("=",),
                                           comment_prefixes=("#",))
        parser.optionxform = str
        parser.read_string((self.folder / "finding.ini").read_text())
        return parser

    def _read(self, parser):
        finding = parser["finding"]
        self.title, self.property = finding["title"], finding["property"]
        self.what, self.why = finding["what"], finding["why"]
        self.function, self.file = finding["function"], finding["file"]
        self.mode = finding["mode"]
        self.since, self.fixed = finding.get("since"), finding.get("fixed")
        self.outcomes = {subject: [part.strip() for part in text.split(";")]
                         for subject, text in parser["outcome"].items()}
        self.measured = dict(parser["measured"])
        self.reproducer = parser["reproducer"]
        self.target = self.reproducer.get("target", "stream")
        self.repairs = [dict(parser[name]) for name in parser.sections()
                        if name.startswith("repair")]
        for texts in self.outcomes.values():
            for text in texts:
                outcome_class(text)

    def is_fixed_in(self, version):
        return self.fixed is not None and version_key(version) >= version_key(self.fixed)

    def is_registered(self, subject, version):
        """As property/findings.c: of this subject, since <= version < fixed."""
        if subject not in self.outcomes or self.is_fixed_in(version):
            return False
        return self.since is None or version_key(version) >= version_key(self.since)

    def was_measured(self, subject, version):
        """It has been seen in that very version, and is no race, which may not show."""
        versions = [text.strip() for text in self.measured.get(subject, "").split(",")]
        return version in versions and "tries" not in self.reproducer

    def trigger_span(self):
        """How many values of a field trigger it, at least; then, in which modes it happens."""
        return (min(last - first for first, last in map(values_of, self.repairs)),
                self.mode == "any")

    def spared_text(self):
        """finding.ini of a registry in which what triggers it is not repaired."""
        parser = self._parser()
        parser["finding"]["spared"] = "true"
        text = io.StringIO()
        parser.write(text)
        return text.getvalue()

    def ends_as(self, subject, outcome):
        """Where a detail is registered ("crash SEGV"), it counts."""
        return any(str(outcome).startswith(text) for text in self.outcomes.get(subject, []))

    def expected(self, subject):
        return [outcome_class(text) for text in self.outcomes.get(subject, [])]


def read_registry(folder):
    """All findings, in the order of their ids."""
    return [Finding(path.parent) for path in sorted(Path(folder).glob("*/finding.ini"))]
