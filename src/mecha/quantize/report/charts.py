"""Small drawings as SVG text, to stand within a page; colours are those of the page's classes."""

import math
from collections.abc import Sequence
from html import escape

_HISTOGRAM = (96, 26)
_BARS = (150, 9)
_CURVE = (640, 300)
_MARGIN_LEFT, _MARGIN_RIGHT, _MARGIN_TOP, _MARGIN_BOTTOM = 64, 24, 18, 46
_TICKS = 5


def histogram(counts: Sequence[int], label: str) -> str:
    """Return bars whose heights grow with the logarithm of the counts, so that tails are seen beside the middle."""
    width, height = _HISTOGRAM
    most = math.log1p(max(counts, default=0)) or 1.0
    step = width / max(len(counts), 1)
    bars = []
    for number, count in enumerate(counts):
        tall = round(height * math.log1p(count) / most, 1)
        if count:
            bars.append(f"M{number * step:.1f} {height}v{-max(tall, 0.7):g}h{max(step - 0.5, 0.5):.1f}V{height}z")
    return _svg(
        width, height, label, f'<path class="hist" d="{"".join(bars)}"/>', f' width="{width}" height="{height}"'
    )


def bars(fp32_ms: float, int8_ms: float, longest_ms: float) -> str:
    """Return two bars, FP32 above INT8, on a scale on which `longest_ms` fills the width."""
    width, height = _BARS
    drawn = []
    for number, (kind, value) in enumerate((("fp32", fp32_ms), ("int8", int8_ms))):
        long = max(width * value / longest_ms, 0.5) if longest_ms > 0 else 0.5
        drawn.append(
            f'<rect class="{kind}" y="{number * (height + 1)}" width="{long:.1f}" height="{height}" rx="1.5"/>'
        )
    label = f"FP32 {fp32_ms:.2f} ms, INT8 {int8_ms:.2f} ms"
    kind = ' class="bars" preserveAspectRatio="none"'
    return _svg(width, 2 * height + 1, label, "".join(drawn), kind)


def curve(costs_ms: Sequence[float], errors: Sequence[float], chosen: int) -> str:
    """Return the error against the milliseconds that leaving Convs float costs; one point is the build's."""
    width, height = _CURVE
    inner_width, inner_height = width - _MARGIN_LEFT - _MARGIN_RIGHT, height - _MARGIN_TOP - _MARGIN_BOTTOM
    right, top = max(*costs_ms, 0.0) or 1.0, max(*errors, 0.0) or 1.0
    left = min(*costs_ms, 0.0)

    def at(cost: float, error: float) -> tuple[float, float]:
        across = (cost - left) / (right - left)
        return _MARGIN_LEFT + inner_width * across, _MARGIN_TOP + inner_height * (1 - error / top)

    drawn = []
    for number in range(_TICKS + 1):
        share = number / _TICKS
        _, y = at(left, top * share)
        x, _ = at(left + (right - left) * share, 0)
        drawn.append(f'<line class="grid" x1="{_MARGIN_LEFT}" x2="{width - _MARGIN_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text x="{_MARGIN_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{top * share:.3g}</text>')
        label = f"{left + (right - left) * share:.3g}"
        drawn.append(f'<text x="{x:.1f}" y="{height - _MARGIN_BOTTOM + 18}" text-anchor="middle">{label}</text>')
    middle = _MARGIN_LEFT + inner_width / 2
    drawn.append(f'<text x="{middle:.0f}" y="{height - 6}" text-anchor="middle">ms a frame given back to float</text>')
    points = [at(cost, error) for cost, error in zip(costs_ms, errors, strict=True)]
    drawn.append(f'<polyline class="line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
    for number, (x, y) in enumerate(points):
        kind, radius = ("chosen", 7) if number == chosen else ("point", 4)
        drawn.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>')
    x, y = points[chosen]
    anchor, shift = ("start", 12) if x < width / 2 else ("end", -12)
    drawn.append(f'<text class="strong" x="{x + shift:.1f}" y="{y - 10:.1f}" text-anchor="{anchor}">this build</text>')
    label = f"Error from {errors[0]:.3g} to {errors[chosen]:.3g} for {costs_ms[chosen]:.3g} ms a frame"
    return _svg(width, height, label, "".join(drawn))


def _svg(width: int, height: int, label: str, inner: str, attributes: str = "") -> str:
    return f'<svg viewBox="0 0 {width} {height}"{attributes} role="img" aria-label="{escape(label)}">{inner}</svg>'
