"""The bodies that props are made of: boxes, round bodies, coded boards."""

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from mecha.arena.optics import Points
from mecha.arena.painter import Colour, Painter

BOX_CORNERS = np.array([[x, y, z] for z in (0, 1) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))], float)
_BOX_FACES = ((0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7), (4, 5, 6, 7))
_LID = 4
_BOX_NORMALS = np.array([[0, -1, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, 0, 1]], float)


# Finer parts than these many pixels cannot be told apart, and cost as much as large ones.
_MARKS_FROM_PX = 12
_FACETS_FROM_PX = 24


@dataclass(frozen=True)
class Marks:
    """What is painted on a face.

    Attributes:
        quads: (K, 4, 2) in face coordinates 0-1, from the lower left.
        factors: (K,) brightness relative to the face.
    """

    quads: Points
    factors: Points


@dataclass(frozen=True)
class Placement:
    """Where a prop is at one moment: its foot, its heading in radians, and how far it has rolled."""

    foot: Points
    heading: float
    travel_m: float

    def to_world(self, local: Points) -> Points:
        """Points (..., 3) in the prop's own coordinates, in the world's."""
        turned: Points = local @ turn_z(self.heading).T + self.foot
        return turned


def turn_z(angle: float) -> Points:
    """The rotation (3, 3) about the vertical axis."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def draw_code(painter: Painter, corners: Points, code: NDArray[np.bool_], bright: float) -> None:
    """Draw a tag on the quad `corners` (4, 3): one cell of white margin, one of black border, then the code."""
    cells = len(code) + 4
    across, down = (corners[1] - corners[0]) / cells, (corners[3] - corners[0]) / cells
    quads = [(0, 0, cells, cells), (1, 1, cells - 1, cells - 1)]
    for row, bits in enumerate(code):
        quads += [(run.start + 2, row + 2, run.stop + 2, row + 3) for run in runs(bits)]
    grid = np.array(quads, float)
    uv = grid[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    pixels = painter.project(corners[0] + uv[..., :1] * across + uv[..., 1:] * down)
    if pixels is None:
        return
    white, black = np.full(3, 245.0 * bright), np.full(3, 18 + 14 * bright)
    painter.solid(pixels[0], white)
    painter.detail(pixels[1], black)
    if np.ptp(pixels[0], axis=0).max() >= cells:
        painter.details(pixels[2:], np.tile(white, (len(pixels) - 2, 1)))


def draw_box(
    painter: Painter,
    at: Placement,
    size: tuple[float, float, float],
    colour: Colour,
    side: Marks | None = None,
    lid: Marks | None = None,
) -> bool:
    """Draw a box of half widths size[0], size[1] and height size[2]; False when it reaches behind the camera."""
    corners = at.to_world(BOX_CORNERS * np.array(size))
    pixels = painter.project(corners)
    if pixels is None:
        return False
    normals = _BOX_NORMALS @ turn_z(at.heading).T
    bright = painter.light.on(normals)
    for index, face in enumerate(_BOX_FACES):
        points = corners[list(face)]
        if normals[index] @ (painter.view.origin - points[0]) <= 0:
            continue
        painter.solid(pixels[list(face)], colour * bright[index])
        marks = lid if index == _LID else side
        if marks is not None and np.ptp(pixels, axis=0).max() > _MARKS_FROM_PX:
            _draw_marks(painter, points, marks, colour, float(bright[index]))
    return True


def _draw_marks(painter: Painter, face: Points, marks: Marks, colour: Colour, bright: float) -> None:
    if not len(marks.quads):
        return
    across, up = face[1] - face[0], face[3] - face[0]
    pixels = painter.project(face[0] + marks.quads[..., :1] * across + marks.quads[..., 1:] * up)
    if pixels is None:
        return
    painter.details(pixels, np.clip(colour * marks.factors[:, None], 0, 255) * bright)


def draw_frustum(
    painter: Painter, at: Placement, levels: list[float], radii: list[float], colours: list[Colour]
) -> None:
    """Draw a round body: rings of `radii` at `levels` from the bottom up, a colour between each two."""
    sides = 24
    ring = unit_ring(sides)
    offsets = np.array([[0, 0, level] for level in levels])
    rings = at.to_world(ring[None] * np.array(radii)[:, None, None] + offsets[:, None])
    pixels = painter.project(rings)
    if pixels is None:
        return
    outline = cv2.convexHull(pixels.reshape(-1, 2).astype(np.float32)).reshape(-1, 2).astype(float)
    middle = ring @ turn_z(math.pi / sides).T @ turn_z(at.heading).T
    bright = painter.light.on(middle)
    painter.solid(outline, colours[0] * float(bright.mean()))
    fine = np.ptp(outline, axis=0).max() > _FACETS_FROM_PX
    to_eye = painter.view.origin - at.foot
    front = np.flatnonzero(middle @ to_eye > radii[0])
    for band, colour in enumerate(colours):
        hull = cv2.convexHull(pixels[band : band + 2].reshape(-1, 2).astype(np.float32)).reshape(-1, 2)
        painter.detail(hull.astype(float), colour * float(bright[front].mean() if len(front) else 1))
        if fine:
            after = (front + 1) % sides
            low, high = pixels[band], pixels[band + 1]
            facets = np.stack([low[front], low[after], high[after], high[front]], axis=1)
            painter.details(facets, colour * bright[front, None])
    if painter.view.origin[2] > levels[-1]:
        painter.detail(pixels[-1], colours[-1] * float(painter.light.on(np.array([0.0, 0, 1]))) * 0.9)


@cache
def unit_ring(sides: int) -> Points:
    """Points (sides, 3) round a flat circle of radius 1."""
    turn = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    return np.stack([np.cos(turn), np.sin(turn), np.zeros(sides)], axis=1)


def runs(flags: NDArray[np.bool_]) -> list[slice]:
    """The stretches of consecutive true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [slice(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
