# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints rates, of wall clock and of CPU time: medians and ranges of several runs."""

import os
import statistics


def show(what, unit, rates, floors):
    """@rates: name or path -> pairs of a run's rates; @floors: name -> what was asked for."""
    print(f"{'':18} {unit:^29} {unit + ' of CPU time':^29}")
    print(f"{what:18} " + f"{'median':>9} {'lowest':>9} {'highest':>9} " * 2 + f"{'floor':>9}")
    for path, values in rates.items():
        name = os.path.basename(path)
        columns = "".join(f"{statistics.median(rate):9.0f} {min(rate):9.0f} {max(rate):9.0f} "
                          for rate in zip(*values))
        print(f"{name:18} {columns}{floors.get(name, '-'):>9}")
