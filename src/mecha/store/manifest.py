"""manifest.json of a published model: digests, origin, recipe, gate result. Written last: no manifest, no model."""

from hashlib import sha256
from typing import Literal

from pydantic import ConfigDict, Field

from mecha.store.filenames import FileName
from mecha.store.pins import LockedFile
from mecha.store.spec import Frozen, serialised

Verdict = Literal["faster", "slower", "wrong", "unloadable"]


class FileRecord(Frozen):
    """One published file: lower-case hex sha256 and size."""

    sha256: str
    size_bytes: int


class OriginRecord(Frozen):
    """Where the FP32 file came from.

    Attributes:
        kind: "file" for one of this device, whose repo, revision and etag are empty.
        filename: in the repo; for a file of this device its path from the project's root, or the whole one.
        revision: the commit it was resolved to.
        requested_revision: what the catalog or the user asked for ("main" by default).
        etag: validator the server gave; the sha256 for LFS files.
    """

    repo: str
    filename: str
    revision: str
    requested_revision: str
    etag: str
    kind: Literal["hub", "file"] = "hub"


class LatencyRecord(Frozen):
    """Times of FP32 and INT8 in turns on this device, milliseconds.

    Attributes:
        fp32_exported_ms: model.onnx run whole in plain onnxruntime, the median.
        fp32_ms: the FP32 session as mecha runs it, in the round whose ratio of FP32 to INT8 is the median one.
        int8_ms: the INT8 session as mecha runs it, in the same round.
        runs: timed runs of each.
    """

    threads: int
    runs: int
    fp32_exported_ms: float
    fp32_ms: float
    int8_ms: float


class MemoryRecord(Frozen):
    """Resident memory that each precision adds to a process that loads and runs it, 10^6 bytes.

    Measured in a process of its own for each, as mecha runs it, without what the libraries take that both need.
    """

    threads: int
    fp32_mb: float
    int8_mb: float


class AgreementRecord(Frozen):
    """How far INT8 gives what FP32 gives, on frames not used for calibration.

    Attributes:
        agreement: 0 to 1, the number that is compared with the limit.
        f1: F1 of INT8 detections against FP32 detections by score threshold ("0.25"), IoU 0.5 and same class;
            a threshold at which FP32 finds too little is absent.
        detections: FP32 detections the F1 rests on, by score threshold.
        score_error: mean absolute difference of the best class score over FP32's strongest anchors.
        box_iou: mean IoU of the boxes at those anchors.
    """

    frames: int
    agreement: float
    f1: dict[str, float]
    detections: dict[str, int]
    score_error: float
    box_iou: float


class GateRecord(Frozen):
    """The measurement after a build.

    Attributes:
        reason: one sentence that says why the verdict is what it is.
        speedup: fp32_ms / int8_ms, None when INT8 could not run.
        float_convs: Convs left float in the optimized INT8 region, by node name.
        memory: None where INT8 is not right, or it could not be measured.
    """

    verdict: Verdict
    reason: str
    speedup: float | None = None
    agreement: AgreementRecord | None = None
    latency: LatencyRecord | None = None
    float_convs: tuple[str, ...] = ()
    memory: MemoryRecord | None = None


class CalibrationRecord(Frozen):
    """The frames INT8 was calibrated on; provisional means built-in scenes only.

    Attributes:
        seen_digest: of the frames, where a node kept them on this device and they stand in for what the catalog names.
    """

    description: str
    frames: int
    digest: str
    provisional: bool
    seen_digest: str = ""


class ChosenCalibration(Frozen):
    """What a user chose to calibrate on, in the place of what the catalog names; pulls keep to it.

    Attributes:
        source: a folder, a photo, a video, a list (.txt) or a dataset file (.yaml): its path from the project's root,
            or the whole one where it lies elsewhere.
        samples: frames taken.
        digest: of the frames when INT8 was built from them; empty before.
    """

    source: str
    samples: int
    digest: str = ""


class ChangeRecord(Frozen):
    """How far the INT8 that was published before, and the one in its place, agree with FP32 on the frames of the gate.

    Attributes:
        before, after: 0 to 1; F1 of detections, or the overlap of raw scores where there are too few. The gate's
            agreement is the smallest F1 of any threshold, this one is over all of them.
    """

    frames: int
    before: float
    after: float


class TriedRecord(Frozen):
    """One method that was built and gated, published or not."""

    method: str
    verdict: Verdict
    reason: str
    speedup: float | None = None
    agreement: float | None = None


class GainRecord(Frozen):
    """One technique that was tried on a build.

    Attributes:
        before, after: error of the outputs without it and with it, a ratio of powers: lower is better.
        kept: the build has it.
    """

    technique: str
    before: float
    after: float
    kept: bool


