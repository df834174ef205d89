# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests a target's mutator as AFL++ loads it: a shared object of fuzz/afl-mutator.c.

    test_afl_mutator.py LIBRARY CORPUS-FOLDER

It has to load without anything that a sanitizer or afl-fuzz would supply, keep
the kind of the input (byte 1 of property/input.h's header), stay within the
size that it is given, change most inputs, and give the same for the same seed.
"""

import ctypes
import sys
import unittest
from pathlib import Path

ROUNDS = 400
MAX_SIZE = 4096


class Options:
    library = None
    corpus = None


class Mutator:
    """The entry points, called as afl-fuzz calls them."""

    def __init__(self, path, seed):
        self.library = ctypes.CDLL(str(path))
        self.library.afl_custom_init.restype = ctypes.c_void_p
        self.library.afl_custom_fuzz.restype = ctypes.c_size_t
        self.library.afl_custom_fuzz.argtypes = (
            ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t,
            ctypes.POINTER(ctypes.POINTER(ctypes.c_ubyte)), ctypes.c_char_p, ctypes.c_size_t,
            ctypes.c_size_t)
        self.library.afl_custom_deinit.argtypes = (ctypes.c_void_p,)
        self.state = self.library.afl_custom_init(None, seed)

    def fuzz(self, data, other, max_size=MAX_SIZE):
        out = ctypes.POINTER(ctypes.c_ubyte)()
        before = bytes(data)
        size = self.library.afl_custom_fuzz(self.state, data, len(data), ctypes.byref(out), other,
                                            len(other) if other else 0, max_size)
        assert data == before, "the mutator changed its input"
        return bytes(out[:size])

    def close(self):
        self.library.afl_custom_deinit(self.state)


class MutatorTest(unittest.TestCase):
    def setUp(self):
        self.seeds = [path.read_bytes() for path in sorted(Options.corpus.iterdir())
                      if path.stat().st_size <= MAX_SIZE]

    def mutate_all(self, seed):
        mutator = Mutator(Options.library, seed)
        self.addCleanup(mutator.close)
        return [mutator.fuzz(self.seeds[i % len(self.seeds)], self.seeds[-1 - i % len(self.seeds)])
                for i in range(ROUNDS)]

    def test_inputs_stay_inputs(self):
        kind = self.seeds[0][:2]
        for i, child in enumerate(self.mutate_all(seed=1)):
            self.assertLessEqual(len(child), MAX_SIZE)
            self.assertEqual(child[:2], kind, f"round {i}")

    def test_most_inputs_change(self):
        children = self.mutate_all(seed=2)
        changed = sum(child != self.seeds[i % len(self.seeds)]
                      for i, child in enumerate(children))
        self.assertGreater(changed, ROUNDS // 2)
        self.assertGreater(len(set(children)), ROUNDS // 4)

    def test_same_seed_same_children(self):
        self.assertEqual(self.mutate_all(seed=3), self.mutate_all(seed=3))
        self.assertNotEqual(self.mutate_all(seed=3), self.mutate_all(seed=4))

    def test_small_room_and_no_partner(self):
        mutator = Mutator(Options.library, 5)
        self.addCleanup(mutator.close)
        for seed in self.seeds[:20]:
            self.assertLessEqual(len(mutator.fuzz(seed, None, len(seed))), len(seed))
        # AFL++ starts from whatever it is given.
        self.assertEqual(mutator.fuzz(b"", None)[:2], self.seeds[0][:2])
        self.assertEqual(mutator.fuzz(b"zz", b"?")[:2], self.seeds[0][:2])


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("Usage: test_afl_mutator.py LIBRARY CORPUS-FOLDER")
    Options.library, Options.corpus = Path(sys.argv[1]), Path(sys.argv[2])
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
