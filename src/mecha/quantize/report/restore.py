"""What a report was made of, read back from what was written, so that it can be written again with more in it."""

import base64
import binascii
import json
from html.parser import HTMLParser
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mecha.errors import IntegrityError
from mecha.quantize.report.rows import BlockRow, Facts, FloatConv, Report, Sample, TensorRow
from mecha.store.manifest import Int8Record
from mecha.store.spec import ModelSpec

_JPEG = "data:image/jpeg;base64,"
# Of the reports that do not say it.
_THRESHOLD = 0.25


def restored(document: str, page: str, spec: ModelSpec, record: Int8Record) -> tuple[Report | None, Facts]:
    """Return what `document.document` and `page.page` wrote, with another record of the build.

    Pictures are taken from the page, as nothing else holds them.

    Args:
        document: report.json.
        page: report.html.
        spec: of the model.
        record: takes the place of the record that the report had.

    Raises:
        IntegrityError: they are not what this version writes.
    """
    try:
        data = json.loads(document)
        facts = Facts(
            spec=spec,
            record=record,
            created=str(data["created"]),
            fp32_bytes=int(data["fp32_bytes"]),
            int8_bytes=int(data["int8_bytes"]),
            tools=dict(data["tools"]),
            device=dict(data["device"]),
            fault=data["fault"] or "",
        )
        return (None if data["threads"] is None else _report(data, page)), facts
    except (ValidationError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise IntegrityError(
            "the report is not as this version of mecha writes it",
            hint=f"`mecha models quantize {spec.name}` builds INT8 again, with its report.",
        ) from error


def _report(data: dict[str, Any], page: str) -> Report:
    return Report(
        tensors=TypeAdapter(tuple[TensorRow, ...]).validate_python(data["tensors"]),
        blocks=TypeAdapter(tuple[BlockRow, ...]).validate_python(data["blocks"]),
        float_convs=TypeAdapter(tuple[FloatConv, ...]).validate_python(data["left_float"]),
        samples=_samples(data["samples"], page),
        threshold=float(data.get("threshold") or _THRESHOLD),
        frames=int(data["frames"]),
        frames_description=str(data["frames_description"]),
        threads=int(data["threads"]),
        skipped=tuple(data["skipped"]),
    )


def _samples(counts: list[dict[str, int]], page: str) -> tuple[Sample, ...]:
    """Pair the pictures of a page, FP32 before INT8, with what either precision found on them."""
    pictures = _Pictures()
    pictures.feed(page)
    sides = zip(counts, pictures.found[::2], pictures.found[1::2], strict=True)
    return tuple(
        Sample(
            width=width,
            height=height,
            fp32_count=count["fp32_detections"],
            int8_count=count["int8_detections"],
            fp32_jpeg=fp32,
            int8_jpeg=int8,
        )
        for count, (width, height, fp32), (_, _, int8) in sides
    )


class _Pictures(HTMLParser):
    """Gathers the pictures that a page holds: width and height in pixels, and the bytes of a JPEG."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, int, bytes]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take a picture."""
        said = dict(attrs)
        source = said.get("src") or ""
        if tag != "img" or not source.startswith(_JPEG):
            return
        try:
            jpeg = base64.b64decode(source.removeprefix(_JPEG), validate=True)
        except binascii.Error as error:
            raise ValueError("a picture that is not base64") from error
        self.found.append((int(said["width"] or 0), int(said["height"] or 0), jpeg))
