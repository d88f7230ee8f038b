"""A furnished arena: which props there are, how they move, and one frame of it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from mecha.arena.dice import chance, hsv, random_colour
from mecha.arena.hall import Hall, random_hall
from mecha.arena.labels import Scene
from mecha.arena.optics import Points, View
from mecha.arena.props import Ball, Barrel, Cone, Crate, Prop, Tag
from mecha.arena.solids import Marks, Placement

if TYPE_CHECKING:
    from mecha.arena.painter import Colour

_NOISE_CELLS = 512
_NOISE_SCALE = 60
_REACH_M = 1.2
_WALL_CLEARANCE_M = 0.35


@dataclass(frozen=True)
class Path:
    """A circle that a prop goes round; it stands still when `speed` is 0.

    Attributes:
        centre: (3,) metres.
        radius_m: of the circle.
        speed: radians per second round the circle.
        phase: radians at time 0.
        heading: radians; turned with the path when it moves.
    """

    centre: Points
    radius_m: float
    speed: float
    phase: float
    heading: float

    def at(self, time_s: float) -> Placement:
        """Where the prop is at `time_s`."""
        angle = self.phase + self.speed * time_s
        foot = self.centre + self.radius_m * np.array([math.cos(angle), math.sin(angle), 0])
        turned = angle + math.copysign(math.pi / 2, self.speed) if self.speed else 0.0
        return Placement(foot, self.heading + turned, abs(self.speed) * time_s * self.radius_m)


@dataclass(frozen=True)
class World:
    """A hall with its props; `lens` is what the camera does to the picture."""

    hall: Hall
    props: tuple[tuple[Prop, Path], ...]
    gain: float
    noise: float  # standard deviation, of 255

    def render(self, view: View, time_s: float, noise_seed: int) -> Scene:
        """The scene that `view` sees at `time_s`."""
        placed = [(prop, path.at(time_s)) for prop, path in self.props]
        painter = self.hall.begin(view, [prop.shadow(at) for prop, at in placed])
        # Every prop fits a ball round a point half a metre above its foot.
        middles = np.array([at.foot for _, at in placed]).reshape(-1, 3) + np.array([0, 0, _REACH_M / 2])
        reaches = np.array([math.hypot(_REACH_M / 2, prop.radius_m) for prop, _ in placed])
        seen = view.may_see(middles, reaches).tolist()
        visible = [pair for pair, in_sight in zip(placed, seen, strict=True) if in_sight]
        for prop, at in sorted(visible, key=lambda pair: _draw_order(pair[0], pair[1], view)):
            prop.draw(painter, at)
        frame = painter.frame_bgr
        cv2.convertScaleAbs(frame, frame, self.gain)
        self._add_noise(frame, noise_seed)
        return painter.finish()

    def clear_of(self, point: Points, time_s: float, distance_m: float) -> bool:
        """Whether no prop comes nearer than `distance_m` to `point` (2,) on the floor."""
        gaps = [
            float(np.linalg.norm(path.at(time_s).foot[:2] - point[:2])) - prop.radius_m for prop, path in self.props
        ]
        return min(gaps, default=math.inf) > distance_m

    def _add_noise(self, frame: NDArray[np.uint8], noise_seed: int) -> None:
        rng = np.random.default_rng([noise_seed, 3])
        # Two halves of a normal distribution, one added and one taken away, in 8 bits: ten times as quick as floats.
        half = cv2.convertScaleAbs(_noise_sheet(), alpha=self.noise / _NOISE_SCALE)
        for top in range(0, frame.shape[0], _NOISE_CELLS // 2):
            for left in range(0, frame.shape[1], _NOISE_CELLS // 2):
                patch = frame[top : top + _NOISE_CELLS // 2, left : left + _NOISE_CELLS // 2]
                (y, x), (v, u) = rng.integers(0, _NOISE_CELLS // 2, (2, 2)).tolist()
                height, width = patch.shape[:2]
                cv2.add(patch, half[y : y + height, x : x + width], patch)
                cv2.subtract(patch, half[v : v + height, u : u + width], patch)


@cache
def _noise_sheet() -> NDArray[np.uint8]:
    """Grey half-normal noise of deviation _NOISE_SCALE, (_NOISE_CELLS, _NOISE_CELLS, 3)."""
    grey = np.random.default_rng(6).standard_normal((_NOISE_CELLS, _NOISE_CELLS), np.float32) * _NOISE_SCALE
    return np.repeat(np.clip(np.abs(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def _draw_order(prop: Prop, at: Placement, view: View) -> tuple[bool, float]:
    lies_or_hangs = isinstance(prop, Tag) and prop.stand is None
    return not lies_or_hangs, -float(np.linalg.norm(at.foot[:2] - view.origin[:2]))


def random_world(
    rng: np.random.Generator, floor_cells: int, room_m: float, kinds: Sequence[str] | None = None
) -> World:
    """A furnished arena; everything on the floor stays within `room_m` of its middle.

    Args:
        rng: where the choices come from.
        floor_cells: pixels along the floor's texture.
        room_m: metres.
        kinds: names out of KINDS, first come first placed; None draws 6 to 16 of them.
    """
    hall = random_hall(rng, floor_cells)
    if kinds is None:
        kinds = rng.choice(list(KINDS), int(rng.integers(6, 17)), p=_SHARES).tolist()
    props: list[tuple[Prop, Path]] = []
    taken: list[tuple[float, float, float]] = []
    for kind in kinds:
        prop = _MAKERS[kind](rng)
        path = _random_path(rng, prop, room_m, taken)
        if path is not None:
            props.append((prop, path))
    props += _random_wall_tags(rng, hall)
    return World(hall, tuple(props), noise=rng.uniform(1.0, 9.0), gain=rng.uniform(0.75, 1.3))


def _random_path(
    rng: np.random.Generator, prop: Prop, room_m: float, taken: list[tuple[float, float, float]]
) -> Path | None:
    moves = chance(rng, 0.75 if isinstance(prop, Ball) else 0.2)
    radius = rng.uniform(0.1, 0.45) if moves else 0.0
    reach = radius + prop.radius_m
    for _ in range(12):
        distance, angle = room_m * math.sqrt(rng.uniform()), rng.uniform(0, 2 * math.pi)
        x, y = distance * math.cos(angle), distance * math.sin(angle)
        if all(math.hypot(x - u, y - v) > reach + other + 0.03 for u, v, other in taken):
            taken.append((x, y, reach))
            speed = rng.uniform(0.3, 1.2) * rng.choice([-1.0, 1.0]) if moves else 0.0
            return Path(np.array([x, y, 0]), radius, float(speed), *rng.uniform(0, 2 * math.pi, 2).tolist())
    return None


def _random_wall_tags(rng: np.random.Generator, hall: Hall) -> list[tuple[Prop, Path]]:
    placed: list[tuple[Prop, Path]] = []
    for wall in rng.permutation(4)[: int(rng.integers(0, 4))].tolist():
        inward = math.pi * (1 + wall / 2)
        size = min(rng.uniform(0.35, 0.6), hall.wall_m * 0.85)
        tag = Tag(size, rng.uniform(0.1, 0.85) * (hall.wall_m - size), _random_code(rng))
        outward = np.array([math.cos(wall * math.pi / 2), math.sin(wall * math.pi / 2), 0])
        aside = np.array([-outward[1], outward[0], 0]) * rng.uniform(-3, 3)
        placed.append((tag, Path(outward * 3.99 + aside, 0.0, 0.0, 0.0, inward)))
    return placed


def _random_cone(rng: np.random.Generator) -> Cone:
    orange = chance(rng, 0.6)
    body = (
        hsv(rng.uniform(0.0, 0.09), rng.uniform(0.75, 1), rng.uniform(0.75, 1))
        if orange
        else random_colour(rng, (0.6, 1), (0.5, 1))
    )
    band = np.full(3, rng.uniform(190, 255)) if chance(rng, 0.85) else random_colour(rng, (0.4, 1), (0.4, 1))
    low, high = rng.uniform(0.25, 0.45), rng.uniform(0.5, 0.7)
    styles = (
        ((1.0, body),),
        ((low, body), (high, band), (1.0, body)),
        ((low, body), (low + 0.15, band), (high + 0.05, body), (high + 0.18, band), (1.0, body)),
    )
    plate = body * 0.9 if chance(rng, 0.5) else np.full(3, rng.uniform(25, 70))
    return Cone(rng.uniform(0.28, 0.7), plate, styles[int(rng.integers(3))])


def _random_ball(rng: np.random.Generator) -> Ball:
    colour = random_colour(rng, (0.1, 1), (0.5, 1))
    seam: Colour = np.full(3, rng.choice([20.0, 245.0])) if chance(rng, 0.6) else random_colour(rng, (0.5, 1), (0.2, 1))
    seams = rng.standard_normal((int(rng.integers(0, 4)), 3))
    seams /= np.linalg.norm(seams, axis=1, keepdims=True)
    return Ball(rng.uniform(0.12, 0.32), colour, seam, seams, rng.uniform(0, 0.7) * chance(rng, 0.7))


def _random_crate(rng: np.random.Generator) -> Crate:
    half = (rng.uniform(0.15, 0.36), rng.uniform(0.15, 0.36))
    height = rng.uniform(0.18, 0.6)
    style = ("wood", "cardboard", "plastic", "painted")[int(rng.integers(4))]
    if style == "wood":
        colour = hsv(rng.uniform(0.07, 0.12), rng.uniform(0.3, 0.65), rng.uniform(0.55, 0.9))
        planks = int(rng.integers(3, 6))
        gaps = [(0.0, row / planks - 0.012, 1.0, row / planks + 0.012, 0.45) for row in range(1, planks)]
        frame = [(0, 0, 0.12, 1, 1.12), (0.88, 0, 1, 1, 1.12), (0, 0, 1, 0.1, 1.05), (0, 0.9, 1, 1, 1.05)]
        marks, lid = gaps + frame, gaps
    elif style == "cardboard":
        colour = hsv(rng.uniform(0.07, 0.1), rng.uniform(0.3, 0.5), rng.uniform(0.6, 0.85))
        tape = (0.42, 0.0, 0.58, 1.0, rng.uniform(1.1, 1.3))
        label = (0.12, 0.5, 0.34, 0.8, 1.5)
        marks, lid = [(0.42, 0.75, 0.58, 1.0, tape[4]), label], [tape]
    elif style == "plastic":
        colour = random_colour(rng, (0.4, 1), (0.35, 0.95))
        ribs = [(x - 0.03, 0.06, x + 0.03, 0.94, 0.75) for x in np.linspace(0.14, 0.86, int(rng.integers(3, 7)))]
        marks, lid = [*ribs, (0.34, 0.7, 0.66, 0.84, 0.3)], [(0.06, 0.08, 0.94, 0.92, 0.62)]
    else:
        colour = random_colour(rng, (0, 1), (0.3, 1))
        band = (0.0, 0.4, 1.0, 0.6, rng.uniform(0.3, 1.6))
        marks, lid = [band] * int(rng.integers(0, 2)), []
    return Crate(half, height, colour, _marks(marks), _marks(lid))


def _marks(rectangles: list[tuple[float, float, float, float, float]]) -> Marks:
    table = np.array(rectangles, float).reshape(-1, 5)
    return Marks(table[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2), table[:, 4])


def _random_tag(rng: np.random.Generator) -> Tag:
    if chance(rng, 0.25):
        return Tag(rng.uniform(0.45, 0.75), 0.0, _random_code(rng), flat=True)
    post = rng.uniform(0.05, 0.45)
    return Tag(rng.uniform(0.3, 0.55), post, _random_code(rng), stand=np.full(3, rng.uniform(40, 190)))


def _random_code(rng: np.random.Generator) -> NDArray[np.bool_]:
    cells = int(rng.integers(4, 7))
    return rng.uniform(-0.5, 0.5, (cells, cells)) < 0


def _random_barrel(rng: np.random.Generator) -> Barrel:
    colours = [random_colour(rng, (0, 1), (0.2, 0.9)) for _ in range(2)]
    bands = ((0.3, colours[0]), (0.7, colours[1]), (1.0, colours[0])) if chance(rng, 0.5) else ((1.0, colours[0]),)
    slim = chance(rng, 0.5)
    return Barrel(rng.uniform(0.03, 0.08) if slim else rng.uniform(0.15, 0.3), rng.uniform(0.3, 1.1), bands)


_MAKERS: dict[str, Callable[[np.random.Generator], Prop]] = {
    "cone": _random_cone,
    "ball": _random_ball,
    "crate": _random_crate,
    "tag": _random_tag,
    "barrel": _random_barrel,
}
KINDS = tuple(_MAKERS)
_SHARES = (0.25, 0.25, 0.23, 0.17, 0.10)
