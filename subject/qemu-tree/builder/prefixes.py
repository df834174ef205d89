# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files may begin with a qemu/osdep.h that was compiled before.

A quarter of the time that a small file of QEMU takes is that header, by which
each of them begins. It is compiled once for all that have the same flags. What
defines something before it does not share it.
"""

import re
from collections import Counter

# Blanks and comments, then the first directive.
FIRST = re.compile(r'(?:\s|/\*.*?\*/|//[^\n]*\n)*#\s*include\s+("qemu/osdep\.h"|PAGEWISE_UNIT)\s',
                   re.DOTALL)
# Compiling the header takes as long as these save.
FEWEST = 3


def begins_with_osdep(path, unit=None):
    """@unit: the file that is meant where @path includes PAGEWISE_UNIT."""
    match = FIRST.match(path.read_text(errors="replace"))
    if match and match[1] == "PAGEWISE_UNIT":
        return begins_with_osdep(unit)
    return bool(match)


class Prefixes:
    """Numbers for sets of flags; what kind of file it is adds to them."""

    def __init__(self):
        self.flags_of = {}
        self.numbers = {}

    def add(self, name, words, kind):
        """File @name is compiled with @words, and may share a prefix."""
        flags = (tuple(words), kind)
        self.flags_of[name] = flags
        self.numbers.setdefault(flags, len(self.numbers))

    def shared(self):
        """Yields number, words, kind, and the names of the files."""
        counts = Counter(self.flags_of.values())
        for flags, number in self.numbers.items():
            if counts[flags] >= FEWEST:
                names = [name for name, has in self.flags_of.items() if has == flags]
                yield number, *flags, names
