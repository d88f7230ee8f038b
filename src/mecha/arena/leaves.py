"""Dead leaves: pictures with the statistics of photos, for calibrating INT8 when there are no photos.

Overlapping shapes of all sizes, each with its own 1/f texture, have edges, flat areas and textures in the proportions
that a camera sees (the "dead leaves" model of natural images).
"""

import math
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

LEAVES = 90
EXPONENTS = (0.6, 1.4)
RADII_AT_640 = (6.0, 220.0)
NOISE = 0.01

_CELLS = 512
_TEXTURES = 24


def calibration_scene(seed: int, index: int, width: int, height: int) -> NDArray[np.uint8]:
    """Frame `index` of the calibration set `seed`: (height, width, 3) uint8, blue, green, red.

    The same arguments give the same frame.
    """
    rng = np.random.default_rng([seed, index, 4])
    scale = max(width, height) / 640
    low, high = (math.log(radius * scale) for radius in RADII_AT_640)
    radii = np.sort(np.exp(rng.uniform(low, high, LEAVES)))[::-1]
    frame = np.empty((height, width, 3), np.uint8)
    frame[:] = _fill(rng, height, width)
    for radius in radii.tolist():
        _drop_leaf(rng, frame, radius)
    grain = rng.standard_normal((height, width, 3), np.float32)
    return np.asarray(cv2.add(frame, grain * np.float32(NOISE * 255), dtype=cv2.CV_8U), np.uint8)


def _drop_leaf(rng: np.random.Generator, frame: NDArray[np.uint8], radius: float) -> None:
    height, width = frame.shape[:2]
    outline = _outline(rng, radius) + rng.uniform(0, 1, 2) * (width, height)
    left, top = np.clip(np.floor(outline.min(axis=0)).astype(int), 0, None).tolist()
    right, bottom = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 1, (width, height)).tolist()
    if left >= right or top >= bottom:
        return
    patch = frame[top:bottom, left:right]
    mask = np.zeros(patch.shape[:2], np.uint8)
    corners = np.rint((outline - (left, top)) * 16).astype(np.int32)
    cv2.fillPoly(mask, [corners], 255, cv2.LINE_8, 4)
    cv2.copyTo(_fill(rng, *patch.shape[:2]), mask, patch)


def _outline(rng: np.random.Generator, radius: float) -> NDArray[np.float64]:
    """The outline (N, 2) of an ellipse, a rectangle or a polygon of three to eight corners, in any direction."""
    kind = rng.integers(3)
    if kind == 0:
        turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        points = np.stack([np.cos(turn), np.sin(turn) * rng.uniform(0.35, 1)], axis=1)
    elif kind == 1:
        points = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (0.9, rng.uniform(0.3, 0.9))
    else:
        turn = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        points = np.stack([np.cos(turn), np.sin(turn)], axis=1) * rng.uniform(0.5, 1, (len(turn), 1))
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    turned: NDArray[np.float64] = points @ np.array([[cos, sin], [-sin, cos]]) * radius
    return turned


def _fill(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """A coloured texture with a brightness ramp across it, (height, width, 3) uint8."""
    texture = _textures()[int(rng.integers(_TEXTURES))]
    if max(height, width) > _CELLS:
        texture = cv2.resize(texture, (max(width, _CELLS), max(height, _CELLS)), interpolation=cv2.INTER_LINEAR)
    y, x = (int(rng.integers(0, room + 1)) for room in (texture.shape[0] - height, texture.shape[1] - width))
    grain = texture[y : y + height, x : x + width]
    colour = rng.uniform(20, 235, 3).astype(np.float32)
    slope = rng.uniform(-0.35, 0.35, 2)
    ramp = np.linspace(-slope[0], slope[0], height)[:, None] + np.linspace(-slope[1], slope[1], width) + 1
    tint = colour * rng.uniform(0.1, 0.45) * rng.uniform(0.5, 1.5, 3).astype(np.float32)
    planes = [cv2.multiply(grain * tint[c] + colour[c], ramp.astype(np.float32), dtype=cv2.CV_8U) for c in range(3)]
    return np.asarray(cv2.merge(planes), np.uint8)


@cache
def _textures() -> NDArray[np.float32]:
    """(_TEXTURES, _CELLS, _CELLS) noise whose amplitude falls with frequency as 1 / f ** exponent; deviation 1."""
    rng = np.random.default_rng(5)
    frequency = np.hypot(np.fft.fftfreq(_CELLS)[:, None], np.fft.rfftfreq(_CELLS)[None])
    frequency[0, 0] = np.inf
    fields = np.empty((_TEXTURES, _CELLS, _CELLS), np.float32)
    for field, exponent in zip(fields, np.linspace(*EXPONENTS, _TEXTURES), strict=True):
        spectrum = np.fft.rfft2(rng.standard_normal((_CELLS, _CELLS))) / frequency**exponent
        noise = np.fft.irfft2(spectrum, s=(_CELLS, _CELLS))
        field[:] = noise / noise.std()
    return fields
