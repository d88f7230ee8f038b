"""Rendered scenes with ground truth, and scenes for calibration. The public face of the arena.

- `ArenaCamera(seed, width, height).scene(index)`: a live camera that drives round one arena.
- `training_scene(seed, width, height)`: a scene of its own for every seed.
- `calibration_scene(seed, index, width, height)`: dead leaves, a frame without objects and without truth.
"""

from mecha.arena.camera import FRAMES_PER_SECOND, ArenaCamera, training_scene
from mecha.arena.labels import CLASS_NAMES, Scene
from mecha.arena.leaves import calibration_scene

__all__ = ["CLASS_NAMES", "FRAMES_PER_SECOND", "ArenaCamera", "Scene", "calibration_scene", "training_scene"]
