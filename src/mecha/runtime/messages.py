"""What travels on the topics, and how it is written: a node in any language can join by this page.

    topic                         payload                       attachment
    /camera/rgb                   BGR pixels, row by row        {"schema","seq","width","height","captured_at","source"}
    /camera/state                 JSON, see CameraStateMessage  none
    /vision/object/detections     JSON, see DetectionsMessage   none
    /vision/object/control        JSON, see ControlMessage      none

`captured_at` is in nanoseconds since 1970. JSON is UTF-8. On Zenoh a topic's key is the topic without its first slash.
"""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, TypeVar

from pydantic import ConfigDict, Field

from mecha.errors import IntegrityError
from mecha.runtime.bus import Sample
from mecha.validation import Frozen, json_line_of, parse_json, validated

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mecha.detect.detector import Result

F = TypeVar("F", bound=Frozen)


class Message(Protocol):
    """Anything with these two methods may travel on a topic.

    Attributes:
        newest_wins: a node that is slower than the topic gets the newest message and misses those before it; otherwise
            it gets all of them, in order.
    """

    newest_wins: ClassVar[bool]

    def encode(self) -> tuple[bytes, bytes]:
        """Return payload and attachment."""
        ...

    @classmethod
    def decode(cls, sample: Sample) -> Self:
        """Read a message.

        Raises:
            IntegrityError: the bytes are not such a message.
            ConfigError: it is JSON that says something that cannot be used.
        """
        ...


class _Received(Frozen):
    """What another machine may have sent, with a newer mecha: keys that are not known here are passed over."""

    model_config = ConfigDict(extra="ignore")


class _FrameHeader(_Received):
    schema_: Literal[1] = Field(1, alias="schema")
    seq: int = Field(ge=0)
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    captured_at: int
    source: str


@dataclass(frozen=True, slots=True, eq=False)
class FrameMessage:
    """One frame of a camera.

    Attributes:
        frame_bgr: (H, W, 3) uint8, channels blue, green, red. A frame from the bus is read-only: copy it to draw.
        seq: counts the frames of this camera since it was started, from 0.
        captured_at: nanoseconds since 1970, when the frame was taken.
        source: what the camera shows: a device, file or address, and the picture's own path for a folder.
    """

    newest_wins: ClassVar[bool] = True

    frame_bgr: "NDArray[np.uint8]"
    seq: int
    captured_at: int
    source: str = ""

    def encode(self) -> tuple[bytes, bytes]:
        """Return the pixels and the header."""
        height, width = self.frame_bgr.shape[:2]
        header = {
            "schema": 1,
            "seq": self.seq,
            "width": width,
            "height": height,
            "captured_at": self.captured_at,
            "source": self.source,
        }
        return self.frame_bgr.tobytes(), _compact(header)

    @classmethod
    def decode(cls, sample: Sample) -> Self:
        """Read a frame; the pixels stay where they are."""
        header = _parsed(_FrameHeader, sample.attachment, f"{sample.topic}: header")
        expected = header.width * header.height * 3
        if len(sample.payload) != expected:
            raise IntegrityError(
                f"{sample.topic}: got {len(sample.payload)} bytes; "
                f"expected {expected} for {header.width}x{header.height} pixels BGR"
            )
        # Here and not above: a daemon that no node runs in needs none of its 13 MB.
        import numpy as np

        pixels = np.frombuffer(sample.payload, np.uint8).reshape(header.height, header.width, 3)
        return cls(pixels, header.seq, header.captured_at, header.source)


class CameraStateMessage(_Received):
    """How the camera does: at each change, and once a second for those who come late.

    Attributes:
        stale: no frame comes; the last one, and what was made of it, gets older.
        reason: why, "" while all is well.
        seq: of the last frame, None before the first; captured_at: the same.
    """

    newest_wins: ClassVar[bool] = False

    schema_: Literal[1] = Field(default=1, alias="schema")
    stale: bool
    reason: str = ""
    seq: int | None = None
    captured_at: int | None = None

    def encode(self) -> tuple[bytes, bytes]:
        """Return the JSON."""
        return self.model_dump_json(by_alias=True).encode(), b""

    @classmethod
    def decode(cls, sample: Sample) -> Self:
        """Read a state."""
        return _parsed(cls, sample.payload, sample.topic)


