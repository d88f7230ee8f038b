"""The place the props stand in: floor, walls, what is seen above the walls, and the lamp."""

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from mecha.arena.dice import chance, random_colour
from mecha.arena.optics import Points, View
from mecha.arena.painter import Colour, Light, Painter

HALF_M = 4.0

# High enough to end above every frame; filling takes longer the higher it is.
_SKY_M = 25.0


@dataclass(frozen=True)
class Hall:
    """An arena without its props.

    Attributes:
        floor: (S, S, 3) uint8, the floor seen from above, HALF_M * 2 metres wide, +x to the right and +y down.
        backdrop: (64, 512, 3) uint8, the surroundings around the full turn, seen above the walls.
        wall: colour of the boards.
        trim: colour of their top rail and kick board.
        wall_m: height of the boards.
        posters: (P, 4) wall index 0-3, left and right as shares of the wall, brightness factor.
        light: the lamp.
    """

    floor: NDArray[np.uint8]
    backdrop: NDArray[np.uint8]
    wall: Colour
    trim: Colour
    wall_m: float
    posters: tuple[tuple[int, float, float, Colour], ...]
    light: Light

    def begin(self, view: View, shadows: list[Points]) -> Painter:
        """A painter whose frame holds the empty hall, with the shadows of hulls of world points (N, 3) on the floor."""
        frame = self._draw_floor(view)
        self._draw_shadows(frame, view, shadows)
        painter = Painter(frame, view, self.light)
        self._draw_surroundings(painter)
        return painter

    def _draw_floor(self, view: View) -> NDArray[np.uint8]:
        cells = len(self.floor) / (2 * HALF_M)
        to_metres = np.array([[1 / cells, 0, 0.5 / cells - HALF_M], [0, 1 / cells, 0.5 / cells - HALF_M], [0, 0, 1]])
        # Above the horizon is no floor, and warping is the dearest step of all.
        top = view.horizon_row()
        lowered = np.array([[1, 0, 0], [0, 1, -top], [0, 0, 1.0]])
        warp = lowered @ view.floor_to_pixels() @ to_metres
        frame = np.zeros((view.height, view.width, 3), np.uint8)
        if top < view.height:
            frame[top:] = cv2.warpPerspective(self.floor, warp, (view.width, view.height - top))
        return frame

    def _draw_shadows(self, frame: NDArray[np.uint8], view: View, shadows: list[Points]) -> None:
        width, height = (view.width + 1) // 2, (view.height + 1) // 2
        mask = np.full((height, width), 255, np.uint8)
        along = self.light.direction / -self.light.direction[2]
        for points in shadows:
            ground = points + along * points[:, 2:]
            hull = cv2.convexHull(ground[:, :2].astype(np.float32)).reshape(-1, 2)
            pixels = view.polygons_pixels(np.column_stack([hull, np.zeros(len(hull))])[None])[0]
            if len(pixels):
                corners = np.rint(pixels * 8).astype(np.int32)
                cv2.fillConvexPoly(mask, corners, 110.0 + 60 * self.light.ambient, cv2.LINE_AA, 4)
        blur = 2 * (max(view.width, view.height) // 160) + 1
        soft = cv2.resize(cv2.blur(mask, (blur, blur)), (view.width, view.height), interpolation=cv2.INTER_LINEAR)
        floor = frame[view.horizon_row() :]
        if len(floor):
            cv2.multiply(floor, cv2.merge([soft[-len(floor) :]] * 3), floor, 1 / 255)

    def _draw_surroundings(self, painter: Painter) -> None:
        view = painter.view
        above = np.zeros(painter.frame_bgr.shape[:2], np.uint8)
        for sky in view.polygons_pixels(self._sky):
            if len(sky):
                cv2.fillConvexPoly(above, np.rint(sky).astype(np.int32), 255)
        _, top, _, rows = cv2.boundingRect(above)
        if rows:
            backdrop = self._backdrop_of(view, top + rows)
            cv2.copyTo(backdrop, above[: top + rows], painter.frame_bgr[: top + rows])
        quads, colours = self._boards
        for pixels, colour in zip(view.polygons_pixels(quads), colours, strict=True):
            if len(pixels):
                painter.detail(pixels, colour)

    @cached_property
    def _sky(self) -> Points:
        return np.array([_upright(start, end, self.wall_m, _SKY_M) for start, end in _sides()])

    @cached_property
    def _boards(self) -> tuple[Points, Points]:
        """Quads (K, 4, 3) of all that is on the walls, in the order of drawing, and their colours (K, 3)."""
        quads, colours = [], []
        for index, (start, end) in enumerate(_sides()):
            inward = np.array([-(end - start)[1], (end - start)[0], 0.0]) / np.linalg.norm(end - start)
            bright = 0.15 + 0.85 * float(self.light.on(inward))
            for left, right, low, high, colour in self._wall_parts(index):
                a, b = start + (end - start) * left, start + (end - start) * right
                quads.append(_upright(a, b, low * self.wall_m, high * self.wall_m))
                colours.append(np.clip(colour * bright, 0, 255))
        return np.array(quads), np.array(colours)

    def _wall_parts(self, index: int) -> list[tuple[float, float, float, float, Colour]]:
        """Rectangles (left, right, low, high, colour) on one wall, in shares of its length and height."""
        panels = 8
        parts = [(0.0, 1.0, 0.0, 1.0, self.wall)]
        for panel in range(panels):
            fade = 1 + 0.10 * math.sin(panel * 1.9 + index)
            parts.append(((panel + 0.012) / panels, (panel + 0.988) / panels, 0.0, 1.0, self.wall * fade))
        parts += [(left, right, 0.3, 0.8, colour) for side, left, right, colour in self.posters if side == index]
        return [*parts, (0.0, 1.0, 0.93, 1.0, self.trim), (0.0, 1.0, 0.0, 0.1, self.trim * 0.7)]

    def _backdrop_of(self, view: View, height: int) -> NDArray[np.uint8]:
        rows, columns = self.backdrop.shape[:2]
        # Rays of the pixel columns turn clockwise from left to right; the panorama runs the same way.
        scale = columns / (2 * math.pi) / view.focal_px
        left = (-view.yaw / (2 * math.pi) * columns - view.width / 2 * scale) % columns
        top = rows - (view.height / 2 - math.tan(view.pitch) * view.focal_px) * -scale - view.height * scale
        twice = cv2.hconcat([self.backdrop, self.backdrop])
        warp = np.array([[scale, 0, left], [0, scale, top]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(
            cv2.warpAffine(twice, warp, (view.width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8
        )


def _upright(start: Points, end: Points, low: float, high: float) -> Points:
    return np.array([[*start, high], [*end, high], [*end, low], [*start, low]])


def _sides() -> list[tuple[Points, Points]]:
    corners = np.array([(HALF_M, HALF_M), (-HALF_M, HALF_M), (-HALF_M, -HALF_M), (HALF_M, -HALF_M)])
    return list(zip(corners, np.roll(corners, -1, axis=0), strict=True))


def random_hall(rng: np.random.Generator, floor_cells: int) -> Hall:
    """A hall of its own, with a floor texture of `floor_cells` squared."""
    azimuth, elevation = rng.uniform(0, 2 * math.pi), rng.uniform(0.7, 1.25)
    direction = np.array(
        [math.cos(azimuth) * math.cos(elevation), math.sin(azimuth) * math.cos(elevation), -math.sin(elevation)]
    )
    posters = tuple(
        (int(rng.integers(4)), left, left + rng.uniform(0.04, 0.16), random_colour(rng, (0, 0.9), (0.15, 0.95)))
        for left in rng.uniform(0, 0.84, int(rng.integers(0, 9))).tolist()
    )
    return Hall(
        floor=_random_floor(rng, floor_cells),
        backdrop=_random_backdrop(rng),
        wall=random_colour(rng, (0, 0.45), (0.35, 0.95)),
        trim=random_colour(rng, (0, 0.9), (0.15, 0.9)),
        wall_m=rng.uniform(0.4, 1.0),
        posters=posters,
        light=Light(direction, rng.uniform(0.35, 0.6)),
    )


def _random_backdrop(rng: np.random.Generator) -> NDArray[np.uint8]:
    low, high = random_colour(rng, (0, 0.3), (0.15, 0.6)), random_colour(rng, (0, 0.2), (0.1, 0.8))
    ramp = np.linspace(1, 0, 64)[:, None, None]
    picture = np.repeat(low * (1 - ramp) + high * ramp, 512, axis=1)
    for _ in range(26):
        x, y = int(rng.integers(512)), int(rng.integers(64))
        size = (int(rng.integers(4, 60)), int(rng.integers(3, 22)))
        cv2.rectangle(
            picture, (x, y), (x + size[0], y + size[1]), random_colour(rng, (0, 0.3), (0.1, 0.8)).tolist(), -1
        )
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 2.0), np.uint8)


def _random_floor(rng: np.random.Generator, cells: int) -> NDArray[np.uint8]:
    metre = cells / (2 * HALF_M)
    colour = random_colour(rng, (0, 0.5), (0.3, 0.85))
    shade = (
        1
        + rng.uniform(0.02, 0.07) * _cloud(rng, cells, (6, 24, 96))
        + rng.uniform(0.01, 0.06) * _cloud(rng, cells, (cells,))
    )
    floor = np.clip(shade[..., None] * colour, 0, 255).astype(np.uint8)
    _lay_tiles(rng, floor, metre, colour)
    _lay_tape(rng, floor, metre)
    pools = np.clip(150 + 40 * _cloud(rng, cells, (4, 7)), 90, 255).astype(np.uint8)
    return np.asarray(cv2.multiply(floor, cv2.merge([pools, pools, pools]), scale=1 / 170), np.uint8)


def _cloud(rng: np.random.Generator, cells: int, sizes: tuple[int, ...]) -> NDArray[np.float32]:
    total = np.zeros((cells, cells), np.float32)
    for size in sizes:
        grid = rng.standard_normal((size, size), np.float32)
        total += cv2.resize(grid, (cells, cells), interpolation=cv2.INTER_LINEAR)
    return total


def _lay_tiles(rng: np.random.Generator, floor: NDArray[np.uint8], metre: float, colour: Colour) -> None:
    style = ("plain", "tiles", "planks", "few planks")[int(rng.integers(4))]
    if style == "plain":
        return
    cells = len(floor)
    across = metre * rng.uniform(0.3, 1.0)
    along = across if style == "tiles" else metre * rng.uniform(1.2, 2.5)
    for row in range(math.ceil(cells / across)):
        for column in range(math.ceil(cells / along)):
            if chance(rng, 0.4 if style == "few planks" else 0.75):
                left, top = round(column * along), round(row * across)
                tile = floor[top : round((row + 1) * across), left : round((column + 1) * along)]
                cv2.convertScaleAbs(tile, tile, rng.uniform(0.88, 1.12))
        cv2.line(floor, (0, round(row * across)), (cells, round(row * across)), (colour * 0.7).tolist(), 1, cv2.LINE_AA)
    for column in range(math.ceil(cells / along)):
        x = round(column * along)
        cv2.line(floor, (x, 0), (x, cells), (colour * 0.7).tolist(), 1, cv2.LINE_AA)


def _lay_tape(rng: np.random.Generator, floor: NDArray[np.uint8], metre: float) -> None:
    cells = len(floor)
    for _ in range(int(rng.integers(1, 7))):
        colour = random_colour(rng, (0, 0.95), (0.05, 1.0)).tolist()
        width = max(1, round(metre * rng.uniform(0.03, 0.09)))
        a, b = rng.integers(0, cells, (2, 2)).tolist()
        style = ("line", "circle", "field", "patch")[int(rng.integers(4))]
        if style == "line":
            cv2.line(floor, a, b, colour, width, cv2.LINE_AA)
        elif style == "circle":
            cv2.circle(floor, a, round(metre * rng.uniform(0.3, 1.6)), colour, width, cv2.LINE_AA)
        elif style == "field":
            cv2.rectangle(floor, a, b, colour, width, cv2.LINE_AA)
        else:
            size = rng.uniform(0.3, 0.9) * metre
            cv2.rectangle(floor, a, (round(a[0] + size), round(a[1] + size)), colour, -1)
