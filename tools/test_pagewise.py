#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The command `pagewise` from outside: test_pagewise.py PROGRAM [TEST...]

Every subcommand on right, wrong, cut off and huge files: what it prints, its
exit status, and how much it reads. Makes its files in a folder of its own.
"""

import json
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

PROGRAM = ""

OK = 0
DIFFERENT = 1
TROUBLE = 2
USAGE = 64
VERIFY_MAY = 1
VERIFY_REJECT = 2
VERIFY_TROUBLE = 3

COMMANDS = ("inspect", "verify", "diff", "make", "replay")
MIB = 1 << 20

GOOD = """\
[snapshot]
machine = pc-q35-10.0

[block 0]
idstr = pc.ram
used_length = 1M
pages = 0-9 pattern 1; 100 fill 0x41; 255 pattern 7

[block 1]
idstr = pc.bios
used_length = 256K
pages = 0-63 pattern 2
"""

HUGE = GOOD.replace("used_length = 1M", "used_length = 1T").replace("255", "268435455")


class Result:
    def __init__(self, status, out, err, read_bytes):
        self.status = status
        self.out = out
        self.err = err
        self.read_bytes = read_bytes


def bytes_read(pid):
    """What a process that has ended, and is not waited for yet, has read."""
    with open(f"/proc/{pid}/io", encoding="ascii") as file:
        return int(dict(line.split(": ") for line in file)["rchar"])


def run(*args, stdin=None, **keywords):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        keywords.setdefault("stdout", out)
        with subprocess.Popen([PROGRAM, *args], stdin=subprocess.PIPE, stderr=err,
                              **keywords) as process:
            if stdin is not None:
                process.stdin.write(stdin)
            process.stdin.close()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            read_bytes = bytes_read(process.pid)
        out.seek(0)
        err.seek(0)
        return Result(process.returncode, out.read().decode(), err.read().decode(), read_bytes)


def data_ranges(path):
    """The file's data as (offset, bytes), zeroes cut off at page boundaries."""
    ranges = {}
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        at = 0
        while at < size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            for page in range(at - at % 4096, end, 4096):
                data = os.pread(file.fileno(), 4096, page)
                if data.strip(b"\0"):
                    ranges[page] = data
            at = end
    return size, ranges


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def stream_input(content):
    """A fuzz input of kind stream, property/input.h, with one block of a page."""
    header = bytes([1, 2, 0, 12, 1]) + bytes(11)
    block = struct.pack("<B3xBBBB24s", 6, 1, 0, 0, 0, b"pc.ram")
    return header + block + b"\0" + varint(0) + varint(len(content)) + content


def layout_input(generator, mutator):
    header = bytes([1, 3]) + bytes(7) + struct.pack("<H", len(generator)) + bytes(5)
    return header + generator + mutator


class ToolTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="test-pagewise-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return self.path(name)

    def make(self, name, description):
        result = run("make", "-", self.path(name), stdin=description.encode())
        self.assertEqual((result.status, result.err), (OK, ""))
        return self.path(name)

    def expect(self, status, *args, out=(), err=(), **keywords):
        """Runs; sanitizers' reports and unexpected words on stderr fail the test."""
        result = run(*args, **keywords)
        self.assertEqual(result.status, status, result.out + result.err)
        for words in out:
            self.assertIn(words, result.out)
        for words in err:
            self.assertIn(words, result.err)
        self.assertEqual(bool(result.err), bool(err), result.err)
        return result


