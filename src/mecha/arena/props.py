"""The things that stand in the arena. Each draws itself at a placement and says where its shadow begins.

Colours are (3,) float64, blue, green, red, 0-255. Lengths are metres.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mecha.arena.labels import BALL, CONE, CRATE, TAG
from mecha.arena.optics import Points, cross
from mecha.arena.painter import Colour, Painter
from mecha.arena.solids import (
    BOX_CORNERS,
    Marks,
    Placement,
    draw_box,
    draw_code,
    draw_frustum,
    runs,
    turn_z,
    unit_ring,
)

# Seams stop this share of the radius short of the rim: half a line would stick out.
_SEAM_MARGIN = 0.15
_SEAMS_FROM_PX = 7

_ASKEW = np.array([0.36, 0.48, 0.8])


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
        return at.to_world(np.concatenate([BOX_CORNERS[:4] * half, np.array([[0, 0, top]])]))

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
        rings = unit_ring(8)[None] * self.size_m + np.array([[[0, 0, 0.0]], [[0, 0, self.height_m]]])
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
            [unit_ring(8) * scale + np.array([0, 0, z]) for scale, z in ((0.7, -0.7), (1, 0), (0.7, 0.7))]
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
        if radius_px < _SEAMS_FROM_PX or not len(self.seams):
            return
        roll = at.travel_m / self.size_m
        cos, sin = math.cos(roll), math.sin(roll)
        spin = turn_z(at.heading) @ np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        turn = np.linspace(0, 2 * np.pi, 33)
        # Seen from the ball's own axis, so that the seams end where its disc ends, near the frame's edge too.
        ahead = (centre - painter.view.origin) / np.linalg.norm(centre - painter.view.origin)
        right = cross(painter.view.rotation[1], ahead)
        right /= np.linalg.norm(right)
        axes = np.stack([right, cross(ahead, right)], axis=1)
        for normal in self.seams:
            side = cross(normal, _ASKEW)
            side /= np.linalg.norm(side)
            circle = np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * cross(normal, side)
            points = circle @ spin.T
            pixels = middle + points @ axes * (radius_px * 0.97)
            for run in runs(points @ ahead < -_SEAM_MARGIN):
                painter.line(pixels[run], radius_px * 0.07, self.seam)


@dataclass(frozen=True)
class Crate:
    """A box; `side` is painted on its four sides, `lid` on its top."""

    half_m: tuple[float, float]
    height_m: float
    colour: Colour
    side: Marks
    lid: Marks

    @property
    def radius_m(self) -> float:
        """Half the diagonal."""
        return math.hypot(*self.half_m)

    def shadow(self, at: Placement) -> Points:
        """The eight corners."""
        return at.to_world(BOX_CORNERS * np.array([*self.half_m, self.height_m]))

    def draw(self, painter: Painter, at: Placement) -> None:
        """Up to three faces with their marks."""
        painter.begin(CRATE)
        draw_box(painter, at, (*self.half_m, self.height_m), self.colour, self.side, self.lid)


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
        normal = cross(corners[1] - corners[0], corners[3] - corners[0])
        normal /= np.linalg.norm(normal)
        to_eye = painter.view.origin - corners.mean(axis=0)
        if normal @ to_eye < 0:
            corners, normal = corners[[1, 0, 3, 2]], -normal
        painter.begin(TAG)
        draw_code(painter, corners, self.code, 0.35 + 0.65 * float(painter.light.on(normal)))
