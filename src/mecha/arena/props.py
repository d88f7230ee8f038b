"""The things that stand in the arena. Each draws itself at a placement and says where its shadow begins.

Colours are (3,) float64, blue, green, red, 0-255. Lengths are metres.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mecha.arena.labels import BALL, CONE, CRATE, TAG
from mecha.arena.optics import Points
from mecha.arena.painter import Colour, Painter

_BOX_CORNERS = np.array([[x, y, z] for z in (0, 1) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))], float)
_BOX_FACES = ((0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7), (4, 5, 6, 7))
_BOX_NORMALS = np.array([[0, -1, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, 0, 1]], float)


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


class Prop(Protocol):
    """Something that stands on the floor."""

    @property
    def radius_m(self) -> float:
        """Radius of the circle on the floor that nothing else may enter."""
        ...

    def shadow(self, at: Placement) -> Points:
        """Points (N, 3) whose convex hull casts the shadow."""
        ...

    def draw(self, painter: Painter, at: Placement) -> None:
        """Draw the prop, far parts first."""
        ...


def turn_z(angle: float) -> Points:
    """The rotation (3, 3) about the vertical axis."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


@dataclass(frozen=True)
class Cone:
    """A traffic cone: a frustum with coloured bands on a square plate."""

    height_m: float
    plate: Colour
    bands: tuple[tuple[float, Colour], ...]  # top of the band as a share of the height, from the floor up

    @property
    def radius_m(self) -> float:
        """Half the diagonal of the plate."""
        return 0.56 * self.height_m

    def shadow(self, at: Placement) -> Points:
        """Foot plate and tip."""
        half, top = 0.38 * self.height_m, self.height_m
        return at.to_world(np.concatenate([_BOX_CORNERS[:4] * half, np.array([[0, 0, top]])]))

    def draw(self, painter: Painter, at: Placement) -> None:
        """Plate, then body."""
        painter.begin(CONE)
        half, thickness = 0.38 * self.height_m, 0.05 * self.height_m
        if not draw_box(painter, at, (half, half, thickness), self.plate):
            return
        levels = [thickness, *(share * self.height_m for share, _ in self.bands)]
        radii = [0.30 * self.height_m * (1 - 0.86 * level / self.height_m) for level in levels]
        draw_frustum(painter, at, levels, radii, [colour for _, colour in self.bands])


@dataclass(frozen=True)
class Barrel:
    """A drum or a post; not one of the classes, it only stands in the way."""

    size_m: float
    height_m: float
    bands: tuple[tuple[float, Colour], ...]

    @property
    def radius_m(self) -> float:
        """Radius of the drum."""
        return self.size_m

    def shadow(self, at: Placement) -> Points:
        """Bottom and top ring."""
        rings = _ring(8)[None] * self.size_m + np.array([[[0, 0, 0.0]], [[0, 0, self.height_m]]])
        return at.to_world(rings.reshape(-1, 3))

    def draw(self, painter: Painter, at: Placement) -> None:
        """Body with its top."""
        painter.begin(None)
        levels = [0.0, *(share * self.height_m for share, _ in self.bands)]
        draw_frustum(painter, at, levels, [self.size_m] * len(levels), [colour for _, colour in self.bands])