class Arguments(ToolTest):
    def test_usage(self):
        self.expect(USAGE, err=["usage: pagewise COMMAND"])
        self.expect(USAGE, "frobnicate", err=["no command 'frobnicate'"])
        self.expect(OK, "--help", out=["usage: pagewise COMMAND", *COMMANDS])
        self.expect(OK, "--version", out=["pagewise "])

    def test_each_command(self):
        for command in COMMANDS:
            with self.subTest(command):
                self.expect(OK, command, "--help", out=["Usage:", "Exit status:"])
                self.expect(OK, command, "--version", out=["pagewise "])
                self.expect(USAGE, command, err=["too few arguments", f"usage: pagewise {command}"])
                self.expect(USAGE, command, "--frobnicate", err=["--frobnicate"])
                if command != "replay":
                    self.expect(USAGE, command, "a", "b", "c", err=["too many arguments"])

    def test_name_with_a_dash(self):
        self.make("-file", GOOD)
        self.expect(OK, "verify", "--", "-file", cwd=self.folder, out=["must accept"])

    def test_values_of_options(self):
        path = self.make("good", GOOD)
        for option, value, words in (
                ("--page-size", "4095", "power of two"), ("--page-size", "512", "power of two"),
                ("--page-size", "", "power of two"), ("--machine", "m" * 64, "shorter than 64"),
                ("--x-ignore-shared", "maybe", "on or off"), ("--guest", "pc.ram", "idstr=used"),
                ("--guest", "pc.ram=1Z", "idstr=used"), ("--guest", "=1M", "idstr=used"),
                ("--guest", "pc.ram=0", "idstr=used"), ("--guest", "pc.ram=2M:1M", "idstr=used"),
                ("--guest", "pc.ram=1M,pc.ram=1M", "there before"),
                ("--guest", "pc.ram=99999999999999999999", "idstr=used"),
                ("--guest", "pc.ram=9000000T", "idstr=used"),
                ("--guest", "pc.ram=1000", "not multiples of the page size"),
                ("--guest", ",".join(f"b{i}=4K" for i in range(1000)), "GUEST_MAX_BLOCKS")):
            with self.subTest(option=option, value=value[:40]):
                self.expect(USAGE, "verify", option, value, path, err=[words, "usage:"])
        self.expect(USAGE, "inspect", "--json", "--map", path, err=["exclude each other"])

    def test_output_that_cannot_be_written(self):
        path = self.make("good", GOOD)
        with open("/dev/full", "wb") as full:
            self.expect(TROUBLE, "inspect", path, stdout=full, err=["cannot be written"])

    def test_reader_that_goes_away(self):
        path = self.make("good", GOOD)
        reading, writing = os.pipe()
        os.close(reading)
        result = run("inspect", path, stdout=writing)
        os.close(writing)
        self.assertEqual(result.err, "")


class BadFiles(ToolTest):
    def check(self, path, words):
        good = self.make("good", GOOD)
        self.expect(TROUBLE, "inspect", path, err=[path, words])
        self.expect(VERIFY_TROUBLE, "verify", path, err=[path, words])
        self.expect(TROUBLE, "diff", path, good, err=[path, words])
        self.expect(TROUBLE, "diff", good, path, err=[path, words])

    def test_missing(self):
        self.check(self.path("nothing"), "No such file")

    def test_folder(self):
        self.check(self.folder, "folder")

    def test_pipe(self):
        os.mkfifo(self.path("pipe"))
        self.check(self.path("pipe"), "pipe")

    def test_device(self):
        self.check("/dev/null", "device")

    def test_empty(self):
        self.check(self.write("empty", ""), "empty")

    def test_no_snapshot(self):
        path = self.write("text", "no snapshot at all\n")
        self.expect(DIFFERENT, "inspect", path, out=["rule F1", "no migration stream"])
        self.expect(VERIFY_REJECT, "verify", path, out=["must refuse", "rule F1"])
        self.expect(TROUBLE, "diff", path, path, err=["rule F1"])
        self.expect(TROUBLE, "inspect", "--text", path, err=["F1"])

    def test_cut_off(self):
        """Every length up to the first bitmap, then where things are."""
        path = self.make("good", GOOD)
        size = os.stat(path).st_size
        for length in [size - 1, size - 20, 2 * MIB, MIB, *range(150, 0, -11)]:
            os.truncate(path, length)
            with self.subTest(length=length):
                self.expect(VERIFY_REJECT, "verify", path, out=["beyond the end"])
        path = self.make("good", GOOD)
        for length in [size - 1, MIB, 110, 40, 1]:
            os.truncate(path, length)
            with self.subTest(length=length):
                self.expect(DIFFERENT, "inspect", path, out=["must reject"])
                json.loads(self.expect(DIFFERENT, "inspect", "--json", path).out)
                self.expect(DIFFERENT, "inspect", "--map", path)
                self.expect(TROUBLE, "diff", path, path, err=["no snapshot whose RAM is known"])

    def test_odd_names(self):
        name = "\\x01\\xff\\x22"
        path = self.make("odd", GOOD.replace("pc.ram", name).replace("pc-q35-10.0", name))
        found = json.loads(self.expect(OK, "inspect", "--json", path).out)
        self.assertEqual(found["blocks"][0]["idstr"], '\x01\ufffd"')
        self.expect(OK, "inspect", path, out=["'\\001\\377\\\"'"])
        self.expect(OK, "diff", path, path, out=["equal"])

    def test_too_many_blocks(self):
        blocks = "".join(f"[block {i}]\nidstr = b{i}\nused_length = 4K\n" for i in range(1000))
        path = self.make("many", "[snapshot]\n" + blocks)
        self.expect(TROUBLE, "inspect", path, out=["'b7'", "verdict   none"],
                    err=["GUEST_MAX_BLOCKS"])
        for option in ("--text", "--json"):
            self.expect(TROUBLE, "inspect", option, path, err=["GUEST_MAX_BLOCKS"])
        self.expect(VERIFY_TROUBLE, "verify", path, err=["GUEST_MAX_BLOCKS"])
        self.expect(TROUBLE, "diff", path, path, err=["GUEST_MAX_BLOCKS"])


