# SPDX-License-Identifier: GPL-2.0-or-later
"""What the gate publishes: JUnit, Cobertura, and a summary to paste into a mail."""

import re
import textwrap
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field

SUMMARY_LINES = 30
SUMMARY_COLUMNS = 78

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass
class Case:
    """One test case: of a suite (a step of the gate), with the words on its outcome."""

    suite: str
    name: str
    status: str
    message: str = ""  # one line; of a skip: the reason and the remedy
    text: str = ""  # all that a person needs
    seconds: float = 0.0


@dataclass
class FileLines:
    """Executable lines of one file: number -> how often."""

    path: str
    hits: dict = field(default_factory=dict)
    changed: set = field(default_factory=set)

    def reached(self):
        return sum(count > 0 for count in self.hits.values())

    def missed_changes(self):
        return sorted(number for number in self.changed
                      if self.hits.get(number) == 0)

    def changes(self):
        return sum(number in self.hits for number in self.changed)


def write_junit(path, cases):
    suites = ElementTree.Element("testsuites", name="pagewise gate")
    for name in dict.fromkeys(case.suite for case in cases):
        own = [case for case in cases if case.suite == name]
        suite = ElementTree.SubElement(
            suites, "testsuite", name=name, tests=str(len(own)), errors="0",
            failures=str(sum(case.status == FAILED for case in own)),
            skipped=str(sum(case.status == SKIPPED for case in own)),
            time=f"{sum(case.seconds for case in own):.1f}")
        for case in own:
            element = ElementTree.SubElement(suite, "testcase", classname=f"pagewise.{name}",
                                             name=case.name, time=f"{case.seconds:.1f}")
            if case.status == FAILED:
                failure = ElementTree.SubElement(element, "failure", message=case.message)
                failure.text = printable(case.text)
            elif case.status == SKIPPED:
                ElementTree.SubElement(element, "skipped", message=case.message)
    ElementTree.indent(suites)
    ElementTree.ElementTree(suites).write(path, encoding="utf-8", xml_declaration=True)


def printable(text):
    """XML has no way to say most control characters."""
    return re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd]", "?", text)


def rate(reached, total):
    return f"{reached / total:.4f}" if total else "1"


def write_cobertura(path, source, files):
    """As GitLab reads it: one class a file, paths relative to the source tree."""
    total = sum(len(file.hits) for file in files)
    reached = sum(file.reached() for file in files)
    root = ElementTree.Element("coverage", {
        "line-rate": rate(reached, total), "branch-rate": "0", "lines-covered": str(reached),
        "lines-valid": str(total), "branches-covered": "0", "branches-valid": "0",
        "complexity": "0", "version": "pagewise", "timestamp": str(int(time.time()))})
    ElementTree.SubElement(ElementTree.SubElement(root, "sources"), "source").text = str(source)
    packages = ElementTree.SubElement(root, "packages")
    folders = sorted({file.path.rpartition("/")[0] for file in files})
    for folder in folders:
        own = [file for file in files if file.path.rpartition("/")[0] == folder]
        package = ElementTree.SubElement(packages, "package", {
            "name": folder.replace("/", "."), "branch-rate": "0", "complexity": "0",
            "line-rate": rate(sum(file.reached() for file in own),
                              sum(len(file.hits) for file in own))})
        classes = ElementTree.SubElement(package, "classes")
        for file in own:
            add_class(classes, file)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def add_class(classes, file):
    element = ElementTree.SubElement(classes, "class", {
        "name": file.path.rpartition("/")[2], "filename": file.path, "complexity": "0",
        "line-rate": rate(file.reached(), len(file.hits)), "branch-rate": "0"})
    ElementTree.SubElement(element, "methods")
    lines = ElementTree.SubElement(element, "lines")
    for number, hits in sorted(file.hits.items()):
        ElementTree.SubElement(lines, "line", number=str(number), hits=str(hits), branch="false")


def spans(numbers):
    """'12-15, 19' for 12, 13, 14, 15 and 19."""
    words = []
    for number in sorted(numbers):
        if words and words[-1][1] == number - 1:
            words[-1][1] = number
        else:
            words.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in words)


def wrap(text, indent):
    return textwrap.wrap(" ".join(text.split()), SUMMARY_COLUMNS, initial_indent=indent,
                         subsequent_indent=indent + "  ") or [indent.rstrip()]


def summary(head_lines, cases, files, tail_lines):
    """At most SUMMARY_LINES lines: what failed first, all else as far as it fits."""
    failed = [case for case in cases if case.status == FAILED]
    skipped = [case for case in cases if case.status == SKIPPED]
    suites = []
    for name in dict.fromkeys(case.suite for case in cases):
        own = [case.status for case in cases if case.suite == name]
        suites.append(f"  {name:18} {own.count(PASSED):4} passed {own.count(FAILED):4} failed "
                      f"{own.count(SKIPPED):4} skipped")
    details = []
    for case in failed:
        details += wrap(f"FAIL {case.suite}: {case.name}: {case.message}", "  ")
    for file in files:
        if file.changed:
            missed = file.missed_changes()
            reached = file.changes() - len(missed)
            details += wrap(f"{file.path}: inputs reach {reached} of {file.changes()} changed "
                            f"lines" + (f"; not {spans(missed)}" if missed else ""), "  ")
    for reason in dict.fromkeys(case.message for case in skipped):
        n = sum(case.message == reason for case in skipped)
        details += wrap(f"SKIP {n}: {reason}", "  ")
    room = SUMMARY_LINES - len(head_lines) - len(suites) - len(tail_lines)
    if len(details) > room:
        left = len(details) - room + 1
        details = details[:room - 1] + [f"  ... and {left} lines more, in the JUnit report"]
    return [*head_lines, *suites, *details, *tail_lines]
