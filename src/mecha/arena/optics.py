"""A pinhole camera over the arena: world metres in, pixels out.

The world is right-handed with z up; the floor is z = 0 and the arena's middle is the origin.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

NEAR_M = 0.1

# Smoothed edges reach this far over a polygon's own.
_RIM_PX = 2


@dataclass(frozen=True)
class View:
    """Where the camera is and how it looks.

    Attributes:
        width: pixels, at least 1.
        height: pixels, at least 1.
        position: x, y, z in metres.
        yaw: radians, 0 looks along +x, counter-clockwise seen from above.
        pitch: radians, negative looks down.
        roll: radians.
        fov: horizontal field of view in radians; of the longer side, so that tall frames are not wide-angle.
    """

    width: int
    height: int
    position: tuple[float, float, float]
    yaw: float
    pitch: float
    roll: float
    fov: float

    @cached_property
    def focal_px(self) -> float:
        """Focal length in pixels."""
        return max(self.width, self.height) / 2 / math.tan(self.fov / 2)

    @cached_property
    def origin(self) -> Points:
        """The camera's position, (3,) metres."""
        return np.array(self.position)

    @cached_property
    def rotation(self) -> Points:
        """(3, 3): rows are the camera's right, down and forward axes in world coordinates."""
        cos_y, sin_y, cos_p, sin_p = math.cos(self.yaw), math.sin(self.yaw), math.cos(self.pitch), math.sin(self.pitch)
        forward = np.array([cos_p * cos_y, cos_p * sin_y, sin_p])
        right = np.array([sin_y, -cos_y, 0.0])
        down = cross(forward, right)
        cos_r, sin_r = math.cos(self.roll), math.sin(self.roll)
        return np.stack([cos_r * right + sin_r * down, cos_r * down - sin_r * right, forward])

    def to_camera(self, points: Points) -> Points:
        """World points (..., 3) in camera coordinates (right, down, forward), metres."""
        turned: Points = (points - self.origin) @ self.rotation.T
        return turned

    def to_pixels(self, camera_points: Points) -> Points:
        """Camera points (..., 3), all with depth of at least NEAR_M, as pixels (..., 2)."""
        centre = np.array([(self.width - 1) / 2, (self.height - 1) / 2])
        pixels: Points = camera_points[..., :2] * (self.focal_px / camera_points[..., 2:]) + centre
        return pixels

    def polygons_pixels(self, polygons: Points) -> list[Points]:
        """Flat world polygons (K, N, 3) as K pixel polygons (M, 2), cut at the near plane; M is 0 when out of sight."""
        corners = self.to_camera(polygons)
        near = corners[..., 2] >= NEAR_M
        pixels = self.to_pixels(np.where(near[..., None], corners, 1.0))
        low, high = pixels.min(axis=1), pixels.max(axis=1)
        beside = ((high < -_RIM_PX) | (low > np.array([self.width, self.height]) + _RIM_PX)).any(axis=1)
        whole = np.asarray(near.all(axis=1))
        out = np.where(whole, beside, ~near.any(axis=1))
        return [
            flat[:0] if hidden else flat if uncut else self._cut(polygon)
            for polygon, flat, hidden, uncut in zip(corners, pixels, out, whole, strict=True)
        ]

    def _cut(self, corners: Points) -> Points:
        kept: list[list[float]] = []
        # Plain floats: four times as quick as arrays of three.
        points: list[list[float]] = corners.tolist()
        for here, there in zip(points, points[1:] + points[:1], strict=True):
            if here[2] >= NEAR_M:
                kept.append(here)
            if (here[2] >= NEAR_M) != (there[2] >= NEAR_M):
                share = (NEAR_M - here[2]) / (there[2] - here[2])
                kept.append([a + (b - a) * share for a, b in zip(here, there, strict=True)])
        return self.to_pixels(np.array(kept))

    def may_see(self, centres: Points, radii: Points) -> NDArray[np.bool_]:
        """For spheres (K, 3) of `radii` (K,) in the world, whether any part can be in the frame, (K,) bool."""
        right, down, ahead = np.moveaxis(self.to_camera(centres), -1, 0)
        wide, tall = self.width / 2 / self.focal_px, self.height / 2 / self.focal_px
        beside = np.abs(right) - ahead * wide > radii * math.hypot(1, wide)
        above = np.abs(down) - ahead * tall > radii * math.hypot(1, tall)
        seen: NDArray[np.bool_] = (ahead + radii > NEAR_M) & ~beside & ~above
        return seen

    def horizon_row(self) -> int:
        """The highest pixel row that can show floor, 0 to height."""
        middle = (self.height - 1) / 2 + self.focal_px * math.tan(self.pitch) / max(math.cos(self.roll), 1e-3)
        drop = abs(math.tan(self.roll)) * self.width / 2
        return min(max(math.floor(middle - drop) - 1, 0), self.height)

    def floor_to_pixels(self) -> Points:
        """The homography (3, 3) that takes floor metres (x, y, 1) to homogeneous pixels."""
        lens = np.array(
            [
                [self.focal_px, 0, (self.width - 1) / 2],
                [0, self.focal_px, (self.height - 1) / 2],
                [0, 0, 1],
            ]
        )
        pose = np.column_stack([self.rotation[:, 0], self.rotation[:, 1], -self.rotation @ self.origin])
        product: Points = lens @ pose
        return product


def cross(a: Points, b: Points) -> Points:
    """The vector product of two (3,) vectors; numpy's own takes ten times as long for so little."""
    (ax, ay, az), (bx, by, bz) = a.tolist(), b.tolist()
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])