class Inspect(ToolTest):
    def test_table(self):
        path = self.make("good", GOOD)
        result = self.expect(OK, "inspect", path,
                             out=["'pc-q35-10.0'", "capabilities mapped-ram", "must accept",
                                  "COMMAND 11", "END 2", "EOF"])
        rows = {line.split()[0]: line.split()[1:] for line in result.out.splitlines()}
        self.assertEqual(rows["'pc.ram'"][:6], ["0x100000", "256", "12", "4.69", "4096", "1"])
        self.assertEqual(rows["'pc.bios'"][:6], ["0x40000", "64", "64", "100.00", "4096", "1"])

    def test_json(self):
        path = self.make("good", GOOD)
        found = json.loads(self.expect(OK, "inspect", "--json", path).out)
        self.assertEqual(found["size"], os.stat(path).st_size)
        self.assertEqual(found["end"], os.stat(path).st_size)
        self.assertEqual(found["verdict"], "must accept")
        self.assertEqual(found["total"], MIB + 256 * 1024)
        self.assertEqual([item["type"] for item in found["tail"]], ["COMMAND", "END", "EOF"])
        self.assertEqual([block["pages_in_file"] for block in found["blocks"]], [12, 64])
        self.assertEqual(found["blocks"][0]["pages_offset"], MIB)
        self.assertEqual(found["violations"], [])

    def test_json_of_a_wrong_file(self):
        path = self.make("wrong", GOOD + "pages_offset = 0xfffffffffffff000\n")
        found = json.loads(self.expect(DIFFERENT, "inspect", "--json", path).out)
        self.assertEqual(found["blocks"][1]["pages_offset"], 0xfffffffffffff000)
        violation = found["violations"][0]
        self.assertEqual((violation["rule"], violation["consequence"], violation["block"]),
                         ("H5", "reject", "pc.bios"))

    def test_map(self):
        path = self.make("good", GOOD)
        for columns, first_row in ((40, "0x0           ##########......"),
                                   (80, "0x0           ##########" + 54 * ".")):
            result = self.expect(OK, "inspect", "--map", path,
                                 env={**os.environ, "COLUMNS": str(columns)},
                                 out=["256 pages, 1 to a character"])
            rows = [line.strip() for line in result.out.splitlines()]
            self.assertIn(first_row, rows)
            self.assertTrue(all(len(row) <= columns for row in rows if row.startswith("0x")))

    def test_bits_beyond_the_last_page(self):
        """Rule B5: they mean nothing."""
        plain = GOOD.replace("1M", "40K").replace("; 100 fill 0x41; 255 pattern 7", "")
        path = self.make("beyond", plain.replace("0-9 pattern 1", "0-9 pattern 1; 12-20 absent"))
        found = json.loads(self.expect(OK, "inspect", "--json", path).out)
        self.assertEqual(found["blocks"][0]["pages_in_file"], 10)
        self.expect(OK, "diff", path, self.make("plain", plain), out=["0 pages differ, of 10"])

    def test_page_size_and_ignored_blocks(self):
        path = self.make("large", "[snapshot]\npage_size = 64K\n[block 0]\nidstr = mach-virt.ram\n"
                                  "used_length = 1M\npages = 3 pattern 1\n")
        self.expect(OK, "inspect", path, out=["page size 65536", " 16 "])
        self.expect(OK, "verify", path)
        self.expect(VERIFY_REJECT, "verify", "--page-size", "4K", path, out=["rule H2"])
        path = self.make("shared", "[snapshot]\ncapabilities = x-ignore-shared mapped-ram\n"
                                   "[block 0]\nidstr = ram\nused_length = 1M\ngpa = 4096\n"
                                   "ignored = 1\n")
        self.expect(OK, "inspect", path, out=["x-ignore-shared mapped-ram", "shared", "0x1000"])
        self.expect(OK, "inspect", "--map", path, out=["not in the file"])
        self.expect(OK, "diff", path, path, out=["shared memory", "equal"])
        self.expect(VERIFY_REJECT, "verify", "--x-ignore-shared", "off", path, out=["rule C7"])

    def test_text_makes_the_same_file(self):
        for name, description in (
                ("good", GOOD), ("huge", HUGE), ("empty", "[snapshot]\n"),
                ("odd", GOOD + "version = 0\n"),
                ("stale", GOOD.replace("0-63 pattern 2", "1 stale 4; 2 absent; 63 data QUJD"))):
            with self.subTest(name):
                path = self.make(name, description)
                text = run("inspect", "--text", path)
                self.assertEqual((text.status, text.err), (OK, ""))
                again = self.make("again", text.out)
                self.assertEqual(data_ranges(path), data_ranges(again))
                self.assertEqual(run("inspect", "--text", again).out, text.out)