class CurveRecord(Frozen):
    """One step of mixed precision.

    Attributes:
        left_float: Convs added to those left float at the step before; empty at first.
        error: of the outputs, as in GainRecord, with all of them float.
        cost_ms: milliseconds a frame that all of them cost here, against all of them integer.
    """

    left_float: tuple[str, ...]
    error: float
    cost_ms: float


class AccuracyRecord(Frozen):
    """Mean average precision of both precisions on labelled photos, as `mecha models eval` measures it.

    Attributes:
        images: photos it was measured on, all of the data.
        fp32_map, int8_map: mAP50-95, 0 to 1; fp32_map50, int8_map50: mAP50.
        data: name of the annotation file; sha256: of its bytes.
    """

    images: int
    fp32_map: float
    int8_map: float
    fp32_map50: float | None = None
    int8_map50: float | None = None
    data: str = ""
    sha256: str = ""


class Int8Record(Frozen):
    """The INT8 build of this model, or why there is none.

    Attributes:
        state: "built"; "failed" (it could not be made, the next pull tries again); "rejected" (it was made, and the
            gate found nothing that is right: not tried again under the same key); "pending"; "disabled" (the entry
            says so); "published" (model.onnx itself is INT8, taken as it is).
        key: digest of all that the build depends on; a build with another key is stale.
        method: the method that won, "adopted" for a file made elsewhere, "published" where the state is;
            requested_method: what the entry or the user asked for.
        message: one line for people.
        notes: sentences about what is not as it should be, or was done besides.
        gains: techniques in the order they were tried.
        curve: accuracy lost against time saved, the all-integer build first.
        accuracy: None where nobody measured this build on labelled photos; a build never has it.
        chosen: None where INT8 is calibrated on what the catalog names.
        change: None where nothing was published before, or the frames are those that it was built from.
    """

    state: Literal["built", "failed", "rejected", "pending", "disabled", "published"]
    key: str = ""
    requested_method: str = ""
    method: str = ""
    message: str = ""
    calibration: CalibrationRecord | None = None
    gate: GateRecord | None = None
    tried: tuple[TriedRecord, ...] = ()
    left_float: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    gains: tuple[GainRecord, ...] = ()
    curve: tuple[CurveRecord, ...] = ()
    accuracy: AccuracyRecord | None = None
    chosen: ChosenCalibration | None = None
    change: ChangeRecord | None = None


class TunedSession(Frozen):
    """How a session runs fastest on this device.

    Attributes:
        provider: of onnxruntime.
        square: frames are padded to the whole input size, although the model takes their exact rectangle.
        ms: median.
    """

    threads: int
    provider: str = "CPUExecutionProvider"
    square: bool = False
    ms: float | None = None


class TuneRecord(Frozen):
    """What a tune found; it counts for this device only.

    Attributes:
        device: features of the CPU and its physical cores ("x86_64+avx2, 4 cores").
        onnxruntime: version.
        sessions: by precision, "FP32" or "INT8".
    """

    device: str
    onnxruntime: str
    sessions: dict[str, TunedSession]


class Manifest(Frozen):
    """manifest.json.

    Attributes:
        created: ISO 8601 time, UTC.
        files: published files by name; manifest.json itself is not listed.
        tools: versions by package ("onnxruntime": "1.31.1").
        device: CPU architecture and the features INT8 depends on.
        tuned: how sessions run fastest, None before a tune.
        digest: sha256 of the document with this key empty; empty itself where it was written before there was one.
        pins: what mecha.lock says of every file that the model was made from; empty in manifests of earlier versions.
    """

    schema_: Literal[1] = Field(default=1, alias="schema")
    name: str
    created: str
    origin: OriginRecord
    licence: str = "unknown"
    files: dict[FileName, FileRecord]
    int8: Int8Record
    tools: dict[str, str] = Field(default_factory=dict)
    device: dict[str, str] = Field(default_factory=dict)
    tuned: TuneRecord | None = None
    digest: str = ""
    pins: tuple[LockedFile, ...] = ()

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def sealed(manifest: Manifest) -> bytes:
    """Return manifest.json as it is written, with its digest."""
    digest = sha256(serialised(manifest.model_copy(update={"digest": ""}))).hexdigest()
    return serialised(manifest.model_copy(update={"digest": digest}))


def broken_seal(content: bytes, manifest: Manifest) -> str | None:
    """Return the digest of manifest.json where it is not the one that it states; None where it is, or none is stated.

    Args:
        content: the file; what it says in keys of another version counts too.
        manifest: what was read from it.
    """
    if not manifest.digest:
        return None
    stated = manifest.digest.encode()
    before, key, after = content.rpartition(b'"digest": "' + stated)
    found = sha256(before + key[: len(key) - len(stated)] + after).hexdigest()
    return None if found == manifest.digest else found