@dataclass(frozen=True, slots=True)
class DetectionsMessage:
    """What was found in one frame.

    Attributes:
        frame: the frame's seq.
        captured_at: of the frame, nanoseconds since 1970.
        width: of the frame, pixels; height: the same.
        precision: "FP32" or "INT8"; with model and model_digest it says what made this result.
        model: name of the model.
        model_digest: sha256 of the ONNX file that ran, lower-case hex.
        detections: strongest first, each {"label", "class_id", "score", "box": [x1, y1, x2, y2]}, pixels of the frame.
        ms: milliseconds by stage: pre, session, post.
        source: of the frame.
        stale: the camera gives no frames: this is the last result, sent again to say so, or one of an old frame.
    """

    newest_wins: ClassVar[bool] = False

    frame: int
    captured_at: int
    width: int
    height: int
    precision: str
    model: str
    model_digest: str
    detections: list[dict[str, Any]]
    ms: dict[str, float]
    source: str = ""
    stale: bool = False

    @classmethod
    def of(cls, frame: FrameMessage, result: "Result", model: str, *, stale: bool = False) -> Self:
        """Return what `model` found in `frame`."""
        height, width = frame.frame_bgr.shape[:2]
        times = result.times
        return cls(
            frame=frame.seq,
            captured_at=frame.captured_at,
            width=width,
            height=height,
            precision=result.precision,
            model=model,
            model_digest=result.digest,
            detections=result.detections.to_json(),
            ms={
                "pre": round(times.pre_ms, 3),
                "session": round(times.session_ms, 3),
                "post": round(times.post_ms, 3),
            },
            source=frame.source,
            stale=stale,
        )

    def encode(self) -> tuple[bytes, bytes]:
        """Return the JSON."""
        document = {"schema": 1} | {name: getattr(self, name) for name in self.__slots__}
        return _compact(document), b""

    @classmethod
    def decode(cls, sample: Sample) -> Self:
        """Read a result."""
        read = _parsed(_Detections, sample.payload, sample.topic)
        return cls(**read.model_dump(exclude={"schema_"}))


class _Detections(_Received):
    schema_: Literal[1] = Field(1, alias="schema")
    frame: int
    captured_at: int
    width: int
    height: int
    precision: str
    model: str
    model_digest: str
    detections: list[dict[str, Any]]
    ms: dict[str, float]
    source: str = ""
    stale: bool = False


class ControlMessage(Frozen):
    """Tells the detector what to do until its config.json says something else: `{"use_int8": true}`.

    Attributes:
        use_int8: as in config.json; None changes nothing.
        enabled: as in config.json; None changes nothing.
        self_calibrate: as in config.json; None changes nothing.
        degrade: as in config.json; None changes nothing.
    """

    newest_wins: ClassVar[bool] = False

    use_int8: bool | Literal["auto"] | None = None
    enabled: bool | None = None
    self_calibrate: bool | None = None
    degrade: bool | None = None

    def encode(self) -> tuple[bytes, bytes]:
        """Return the JSON, without what changes nothing."""
        return self.model_dump_json(exclude_none=True).encode(), b""

    @classmethod
    def decode(cls, sample: Sample) -> Self:
        """Read a command."""
        return _parsed(cls, sample.payload, sample.topic)


@dataclass(frozen=True, slots=True)
class JsonMessage:
    """Any JSON value, for nodes that need no type of their own."""

    newest_wins: ClassVar[bool] = False

    data: Any = field(default_factory=dict)

    def encode(self) -> tuple[bytes, bytes]:
        """Return the JSON."""
        return _compact(self.data), b""

    @classmethod
    def decode(cls, sample: Sample) -> Self:
        """Read a value."""
        return cls(parse_json(_text(sample.payload, sample.topic), where=sample.topic))


def _compact(document: object) -> bytes:
    # Half of a letter, as Python has for bytes of a file name that are no UTF-8, must not end the node that sends it.
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")


def _parsed(model: type[F], data: bytes, where: str) -> F:
    text = _text(data, where)
    return validated(model, parse_json(text, where=where), where=where, line_of=json_line_of(text))


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{where}: byte {error.start} is not UTF-8 text; expected JSON") from error