class Verify(ToolTest):
    def test_right(self):
        path = self.make("good", GOOD)
        self.expect(OK, "verify", path, out=["every reader must accept it; rules broken: 0"])
        self.expect(OK, "verify", "--machine", "pc-q35-10.0", "--guest",
                    "pc.ram=1M:2M,pc.bios=0x40000", "--page-size", "4K", path)

    def test_wrong(self):
        for change, status, rule in (
                ("page_size = 0x2000", VERIFY_REJECT, "H2"), ("version = 2", VERIFY_REJECT, "H1"),
                ("version = 0", VERIFY_MAY, "H1a"), ("pages_offset = 4096", VERIFY_REJECT, "H4"),
                ("bitmap_offset = 1T", VERIFY_REJECT, "B2"), ("idstr = pc.ram", VERIFY_MAY, "R4"),
                ("bitmap_offset = 4096", VERIFY_MAY, "B4")):
            with self.subTest(change):
                path = self.make("wrong", GOOD + change + "\n")
                self.expect(status, "verify", path, out=[f"(rule {rule})"])

    def test_several_rules(self):
        path = self.make("wrong", GOOD.replace("machine", "eos = 0x11\nmachine") + "version = 0\n")
        result = self.expect(VERIFY_REJECT, "verify", path, out=["H1a", "R7", "rules broken: 2"])
        self.assertEqual(len(result.out.splitlines()), 3)

    def test_other_readers(self):
        path = self.make("good", GOOD)
        for options, status, rule in (
                (("--machine", "none"), VERIFY_REJECT, "C2"),
                (("--guest", "pc.ram=1M"), VERIFY_REJECT, "R3"),
                (("--guest", "pc.ram=1M,pc.bios=128K"), VERIFY_REJECT, "R6"),
                (("--guest", "pc.ram=1M,pc.bios=128K:1M"), VERIFY_MAY, "R6a"),
                (("--guest", "pc.ram=1M,pc.bios=256K,more=4K"), VERIFY_MAY, "R8"),
                (("--x-ignore-shared", "on"), VERIFY_REJECT, "C7")):
            with self.subTest(options):
                self.expect(status, "verify", *options, path, out=[f"(rule {rule})"])


