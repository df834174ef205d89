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


def left_of(repair, other):
    """The ranges of values of @repair that trigger nothing of the finding @other."""
    ranges = [values_of(repair)]
    for taken in other.repairs if other else ():
        if taken.get("rule") != repair.get("rule"):
            continue
        low, high = values_of(taken)
        ranges = [part for first, last in ranges
                  for part in ((first, min(last, low - 1)), (max(first, high + 1), last))
                  if part[0] <= part[1]]
    return ranges


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
        """How many values of a field trigger it, at least."""
        return min(last - first for first, last in map(values_of, self.repairs))

    def text_sparing(self, other):
        """
        finding.ini, but its repairs leave alone what triggers @other (None: nothing does).
        Empty, where no repair is left.
        """
        parser = self._parser()
        for name in [name for name in parser.sections() if name.startswith("repair")]:
            repair = dict(parser[name])
            parser.remove_section(name)
            for number, (first, last) in enumerate(left_of(repair, other)):
                group = f"{name}-{number}"
                parser[group] = repair
                if "rule" in repair and (first, last) != (0, ANY):
                    parser[group]["value"] = f"{first:#x}-{last:#x}"
        text = io.StringIO()
        if any(name.startswith("repair") for name in parser.sections()):
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
