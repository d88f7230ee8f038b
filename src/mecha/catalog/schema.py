"""model_catalog.toml as a type: one `[[models]]` table is a ModelCatalogEntry. Unknown keys are refused."""

import re
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from mecha.catalog.labels import COCO_LABELS
from mecha.catalog.names import NAME_WORDS, is_model_name
from mecha.validation import Expected, Frozen
from mecha.words import is_printable

PreprocessingPreset = Literal["yolo", "yolox", "detr", "nanodet", "imagenet", "raw"]
Family = Literal["yolov8", "yolov5", "yolox", "end_to_end", "detr", "nanodet"]
Method = Literal["dynamic_int8", "static_int8", "auto"]
RangeMethod = Literal["auto", "most_frames", "mean_minmax", "percentile", "mse", "mae", "minmax", "entropy"]
Scheme = Literal["uniform", "symmetric", "power_of_two"]
Target = Literal["auto", "x86_64", "x86_64-vnni", "arm64"]

_REPO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)?")
_REPO_WORDS = "a repo of the Hub: owner/name"
_PATH_WORDS = "the path of a file in the repo"


def _refused(expected: str) -> PydanticCustomError:
    return PydanticCustomError("expected", "{words}", {"words": expected})


def _fault(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("fault", "{sentence}", {"sentence": sentence})


def _name(value: object) -> object:
    if isinstance(value, str) and not is_model_name(value):
        raise _refused(NAME_WORDS)
    return value


def _repo(value: object) -> object:
    if isinstance(value, str) and (_REPO.fullmatch(value) is None or ".." in value or "--" in value):
        raise _refused(_REPO_WORDS)
    return value


def _repo_path(value: object) -> object:
    """Refuse what could leave the repo, or a local folder the file is mirrored into."""
    if not isinstance(value, str):
        return value
    path = PurePosixPath(value)
    elsewhere = not path.parts or path.is_absolute() or ".." in path.parts or value != str(path)
    # A drive or a stream of Windows has a colon; no file system and no terminal takes control characters well.
    if elsewhere or "\\" in value or ":" in value or not is_printable(value):
        raise _refused(_PATH_WORDS)
    return value


def source_fault(keys: Collection[str]) -> str | None:
    """Say what is wrong with the keys of an entry that tell where the model is; None when nothing is."""
    named = [key for key in ("repo", "filename", "path") if key in keys]
    if named not in (["repo", "filename"], ["path"]):
        return f"got {' and '.join(named) or 'none'}; expected repo and filename, or path"
    return "got revision with path; expected it with repo only" if named == ["path"] and "revision" in keys else None


def _printable(value: str) -> str:
    if not is_printable(value):
        raise _refused("a text of one line, without control characters")
    return value


def _folded(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


_Text = Annotated[str, Field(min_length=1), AfterValidator(_printable)]
_Name = Annotated[str, BeforeValidator(_name), Expected(NAME_WORDS)]
_Repo = Annotated[str, BeforeValidator(_repo), Expected(_REPO_WORDS)]
_RepoPath = Annotated[str, BeforeValidator(_repo_path)]
_Filename = Annotated[_RepoPath, Expected(f'{_PATH_WORDS}, as in "yolov8n/model.onnx"')]
_Task = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$"), Expected('a task, as in "object-detection"')]
_Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$"), Expected("a branch, tag or commit")]
_Digest = Annotated[
    str, BeforeValidator(_folded), Field(pattern=r"^[0-9a-f]{64}$"), Expected("a sha256 of 64 hex digits")
]
_Bytes = Annotated[int, Field(gt=0), Expected("bytes, a whole number above 0")]
_Pixels = Annotated[int, Field(ge=32, le=4096), Expected("pixels, from 32 to 4096")]
_Labels = Annotated[
    tuple[_Text, ...] | _RepoPath, Expected('a list of names, "coco", or the path of a label file in the repo')
]
_Share = Annotated[float, Field(ge=0, le=1), Expected("a share from 0 to 1, as in 0.01")]
_Deviations = Annotated[float, Field(gt=0), Expected("standard deviations, a number above 0")]
_Samples = Annotated[int, Field(ge=1, le=4096), Expected("a whole number from 1 to 4096")]


class CalibrationConfig(Frozen):
    """`[models.quantize.calibration]`: the photos INT8 is calibrated on. One of path, data, list and repo.

    Attributes:
        path: folder of photos, one photo or a video. Relative to the catalog file, as data and list are.
        data: an Ultralytics dataset file (coco8.yaml).
        list: a text file with the path of one photo a line.
        repo: a repo of the Hub; `files` names the photos in it.
        samples: frames taken, 1 to 4096.
    """

    path: _Text | None = None
    data: _Text | None = None
    list: _Text | None = None
    repo: _Repo | None = None
    repo_type: Literal["model", "dataset"] = "dataset"
    files: tuple[_RepoPath, ...] = ()
    samples: _Samples = 32

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        named = [key for key in ("path", "data", "list", "repo") if getattr(self, key) is not None]
        if len(named) != 1:
            raise _fault(f"got {' and '.join(named) or 'none'}; expected one of path, data, list and repo")
        if self.repo is not None and not self.files:
            raise _fault("got repo without files; expected files = [...], the photos in the repo")
        for key in ("files", "repo_type"):
            # What a build is told of it says every key, those that have their default too.
            if self.repo is None and getattr(self, key) != type(self).model_fields[key].default:
                raise _fault(f"got {key} with {named[0]}; expected it with repo only")
        return self


class QuantizeConfig(Frozen):
    """`[models.quantize]`: how INT8 is made.

    Attributes:
        enabled: a pull makes INT8.
        method: "auto" lets mecha choose.
        escalate: try the next method when the verdict is not `faster`.
        range: how the range of a tensor is found from calibration frames; static_int8 only.
        max_accuracy_drop: how far INT8 may fall behind FP32 before it counts as wrong, 0 to 1.
        exclude_nodes: ONNX nodes left float.
        truncate: tensors after which everything is left float; empty lets mecha find the decode tail.
        scheme: form of the INT8 scales; static_int8 only, as all that follows.
        z_threshold: values farther from the mean than so many standard deviations are left out of every range.
        equalization: spread the channels of a tensor evenly where the activation allows it.
        rounding: round weights so that the output of their Conv stays, not each to its nearest integer.
        bias_correction: take off each bias what rounding adds to the mean.
        mixed_precision: leave float what does most harm in integers.
        target: the kind of CPU that the file is for; "auto" is this device's.
    """

    enabled: bool = True
    method: Method = "auto"
    escalate: bool = True
    range: RangeMethod = "auto"
    max_accuracy_drop: _Share = 0.01
    exclude_nodes: tuple[str, ...] = ()
    truncate: tuple[str, ...] = ()
    scheme: Scheme = "uniform"
    z_threshold: _Deviations | None = None
    equalization: bool = True
    rounding: bool = True
    bias_correction: bool = True
    mixed_precision: bool = True
    target: Target = "auto"
    calibration: CalibrationConfig | None = None


class ModelCatalogEntry(Frozen):
    """`[[models]]`: one model that can be pulled. It says where the model is by repo and filename, or by path.

    Attributes:
        name: the folder it is published as.
        repo: where it is on the Hub; filename is the ONNX file in it. Both empty for a file on this device.
        path: the ONNX file on this device, None for one of the Hub. Relative to the catalog file.
        preprocessing_preset: what becomes of a frame before the model sees it; None means the family's own way.
        revision: branch, tag or commit; None means "main", or what mecha.lock pins.
        sha256: digest the file must have, lower-case hex.
        size_bytes: size the file must have.
        license: SPDX identifier; None means what the Hub states.
        input_size: height and width that a model with dynamic axes runs at, pixels.
        family: how outputs are decoded; None means found from the model.
        labels: class names by class id, "coco", or the path of a label file in the repo, or from the folder of `path`;
            None means from the model's metadata. `label_names` and `label_file` tell which.
        quantize: disabled when the entry has no such table.
    """

    name: _Name
    description: Annotated[str, AfterValidator(_printable)] = ""
    task: _Task = "object-detection"
    repo: _Repo = ""
    filename: _Filename = ""
    path: _Text | None = None
    preprocessing_preset: PreprocessingPreset | None = None
    revision: _Revision | None = None
    sha256: _Digest | None = None
    size_bytes: _Bytes | None = None
    license: _Text | None = None
    input_size: _Pixels | None = None
    family: Family | None = None
    labels: _Labels | None = None
    quantize: QuantizeConfig = QuantizeConfig(enabled=False)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        fault = source_fault(self.model_fields_set)
        if fault is not None:
            raise _fault(fault)
        return self

    @property
    def where(self) -> str:
        """The ONNX file in words: `deepghs/yolos/yolov8n/model.onnx`, or its path."""
        return self.path or f"{self.repo}/{self.filename}"

    @property
    def label_file(self) -> str | None:
        """The path of the label file, None when the entry names none."""
        return self.labels if isinstance(self.labels, str) and self.labels != "coco" else None

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The class names that the entry itself gives, None when it gives none."""
        if self.labels == "coco":
            return COCO_LABELS
        return self.labels if isinstance(self.labels, tuple) else None