class Diff(ToolTest):
    def test_equal(self):
        """Where pages lie, and how zeroes are stored, does not matter."""
        good = self.make("good", GOOD)
        self.expect(OK, "diff", good, good, out=["\nequal\n"])
        zero = self.make("zero", GOOD.replace("100 fill 0x41", "100 fill 0x41; 200 fill 0"))
        absent = self.make("absent", GOOD.replace("100 fill 0x41", "100 fill 0x41; 200 absent"))
        self.expect(OK, "diff", good, zero, out=["equal"])
        self.expect(OK, "diff", zero, absent, out=["equal"])

    def test_pages(self):
        a = self.make("a", GOOD)
        b = self.make("b", GOOD.replace("100 fill 0x41", "99 fill 0x42; 101-102 fill 0x43"))
        self.expect(DIFFERENT, "diff", a, b,
                    out=["pages 0x63-0x66 (4): first at 0x63000: 0x00 in A, 0x42 in B",
                         "block 'pc.ram': 4 pages differ", "block 'pc.bios': 0 pages differ",
                         "\ndifferent\n"])
        self.expect(DIFFERENT, "diff", b, a, out=["0x42 in A, 0x00 in B"])

    def test_one_byte(self):
        a = self.make("a", GOOD.replace("100 fill 0x41", "100 data QUJD"))
        b = self.make("b", GOOD.replace("100 fill 0x41", "100 data QUJE"))
        self.expect(DIFFERENT, "diff", a, b,
                    out=["pages 0x64-0x64 (1): first at 0x64002: 0x43 in A, 0x44 in B"])

    def test_many_runs(self):
        """A long run of pages, and single pages at the edges of words."""
        a = self.make("a", GOOD.replace("1M", "64M").replace("0-9", "0-9999"))
        b = self.make("b", GOOD.replace("1M", "64M").replace("0-9", "0-9999")
                      .replace("255 pattern 7", "63-64 fill 1; 5000 fill 1; 9999 fill 1; "
                                                "12287-12288 fill 1"))
        self.expect(DIFFERENT, "diff", a, b,
                    out=["pages 0x3f-0x40 (2)", "pages 0x1388-0x1388 (1)",
                         "pages 0x270f-0x270f (1)", "pages 0x2fff-0x3000 (2)"])

    def test_blocks(self):
        a = self.make("a", GOOD)
        b = self.make("b", GOOD.replace("pc.bios", "pc.rom"))
        self.expect(DIFFERENT, "diff", a, b,
                    out=["block 'pc.bios': is in A only", "block 'pc.rom': is in B only"])
        b = self.make("b", GOOD.replace("256K", "512K"))
        self.expect(DIFFERENT, "diff", a, b, out=["used_length is 0x40000 in A, 0x80000 in B"])
        b = self.make("b", "[snapshot]\npage_size = 64K\n")
        c = self.make("c", GOOD.replace("[snapshot]", "[snapshot]\npage_size = 64K"))
        self.expect(DIFFERENT, "diff", a, b)
        self.expect(DIFFERENT, "diff", a, c, out=["page sizes differ"])


