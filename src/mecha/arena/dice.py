"""Random choices a world is made of."""

import numpy as np

from mecha.arena.painter import Colour


def chance(rng: np.random.Generator, share: float) -> bool:
    """True in `share` (0-1) of all calls."""
    return bool(rng.uniform() < share)


def random_colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
    """A colour of any hue, saturation and value drawn from the given ranges (0-1)."""
    return hsv(rng.uniform(0, 1), rng.uniform(*saturation), rng.uniform(*value))


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """The colour (3,) blue, green, red 0-255 of hue (turns), saturation and value (0-1)."""
    wheel = np.abs(((hue + np.array([1 / 3, 2 / 3, 1.0])) % 1) * 6 - 3) - 1
    colour: Colour = 255 * value * (1 - saturation * (1 - np.clip(wheel, 0, 1)))
    return colour
