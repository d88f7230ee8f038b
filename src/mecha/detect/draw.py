"""Detections drawn on a frame, to be looked at."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mecha.detect.detections import Detections

Colour = tuple[int, int, int]

# Hues that follow each other by the golden ratio stay as far apart as their number allows.
_GOLDEN_RATIO = 0.618034
_HUES = 180  # OpenCV's hue of a byte image
_DARK, _LIGHT = (20, 20, 20), (255, 255, 255)
# Of ITU-R BT.601, for blue, green, red: how bright a colour looks.
_LUMA = (0.114, 0.587, 0.299)
# Light text on a colour darker than this, dark text on a lighter one.
_MIDDLE_LUMA = 140


@dataclass(frozen=True, slots=True)
class _Pen:
    """Sizes that suit a frame: lines and letters look the same on a thumbnail and on a 4K frame."""

    line: int
    text: float
    stroke: int
    margin: int


@dataclass(frozen=True, slots=True)
class _Box:
    """A filled rectangle that text stands on; right and bottom are outside."""

    left: int
    top: int
    right: int
    bottom: int

    def overlaps(self, other: "_Box") -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def draw(frame_bgr: NDArray[np.uint8], detections: Detections, *, footer: str = "") -> NDArray[np.uint8]:
    """Return a copy of a frame with its detections and a line of text at the bottom.

    Every detection has its box. Labels are placed from the strongest on; a weaker one is left out where it would cover
    another, because neither could be read.

    Args:
        frame_bgr: (H, W, 3) uint8; not changed.
        detections: boxes in pixels of this frame, strongest first.
        footer: one line, `INT8 18.2 ms` for example; none where empty. On a narrow frame its last words are left out.
    """
    import cv2

    frame = frame_bgr.copy()
    height, width = frame.shape[:2]
    pen = _pen(height, width)
    corners = [tuple(round(float(value)) for value in box) for box in detections.boxes_xyxy]
    for index in reversed(range(len(detections))):
        x1, y1, x2, y2 = corners[index]
        colour = class_colour(int(detections.class_ids[index]))
        cv2.rectangle(frame, (x1, y1), (min(x2, width - 1), min(y2, height - 1)), colour, pen.line)
    # Labels after all boxes, so that no line runs through a word.
    taken: list[_Box] = []
    if footer:
        text, size = _fitted(footer, width, pen)
        taken.append(_inside(0, height - size[1], size, frame))
        _write(frame, text, taken[0], _DARK, pen)
    for index in range(len(detections)):
        text, size = _fitted(f"{detections.label(index)} {float(detections.scores[index]):.2f}", width, pen)
        places = (_inside(left, top, size, frame) for left, top in _places(corners[index], size, pen))
        place = next((place for place in places if not any(place.overlaps(other) for other in taken)), None)
        if place is not None:
            taken.append(place)
            _write(frame, text, place, class_colour(int(detections.class_ids[index])), pen)
    return frame


def class_colour(class_id: int) -> Colour:
    """Return the colour of a class as blue, green, red, the same in every frame."""
    import cv2

    hue = int(class_id * _GOLDEN_RATIO % 1 * _HUES)
    # Three rounds of the hues, each of another strength, tell neighbours of large class numbers apart.
    saturation, value = ((255, 255), (150, 255), (255, 170))[class_id // 12 % 3]
    blue, green, red = cv2.cvtColor(np.array([[[hue, saturation, value]]], dtype=np.uint8), cv2.COLOR_HSV2BGR)[0, 0]
    return int(blue), int(green), int(red)


def _pen(height: int, width: int) -> _Pen:
    unit = (height + width) / 2
    return _Pen(
        line=max(1, round(unit * 0.0028)),
        text=max(0.35, unit * 0.0007),
        stroke=max(1, round(unit * 0.0013)),
        margin=max(2, round(unit * 0.004)),
    )


def _places(corners: tuple[int, ...], size: tuple[int, int], pen: _Pen) -> tuple[tuple[int, int], ...]:
    """Return where a label of this size (width, height) may begin (left, top), the best place first.

    Never below the box: there it would name what is under it.
    """
    x1, y1, x2, y2 = corners
    left, right = x1 - pen.line // 2, x2 + pen.line // 2 + 1 - size[0]
    above = ((left, y1 - size[1]), (right, y1 - size[1]))
    # Within a box that stays visible around it.
    roomy = x2 - x1 >= size[0] and y2 - y1 >= 2 * size[1]
    return (*above, (left, y1), (left, y2 - size[1])) if roomy else above


def _inside(left: int, top: int, size: tuple[int, int], frame: NDArray[np.uint8]) -> _Box:
    """Return a box of this size, moved as far as it takes to be seen."""
    height, width = frame.shape[:2]
    left, top = max(0, min(left, width - size[0])), max(0, min(top, height - size[1]))
    return _Box(left, top, left + size[0], top + size[1])


def _fitted(text: str, width: int, pen: _Pen) -> tuple[str, tuple[int, int]]:
    """Return as many words of a text as fit, at least one, and the size (width, height) of what they stand on."""
    words = _printable(text).split(" ")
    while len(words) > 1 and _size(" ".join(words), pen)[0] > width:
        words.pop()
    fitted = " ".join(words).rstrip()
    return fitted, _size(fitted, pen)


def _size(text: str, pen: _Pen) -> tuple[int, int]:
    import cv2

    (text_width, text_height), baseline = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, pen.text, pen.stroke)
    return text_width + 2 * pen.margin, text_height + baseline + pen.margin


def _write(frame: NDArray[np.uint8], text: str, place: _Box, colour: Colour, pen: _Pen) -> None:
    import cv2

    cv2.rectangle(frame, (place.left, place.top), (place.right - 1, place.bottom - 1), colour, cv2.FILLED)
    luma = sum(weight * part for weight, part in zip(_LUMA, colour, strict=True))
    ink = _LIGHT if luma < _MIDDLE_LUMA else _DARK
    (_, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, pen.text, pen.stroke)
    origin = (place.left + pen.margin, place.top + text_height + pen.margin // 2)
    cv2.putText(frame, text, origin, cv2.FONT_HERSHEY_SIMPLEX, pen.text, ink, pen.stroke, cv2.LINE_AA)


def _printable(text: str) -> str:
    """Replace what OpenCV's letters do not have: they end with ASCII, and others would come out as question marks."""
    import unicodedata

    plain = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in plain if not unicodedata.combining(letter)).encode("ascii", "replace").decode()