@dataclass(frozen=True)
class Ball:
    """A ball that rolls along its heading, with seams that show it."""

    size_m: float  # radius
    colour: Colour
    seam: Colour
    seams: Points  # (S, 3) unit normals of the great circles drawn on it
    gloss: float  # 0-1

    @property
    def radius_m(self) -> float:
        """Radius of the ball."""
        return self.size_m

    def shadow(self, at: Placement) -> Points:
        """The silhouette seen from the lamp, near enough: three rings."""
        rings = np.concatenate(
            [_ring(8) * scale + np.array([0, 0, z]) for scale, z in ((0.7, -0.7), (1, 0), (0.7, 0.7))]
        )
        return at.to_world(rings * self.size_m + np.array([0, 0, self.size_m]))

    def draw(self, painter: Painter, at: Placement) -> None:
        """A disc, lighter discs towards the lamp, seams, a highlight."""
        painter.begin(BALL)
        view, light = painter.view, painter.light
        centre = at.to_world(np.array([0, 0, self.size_m]))
        pixel = painter.project(centre)
        distance = float(np.linalg.norm(centre - view.origin))
        if pixel is None or distance <= self.size_m * 1.5:
            return
        depth = float(view.to_camera(centre)[2])
        radius = view.focal_px * self.size_m / math.sqrt(max(depth**2 - self.size_m**2, 1e-6))
        painter.disc(pixel, radius, self.colour * (0.25 + 0.55 * light.ambient), solid=True)
        lamp = (-light.direction @ view.rotation.T)[:2]
        steps = int(np.clip(radius / 2.5, 3, 24))
        for step in range(1, steps + 1):
            share = step / steps
            bright = light.ambient + (1 - light.ambient) * math.sin(share * math.pi / 2)
            painter.disc(pixel + lamp * radius * 0.42 * share, radius * (1 - 0.94 * share**0.9), self.colour * bright)
        self._draw_seams(painter, at, centre, pixel, radius)
        if self.gloss:
            shine = self.colour * (1 - self.gloss) + 255 * self.gloss
            painter.disc(pixel + lamp * radius * 0.52, radius * 0.11, shine)

    def _draw_seams(self, painter: Painter, at: Placement, centre: Points, middle: Points, radius_px: float) -> None:
        if radius_px < 7 or not len(self.seams):
            return
        roll = at.travel_m / self.size_m
        cos, sin = math.cos(roll), math.sin(roll)
        spin = turn_z(at.heading) @ np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        turn = np.linspace(0, 2 * np.pi, 33)
        # Seen from the ball's own axis, so that the seams end where its disc ends, near the frame's edge too.
        ahead = (centre - painter.view.origin) / np.linalg.norm(centre - painter.view.origin)
        right = np.cross(painter.view.rotation[1], ahead)
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(ahead, right)], axis=1)
        for normal in self.seams:
            side = np.cross(normal, [0.36, 0.48, 0.8])
            side /= np.linalg.norm(side)
            circle = np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * np.cross(normal, side)
            points = circle @ spin.T
            pixels = middle + points @ axes * (radius_px * 0.97)
            for run in _runs(points @ ahead < -0.15):  # noqa: PLR2004 - short of the rim by half a line
                painter.line(pixels[run], radius_px * 0.07, self.seam)


@dataclass(frozen=True)
class Crate:
    """A box; `marks` are quads (K, 4, 2) in face coordinates 0-1 with a brightness factor each, on every side."""

    half_m: tuple[float, float]
    height_m: float
    colour: Colour
    marks: Points
    factors: Points  # (K,)
    lid: Points  # marks of the top face, (L, 4, 2)
    lid_factors: Points

    @property
    def radius_m(self) -> float:
        """Half the diagonal."""
        return math.hypot(*self.half_m)

    def shadow(self, at: Placement) -> Points:
        """The eight corners."""
        return at.to_world(_BOX_CORNERS * np.array([*self.half_m, self.height_m]))

    def draw(self, painter: Painter, at: Placement) -> None:
        """Up to three faces with their marks."""
        painter.begin(CRATE)
        draw_box(painter, at, (*self.half_m, self.height_m), self.colour, self)


@dataclass(frozen=True)
class Tag:
    """A fiducial board: a black square with a code on white. Stands on a post, or lies or hangs when `post_m` is 0."""

    size_m: float
    post_m: float
    code: NDArray[np.bool_]  # (C, C), true is white
    flat: bool = False
    stand: Colour | None = None

    @property
    def radius_m(self) -> float:
        """Half the width of the board."""
        return self.size_m / 2

    def board(self, at: Placement) -> Points:
        """Corners (4, 3) of the board: top left, top right, bottom right, bottom left, facing the heading."""
        half = self.size_m / 2
        if self.flat:
            local = np.array([[half, half, 0.002], [half, -half, 0.002], [-half, -half, 0.002], [-half, half, 0.002]])
        else:
            low, high = self.post_m, self.post_m + self.size_m
            local = np.array([[0, -half, high], [0, half, high], [0, half, low], [0, -half, low]])
        return at.to_world(local)

    def shadow(self, at: Placement) -> Points:
        """The board's corners."""
        return self.board(at)

    def draw(self, painter: Painter, at: Placement) -> None:
        """Post, board, code. Both sides of the board carry the code."""
        if self.stand is not None:
            painter.begin(None)
            draw_box(painter, at, (0.09, 0.09, 0.02), self.stand * 0.7)
            draw_box(painter, at, (0.012, 0.012, self.post_m + 0.3 * self.size_m), self.stand)
        corners = self.board(at)
        normal = np.cross(corners[1] - corners[0], corners[3] - corners[0])
        normal /= np.linalg.norm(normal)
        to_eye = painter.view.origin - corners.mean(axis=0)
        if normal @ to_eye < 0:
            corners, normal = corners[[1, 0, 3, 2]], -normal
        painter.begin(TAG)
        draw_code(painter, corners, self.code, 0.35 + 0.65 * float(painter.light.on(normal)))