class Make(ToolTest):
    def test_from_a_file(self):
        description = self.write("description", GOOD)
        self.expect(OK, "make", description, self.path("file"))
        self.assertEqual(data_ranges(self.path("file")), data_ranges(self.make("other", GOOD)))

    def test_replaces(self):
        path = self.write("file", b"x" * 5 * MIB)
        os.chmod(path, 0o640)
        self.make("file", GOOD)
        self.expect(OK, "verify", path)
        self.assertEqual(os.stat(path).st_mode & 0o7777, 0o640)
        os.symlink(path, self.path("link"))
        self.make("link", HUGE)
        self.assertTrue(os.path.islink(self.path("link")))
        self.expect(OK, "verify", path)

    def test_not_made(self):
        path = self.write("file", "as it was")
        for description, words in (
                (b"[snapshot]\nfrobnicate = 1\n", "frobnicate"),
                (b"[block 0]\nidstr = x\nused_length = lots\n", "lots"),
                (b"no description", ""), (b"QEVM\0\0\0\3", "no text")):
            with self.subTest(description):
                self.expect(TROUBLE, "make", "-", path, stdin=description, err=["make: -:", words])
                with open(path, encoding="ascii") as file:
                    self.assertEqual(file.read(), "as it was")
        self.expect(TROUBLE, "make", self.path("nothing"), path, err=["No such file"])
        self.assertEqual(os.listdir(self.folder), ["file"])

    def test_destination(self):
        description = self.write("description", GOOD)
        for path, words in ((self.folder, "no regular file"), ("/dev/null", "no regular file"),
                            (self.path("no/such"), "No such file")):
            self.expect(TROUBLE, "make", description, path, err=[path, words])
        self.assertEqual(os.listdir(self.folder), ["description"])

    def test_killed_while_writing(self):
        """SIGXFSZ comes in the middle of the file: nothing of it may stay."""
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5 * MIB, 5 * MIB))
        path = self.write("file", "as it was")
        description = GOOD.replace("1M", "64M").replace("0-9 ", "0-16383 ").encode()
        result = run("make", "-", path, stdin=description, preexec_fn=limit)
        self.assertEqual(result.status, -signal.SIGXFSZ, result.err)
        self.assertEqual(os.listdir(self.folder), ["file"])
        with open(path, encoding="ascii") as file:
            self.assertEqual(file.read(), "as it was")

    def test_too_large(self):
        huge = HUGE.replace("100 fill 0x41", "0-268435455 fill 0x41").replace("1T", "1000T")
        huge = huge.replace("268435455 fill", "268435455999 fill")
        self.expect(TROUBLE, "make", "-", self.path("file"), stdin=huge.encode(),
                    err=["needs", "on disk"])
        self.assertEqual(os.listdir(self.folder), [])


class Huge(ToolTest):
    """1 TiB of apparent size, and data that must not be read."""

    def test_sparse(self):
        path = self.make("huge", HUGE)
        other = self.make("other", HUGE.replace("268435455 pattern 7", "268435455 pattern 8"))
        self.assertGreater(os.stat(path).st_size, 1 << 40)
        for args, status in ((("inspect", path), OK), (("inspect", "--map", path), OK),
                             (("verify", path), OK), (("inspect", "--json", path), OK),
                             (("diff", path, path), OK), (("diff", path, other), DIFFERENT)):
            with self.subTest(args[:2]):
                result = self.expect(status, *args)
                self.assertLess(result.read_bytes, 4 * MIB)

    def test_much_data(self):
        path = self.make("much", GOOD.replace("1M", "64M").replace("0-9 ", "0-16383 "))
        self.assertGreater(os.stat(path).st_blocks * 512, 64 * MIB)
        for args in (("inspect",), ("inspect", "--map"), ("inspect", "--json"), ("verify",)):
            with self.subTest(args):
                result = self.expect(OK, *args, path)
                self.assertLess(result.read_bytes, MIB)

    def test_bits_without_data(self):
        path = self.make("absent", GOOD.replace("1M", "16G").replace("0-9 pattern 1",
                                                                   "0-4194303 absent"))
        result = self.expect(OK, "diff", path, path, out=["4194304 that are in a file"])
        self.assertLess(result.read_bytes, 8 * MIB)


