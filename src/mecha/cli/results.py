"""Detections as text files: JSON lines, and COCO results."""

import json
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mecha.cli.context import count_text
from mecha.cli.output import Output

if TYPE_CHECKING:
    from mecha.cli.found import Found
    from mecha.runtime.sources import FrameSource


class JsonLines(Output):
    """One JSON document a frame, as `mecha detect --json` writes; each line is there once its frame is done."""

    _file: IO[str]

    def open(self) -> None:
        """Begin the file; see `Output.open`."""
        from mecha.store.atomic import disk_error

        super().open()
        try:
            self._file = self.out.open("w", encoding="utf-8", newline="\n")
        except OSError as error:
            raise disk_error(error, self.out, "write") from error

    def write(self, found: "Found") -> None:
        """Write one line; see `Output.add`."""
        from mecha.store.atomic import disk_error

        try:
            self._file.write(f"{json.dumps(found.to_json())}\n")
            self._file.flush()
        except OSError as error:
            raise disk_error(error, self.out, "write") from error

    def close(self) -> None:
        """Close the file; see `Output.close`."""
        self._file.close()


class CocoResults(Output):
    """The list that COCO's evaluation takes: image_id, category_id, bbox [x, y, width, height], score.

    An image id is the number that a picture is named by, as COCO names its own; where not every picture has such a name
    of its own, the position of the frame, from 1. A category id is the class id. The file appears when it is closed.
    """

    def __init__(self, out: Path, source: "FrameSource") -> None:
        from mecha.runtime.sources.pictures import PictureSource

        super().__init__(out)
        names = [file.stem for file in source.files] if isinstance(source, PictureSource) else []
        numbers = {int(name) for name in names if name.isascii() and name.isdigit()}
        self._numbered = len(numbers) == len(names) > 0
        # One text a frame: results as objects would take ten times the memory.
        self._parts: list[str] = []
        self._results = 0

    def write(self, found: "Found") -> None:
        """Take the results of one frame; see `Output.add`."""
        image_id = int(found.file_stem) if self._numbered else found.index + 1
        results = found.result.detections.to_coco(image_id)
        self._parts += [",\n".join(json.dumps(result) for result in results)] if results else []
        self._results += len(results)

    def close(self) -> None:
        """Write the file; see `Output.close`."""
        from mecha.store.atomic import write_file

        inner = ",\n".join(self._parts)
        write_file(self.out, f"[\n{inner}\n]\n".encode() if inner else b"[]\n")

    def summary(self) -> str:
        """Say what was written."""
        return f"{self.out}, {count_text(self._results, 'detection')} on {count_text(self.count, 'frame')}"
