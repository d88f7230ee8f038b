"""Draws solid things into a frame and keeps book of which pixel belongs to which object."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mecha.arena.labels import Scene
from mecha.arena.optics import NEAR_M, Points, View

Colour = NDArray[np.float64]

# An object is in the ground truth when at least this share of its outline lies in the frame ...
MIN_IN_FRAME = 0.12
# ... at least this share of that part can be seen ...
MIN_VISIBLE = 0.35
# ... and its box is at least this long on both sides, for a frame whose longer side is 320 pixels.
MIN_SIDE_AT_320 = 10.0

_SHIFT = 4


@dataclass(frozen=True)
class Light:
    """One lamp far away, and light from everywhere.

    Attributes:
        direction: (3,) unit vector in which the light travels; its z is negative.
        ambient: brightness of a face turned away from the lamp, 0-1.
    """

    direction: Points
    ambient: float

    def on(self, normal: Points) -> Points:
        """Brightness (...,) in [ambient, 1] of faces with unit normals (..., 3)."""
        facing: Points = self.ambient + (1 - self.ambient) * np.clip(-(normal @ self.direction), 0, 1)
        return facing


class Painter:
    """A frame under construction: later drawings cover earlier ones, in the picture and in the ground truth."""

    def __init__(self, frame_bgr: NDArray[np.uint8], view: View, light: Light) -> None:
        self.frame_bgr = frame_bgr
        self.view = view
        self.light = light
        self._owners = np.zeros(frame_bgr.shape[:2], np.uint8)
        self._classes: list[int] = []
        self._outlines: list[list[Points]] = []
        self._owner = 0

    def begin(self, class_id: int | None) -> None:
        """What is drawn from now on as solid belongs to a new object, or to none (class_id None)."""
        if class_id is None or len(self._classes) == np.iinfo(np.uint8).max:
            self._owner = 0
            return
        self._classes.append(class_id)
        self._outlines.append([])
        self._owner = len(self._classes)

    def project(self, points: Points) -> Points | None:
        """World points (..., 3) as pixels (..., 2); None when any of them is not in front of the camera."""
        camera_points = self.view.to_camera(points)
        return None if camera_points[..., 2].min() < NEAR_M else self.view.to_pixels(camera_points)

    def solid(self, pixels: Points, colour: Colour) -> None:
        """Fill a convex polygon (N, 2) that hides what is behind it."""
        corners = _fixed(pixels)
        cv2.fillConvexPoly(self.frame_bgr, corners, colour.tolist(), cv2.LINE_AA, _SHIFT)
        cv2.fillConvexPoly(self._owners, corners, self._owner, cv2.LINE_8, _SHIFT)
        if self._owner:
            self._outlines[self._owner - 1].append(pixels)

    def detail(self, pixels: Points, colour: Colour) -> None:
        """Fill a convex polygon (N, 2) on the surface of something solid."""
        cv2.fillConvexPoly(self.frame_bgr, _fixed(pixels), colour.tolist(), cv2.LINE_AA, _SHIFT)

    def details(self, polygons: Points, colours: Points) -> None:
        """Fill convex polygons of as many corners each, (K, N, 2), in colours (K, 3), in this order."""
        if len(polygons):
            for corners, colour in zip(_fixed(polygons), colours.tolist(), strict=True):
                cv2.fillConvexPoly(self.frame_bgr, corners, colour, cv2.LINE_AA, _SHIFT)

    def disc(self, centre: Points, radius_px: float, colour: Colour, *, solid: bool = False) -> None:
        """Fill a circle; a solid one hides what is behind it."""
        middle = tuple(np.rint(centre * (1 << _SHIFT)).astype(int).tolist())
        radius = max(1, round(radius_px * (1 << _SHIFT)))
        cv2.circle(self.frame_bgr, middle, radius, colour.tolist(), -1, cv2.LINE_AA, _SHIFT)
        if solid:
            cv2.circle(self._owners, middle, radius, self._owner, -1, cv2.LINE_8, _SHIFT)
            if self._owner:
                turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
                rim = centre + radius_px * np.stack([np.cos(turn), np.sin(turn)], axis=1)
                self._outlines[self._owner - 1].append(rim)

    def line(self, pixels: Points, thickness_px: float, colour: Colour) -> None:
        """Draw an open line (N, 2) on the surface of something solid."""
        width = max(1, round(thickness_px))
        cv2.polylines(self.frame_bgr, [_fixed(pixels)], False, colour.tolist(), width, cv2.LINE_AA, _SHIFT)

    def finish(self) -> Scene:
        """The scene: the frame as it is now, and the objects of which enough can be seen."""
        boxes, class_ids = [], []
        min_side = MIN_SIDE_AT_320 * max(self.view.width, self.view.height) / 320
        for index, outline in enumerate(self._outlines):
            box = self._visible_box(index + 1, outline, min_side) if outline else None
            if box is not None:
                boxes.append(box)
                class_ids.append(self._classes[index])
        return Scene(
            self.frame_bgr,
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(class_ids, np.int32),
        )

    def _visible_box(self, owner: int, outline: list[Points], min_side: float) -> tuple[int, int, int, int] | None:
        corners = np.concatenate(outline).astype(np.float32)
        left, top = np.clip(np.floor(corners.min(axis=0)).astype(int) - 1, 0, None)
        right, bottom = np.ceil(corners.max(axis=0)).astype(int) + 2
        patch = self._owners[top : max(top, bottom), left : max(left, right)]
        if patch.size == 0:
            return None
        mask = (patch == owner).view(np.uint8)
        x, y, width, height = cv2.boundingRect(mask)
        if min(width, height) < max(1.0, min_side):
            return None
        hull = cv2.convexHull(corners)
        frame = np.array([[0, 0], [self.view.width, 0], [self.view.width, self.view.height], [0, self.view.height]])
        in_frame = cv2.intersectConvexConvex(hull, frame.astype(np.float32))[0]
        if in_frame < MIN_IN_FRAME * cv2.contourArea(hull) or cv2.countNonZero(mask) < MIN_VISIBLE * in_frame:
            return None
        return left + x, top + y, left + x + width, top + y + height


def _fixed(pixels: Points) -> NDArray[np.int32]:
    return np.rint(pixels * (1 << _SHIFT)).astype(np.int32)