def draw_code(painter: Painter, corners: Points, code: NDArray[np.bool_], bright: float) -> None:
    """Draw a tag on the quad `corners` (4, 3): one cell of white margin, one of black border, then the code."""
    cells = len(code) + 4
    across, down = (corners[1] - corners[0]) / cells, (corners[3] - corners[0]) / cells
    quads = [(0, 0, cells, cells), (1, 1, cells - 1, cells - 1)]
    for row, bits in enumerate(code):
        quads += [(run.start + 2, row + 2, run.stop + 2, row + 3) for run in _runs(bits)]
    grid = np.array(quads, float)
    uv = grid[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    pixels = painter.project(corners[0] + uv[..., :1] * across + uv[..., 1:] * down)
    if pixels is None:
        return
    white, black = np.full(3, 245.0 * bright), np.full(3, 18 + 14 * bright)
    painter.solid(pixels[0], white)
    painter.detail(pixels[1], black)
    if np.ptp(pixels[0], axis=0).max() >= cells:
        for quad in pixels[2:]:
            painter.detail(quad, white)


def draw_box(
    painter: Painter, at: Placement, size: tuple[float, float, float], colour: Colour, crate: Crate | None = None
) -> bool:
    """Draw a box of half widths size[0], size[1] and height size[2]; False when it reaches behind the camera."""
    corners = at.to_world(_BOX_CORNERS * np.array(size))
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
        if crate is not None and np.ptp(pixels, axis=0).max() > 12:
            marks, factors = (crate.lid, crate.lid_factors) if index == 4 else (crate.marks, crate.factors)
            _draw_marks(painter, points, marks, np.clip(colour[None] * factors[:, None], 0, 255) * bright[index])
    return True


def _draw_marks(painter: Painter, face: Points, marks: Points, colours: Points) -> None:
    if not len(marks):
        return
    across, up = face[1] - face[0], face[3] - face[0]
    pixels = painter.project(face[0] + marks[..., :1] * across + marks[..., 1:] * up)
    if pixels is None:
        return
    for quad, colour in zip(pixels, colours, strict=True):
        painter.detail(quad, colour)


def draw_frustum(
    painter: Painter, at: Placement, levels: list[float], radii: list[float], colours: list[Colour]
) -> None:
    """Draw a round body: rings of `radii` at `levels` from the bottom up, a colour between each two."""
    sides = 24
    ring = _ring(sides)
    offsets = np.array([[0, 0, level] for level in levels])
    rings = at.to_world(ring[None] * np.array(radii)[:, None, None] + offsets[:, None])
    pixels = painter.project(rings)
    if pixels is None:
        return
    outline = cv2.convexHull(pixels.reshape(-1, 2).astype(np.float32)).reshape(-1, 2).astype(float)
    middle = ring @ turn_z(math.pi / sides).T @ turn_z(at.heading).T
    bright = painter.light.on(middle)
    painter.solid(outline, colours[0] * float(bright.mean()))
    fine = np.ptp(outline, axis=0).max() > 24
    to_eye = painter.view.origin - at.foot
    front = np.flatnonzero(middle @ to_eye > radii[0])
    for band, colour in enumerate(colours):
        hull = cv2.convexHull(pixels[band : band + 2].reshape(-1, 2).astype(np.float32)).reshape(-1, 2)
        painter.detail(hull.astype(float), colour * float(bright[front].mean() if len(front) else 1))
        for side in front if fine else ():
            after = (side + 1) % sides
            quad = pixels[[band, band, band + 1, band + 1], [side, after, after, side]]
            painter.detail(quad, colour * float(bright[side]))
    if painter.view.origin[2] > levels[-1]:
        painter.detail(pixels[-1], colours[-1] * float(painter.light.on(np.array([0.0, 0, 1]))) * 0.9)


def _ring(sides: int) -> Points:
    turn = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    return np.stack([np.cos(turn), np.sin(turn), np.zeros(sides)], axis=1)


def _runs(flags: NDArray[np.bool_]) -> list[slice]:
    """The stretches of consecutive true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [slice(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
