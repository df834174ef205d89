# SPDX-License-Identifier: GPL-2.0-or-later
"""Line plots as SVG files: just what the benchmarks draw, standard library only."""

import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 72, 24, 56, 56
# Okabe and Ito's colours, which the colour-blind can tell apart, and dashes.
STYLES = [("#0072b2", ""), ("#d55e00", ""), ("#009e73", ""), ("#cc79a7", "7 3"),
          ("#e69f00", "2 3"), ("#56b4e9", "7 3 2 3")]


def linear_ticks(low, high):
    """About six round numbers from @low to @high."""
    step = 10 ** math.floor(math.log10((high - low) / 5))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6.5)
    first = math.ceil(low / step)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low, high):
    ticks = []
    for decade in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        ticks += [factor * 10 ** decade for factor in (1, 2, 5)]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]


class Axis:
    """Maps values from low to high onto pixels."""

    def __init__(self, low, high, start, end, log=False):
        self.log = log
        self.low, self.high = (math.log10(low), math.log10(high)) if log else (low, high)
        self.start, self.end = start, end
        self.ticks = log_ticks(low, high) if log else linear_ticks(low, high)

    def __call__(self, value):
        if self.log:
            value = math.log10(max(value, 10 ** self.low))
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def text(x, y, what, anchor="middle", size=12, extra=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" {extra}>'
            f"{escape(what)}</text>")


def draw_axes(x, y, x_label, y_label):
    parts = []
    for tick in x.ticks:
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" y1="{y.start}" '
                     f'x2="{x(tick):.1f}" y2="{y.end}"/>')
        parts.append(text(x(tick), y.start + 18, f"{tick:g}"))
    for tick in y.ticks:
        parts.append(f'<line class="grid" x1="{x.start}" y1="{y(tick):.1f}" x2="{x.end}" '
                     f'y2="{y(tick):.1f}"/>')
        parts.append(text(x.start - 8, y(tick) + 4, f"{tick:g}", "end"))
    parts.append(f'<rect x="{x.start}" y="{y.end}" width="{x.end - x.start}" '
                 f'height="{y.start - y.end}" fill="none" stroke="#444"/>')
    parts.append(text((x.start + x.end) / 2, y.start + 42, x_label, size=13))
    middle = (y.start + y.end) / 2
    parts.append(text(20, middle, y_label, size=13, extra=f'transform="rotate(-90 20 {middle})"'))
    return parts


def draw_legend(names, x, y):
    """Inside the plot, at its lower right, where curves that rise leave room."""
    width = 14 + 34 + 7.8 * max(len(name) for name in names)
    left, top = x.end - width - 10, y.start - 12 - 20 * len(names) - 8
    parts = [f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
             f'height="{20 * len(names) + 8}" fill="white" fill-opacity="0.9" stroke="#bbb"/>']
    for i, name in enumerate(names):
        colour, dash = STYLES[i % len(STYLES)]
        at = top + 20 * i + 18
        parts.append(f'<line x1="{left + 8:.1f}" y1="{at - 4:.1f}" x2="{left + 36:.1f}" '
                     f'y2="{at - 4:.1f}" stroke="{colour}" stroke-width="2.5" '
                     f'stroke-dasharray="{dash}"/>')
        parts.append(text(left + 42, at, name, "start"))
    return parts


def line_plot(path, title, subtitle, x_label, y_label, series, x_range, y_range, log_x=False,
              dots=()):
    """Writes the plot to @path. @series: list of (name, [(x, y), ...]); @dots: (x, y) each."""
    x = Axis(*x_range, LEFT, WIDTH - RIGHT, log_x)
    y = Axis(*y_range, HEIGHT - BOTTOM, TOP)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
             f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="DejaVu Sans, sans-serif" fill="#222">',
             "<style>.grid{stroke:#ddd;stroke-width:1}</style>",
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
             text(LEFT, 24, title, "start", 16, 'font-weight="bold"'),
             text(LEFT, 43, subtitle, "start", 12, 'fill="#555"')]
    parts += draw_axes(x, y, x_label, y_label)
    for i, (_, points) in enumerate(series):
        colour, dash = STYLES[i % len(STYLES)]
        line = " ".join(f"{x(px):.1f},{y(py):.1f}" for px, py in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" '
                     f'stroke-width="2.5" stroke-linejoin="round" stroke-dasharray="{dash}"/>')
    for i, (px, py) in enumerate(dots):
        parts.append(f'<circle cx="{x(px):.1f}" cy="{y(py):.1f}" r="5" fill="white" '
                     f'stroke="{STYLES[i % len(STYLES)][0]}" stroke-width="2.5"/>')
    parts += draw_legend([name for name, _ in series], x, y)
    parts.append("</svg>\n")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(parts))
