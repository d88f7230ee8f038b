"""A camera that drives round the arena, and single views for training."""

import math
from dataclasses import replace

import numpy as np

from mecha.arena.labels import Scene
from mecha.arena.optics import Points, View
from mecha.arena.world import World, random_world

FRAMES_PER_SECOND = 30

# Props stay within this distance of the middle, the live camera outside of it: nothing hits the lens.
_ROOM_M = 2.3
_TRACK_M = 3.1

_FURNITURE = ("cone", "ball", "crate", "tag") * 3 + ("barrel",)


class ArenaCamera:
    """A synthetic camera on a robot that drives round a furnished arena.

    The same seed, size and index give the same scene, in any order.

    Args:
        seed: which arena, and which drive through it.
        width: pixels, at least 1.
        height: pixels, at least 1.
    """

    def __init__(self, seed: int = 0, width: int = 640, height: int = 480) -> None:
        rng = np.random.default_rng([seed, 1])
        self._seed = seed
        self._size = (width, height)
        kinds = rng.permutation(_FURNITURE).tolist()
        world = random_world(rng, 1024, _ROOM_M, kinds)
        self._world: World = replace(world, gain=1.05, noise=world.noise / 3)
        self._phases = rng.uniform(0, 2 * math.pi, 5)
        self._turns = rng.choice([-1.0, 1.0])

    def scene(self, index: int) -> Scene:
        """Frame `index` (0, 1, 2 …) of the drive, at 30 frames per second of the arena's time."""
        time_s = index / FRAMES_PER_SECOND
        sway = np.sin(self._phases + time_s * np.array([0.31, 0.23, 0.37, 0.19, 0.43]))
        angle = self._phases[0] + self._turns * 0.16 * time_s
        radius = _TRACK_M + 0.35 * sway[0]
        position = np.array([radius * math.cos(angle), radius * math.sin(angle), 0.85 + 0.3 * sway[1]])
        target = np.array([0.7 * sway[2], 0.7 * sway[3], 0.1])
        view = _view_of(self._size, position, target, roll=0.02 * sway[4], fov=1.15)
        return self._world.render(view, time_s, index)


def training_scene(seed: int, width: int = 320, height: int = 320) -> Scene:
    """One scene of its own: another arena, light, lens and point of view for each seed."""
    rng = np.random.default_rng([seed, 2])
    world = random_world(rng, 512, rng.uniform(1.6, 3.3))
    time_s = rng.uniform(0, 60)
    position = np.array([0.0, 0.0, rng.uniform(0.3, 1.6)])
    for _ in range(20):
        distance, angle = rng.uniform(0.8, 3.6), rng.uniform(0, 2 * math.pi)
        position[:2] = min(distance, 3.6) * np.array([math.cos(angle), math.sin(angle)])
        if world.clear_of(position, time_s, 0.45):
            break
    target = np.array([*rng.uniform(-1.3, 1.3, 2), rng.uniform(-0.2, 0.5)])
    view = _view_of((width, height), position, target, roll=rng.normal(0, 0.05), fov=rng.uniform(0.85, 1.4))
    return world.render(view, time_s, seed)


def _view_of(size: tuple[int, int], position: Points, target: Points, *, roll: float, fov: float) -> View:
    ahead = target - position
    yaw, pitch = math.atan2(ahead[1], ahead[0]), math.atan2(ahead[2], math.hypot(ahead[0], ahead[1]))
    x, y, z = position.tolist()
    return View(*size, (x, y, z), yaw, pitch, float(roll), fov)
