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


def draw(frame_bgr: NDArray[np.uint8], detections: Detections, *, footer: str = "") -> NDArray[np.uint8]:
    """Return a copy of a frame with its detections and a line of text at the bottom.

    The strongest detections are drawn last, on top of the weaker ones.

    Args:
        frame_bgr: (H, W, 3) uint8; not changed.
        detections: boxes in pixels of this frame.
        footer: one line, `INT8 18.2 ms` for example; none where empty.
    """
    import cv2

    frame = frame_bgr.copy()
    height, width = frame.shape[:2]
    pen = _pen(height, width)
    for index in reversed(range(len(detections))):
        x1, y1, x2, y2 = (round(float(value)) for value in detections.boxes_xyxy[index])
        colour = class_colour(int(detections.class_ids[index]))
        cv2.rectangle(frame, (x1, y1), (min(x2, width - 1), min(y2, height - 1)), colour, pen.line)
    # Labels after all boxes, so that no line runs through a word.
    for index in reversed(range(len(detections))):
        x1, y1 = (round(float(value)) for value in detections.boxes_xyxy[index, :2])
        colour = class_colour(int(detections.class_ids[index]))
        text = f"{detections.label(index)} {float(detections.scores[index]):.2f}"
        _label(frame, text, x1, y1, colour, pen)
    if footer:
        _label(frame, footer, 0, height, _DARK, pen)
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


def _label(frame: NDArray[np.uint8], text: str, left: int, bottom: int, colour: Colour, pen: _Pen) -> None:
    """Write text on a filled box whose lower left corner is at (left, bottom), moved as far as it takes to be seen."""
    import cv2

    text = _printable(text)
    (text_width, text_height), baseline = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, pen.text, pen.stroke)
    height, width = frame.shape[:2]
    box_width, box_height = text_width + 2 * pen.margin, text_height + baseline + pen.margin
    left = max(0, min(left - pen.line // 2, width - box_width))
    top = max(0, min(bottom - box_height, height - box_height))
    cv2.rectangle(frame, (left, top), (left + box_width, top + box_height), colour, cv2.FILLED)
    luma = sum(weight * part for weight, part in zip(_LUMA, colour, strict=True))
    ink = _LIGHT if luma < _MIDDLE_LUMA else _DARK
    origin = (left + pen.margin, top + text_height + pen.margin // 2)
    cv2.putText(frame, text, origin, cv2.FONT_HERSHEY_SIMPLEX, pen.text, ink, pen.stroke, cv2.LINE_AA)


def _printable(text: str) -> str:
    """Replace what OpenCV's letters do not have: they end with ASCII, and others would come out as question marks."""
    import unicodedata

    plain = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in plain if not unicodedata.combining(letter)).encode("ascii", "replace").decode()