class Replay(ToolTest):
    def test_stream(self):
        path = self.write("input", stream_input(b"QEVM\0\0\0\3"))
        self.expect(OK, "replay", path,
                    out=["kind stream", "block 'pc.ram': used_length 0x1000", "must reject",
                         "rule F4", "holds: 0 loads accepted, 1 refused"])

    def test_header(self):
        path = self.write("input", bytes([1, 1, 0, 12]) + bytes(12) +
                          struct.pack("<B3xBBBB24s", 6, 1, 0, 0, 0, b"pc.ram") +
                          struct.pack("<QQ", 0x40, 4096))
        self.expect(OK, "replay", path, out=["kind header", "at 0x40", "must reject", "holds:"])

    def test_layout(self):
        path = self.write("input", layout_input(b"", b""))
        result = self.expect(OK, "replay", path,
                             out=["kind layout", "[block 0]", "must accept", "holds:"])
        self.assertNotIn("mutations", result.out)
        path = self.write("input", layout_input(bytes(range(32)), bytes(range(7, 64))))
        self.expect(OK, "replay", path, out=["[snapshot]", "mutations applied", "verdict"])
        result = self.expect(OK, "replay", "--text-only", path, out=["[snapshot]"])
        self.assertNotIn("holds", result.out)

    def test_text_is_a_description(self):
        """What is printed of a layout makes the file that was judged."""
        path = self.write("input", layout_input(b"", b""))
        lines = run("replay", "--text-only", path).out.splitlines()
        first = lines.index("[snapshot]")
        last = next(i for i, line in enumerate(lines) if line.startswith("file  "))
        made = self.make("made", "\n".join(lines[first:last]) + "\n")
        self.assertIn(f"0x{os.stat(made).st_size:x} bytes", lines[last])

    def test_round_trip(self):
        path = self.write("input", bytes([1, 4]) + bytes(14))
        self.expect(OK, "replay", path, out=["kind round-trip", "holds: 2 loads accepted"])

    def test_fault_map(self):
        """Kinds without a file are described by their property."""
        path = self.write("input", bytes([1, 5, 0, 12, 1]) + bytes(11) +
                          struct.pack("<B7x", 1) + struct.pack("<BB2BB11x", 14, 4, 8, 0, 0) +
                          struct.pack("<BB6s", 0, 0, bytes([1, 0x40, 0, 0, 0, 0])))
        words = ["kind fault-map", "block0: host 0x0, used_length 0x8000", "8 of 8 bits set",
                 "0x4001: block0, host page at 0x4000, bits 4 to 7: file, file offset 0x104000"]
        self.expect(OK, "replay", path, out=[*words, "holds: "])
        result = self.expect(OK, "replay", "--text-only", path, out=words)
        self.assertNotIn("holds", result.out)

    def test_folder(self):
        os.mkdir(self.path("inputs"))
        self.expect(TROUBLE, "replay", self.path("inputs"), err=["folder without any file"])
        self.write("inputs/b", layout_input(b"", b""))
        self.write("inputs/a", stream_input(b"QEVM"))
        result = self.expect(OK, "replay", self.path("inputs"))
        lines = result.out.splitlines()
        self.assertEqual(len(lines), 2)
        self.assertRegex(lines[0], "inputs/a: stream, must reject, holds: ")
        self.assertRegex(lines[1], "inputs/b: layout, must accept, holds: ")
        self.write("inputs/c", bytes([1, 9, 0]))
        result = self.expect(TROUBLE, "replay", self.path("inputs"), err=["inputs/c: is no fuzz"])
        self.assertEqual(len(result.out.splitlines()), 2)

    def test_no_input(self):
        good = self.make("good", GOOD)
        for path, words in ((self.write("kind", bytes([1, 9, 0])), "the kind, is 9"),
                            (self.write("version", bytes([7, 2, 0])), "the version, is 7"),
                            (self.write("empty", b""), "0 bytes"), (good, "pagewise inspect"),
                            (self.path("nothing"), "No such file"),
                            ("/dev/null", "no regular file")):
            with self.subTest(path):
                self.expect(TROUBLE, "replay", path, err=[words])


if __name__ == "__main__":
    if len(sys.argv) < 2 or not os.access(sys.argv[1], os.X_OK):
        sys.exit("usage: test_pagewise.py PROGRAM [TEST...]")
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main()
