"""config.json of a published model: what a program must know to feed it and to read its outputs."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mecha.catalog.schema import PreprocessingPreset
from mecha.validation import Frozen

__all__ = ["Frozen", "InputSpec", "Int8Summary", "ModelSpec", "PreprocessingPreset", "SourceSpec", "serialised"]


class InputSpec(Frozen):
    """The image input.

    Attributes:
        name: name of the ONNX input.
        height: pixels; for a dynamic model the size that mecha runs.
        width: pixels.
        dynamic: the ONNX input accepts other sizes.
        stride: height and width must be multiples of it.
    """

    name: str
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    dynamic: bool = False
    stride: int = 32


class SourceSpec(Frozen):
    """Where the FP32 file came from; repo and revision are empty for a file of this device."""

    repo: str
    filename: str
    revision: str


class Int8Summary(Frozen):
    """INT8 in one glance; the whole story is in manifest.json.

    Attributes:
        method: "published" where model.onnx itself is INT8, which was never measured against FP32: verdict is None.
    """

    method: str
    verdict: str | None = None
    speedup: float | None = None
    agreement: float | None = None
    provisional: bool = False


class ModelSpec(Frozen):
    """config.json.

    Attributes:
        family: how outputs are decoded, or None where mecha cannot decode them.
        classes: class names by class id.
        licence: SPDX identifier as the catalog or the Hub states it, "unknown" otherwise.
        int8: None while there is no INT8 build.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    name: str
    task: str
    family: str | None
    input: InputSpec
    preprocessing: PreprocessingPreset
    classes: tuple[str, ...]
    source: SourceSpec
    licence: str = "unknown"
    int8: Int8Summary | None = None

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def serialised(document: BaseModel) -> bytes:
    """Return config.json or manifest.json as it is written: the keys in the order of the class, by their alias."""
    return f"{document.model_dump_json(by_alias=True, indent=2)}\n".encode()
