"""Messages and how they are written."""

import json

import numpy as np
import pytest

from mecha.errors import ConfigError, IntegrityError
from mecha.runtime.bus import Sample
from mecha.runtime.messages import CameraStateMessage, ControlMessage, DetectionsMessage, FrameMessage, JsonMessage
from mecha.testing import detections, frame


def sample_of(payload: bytes, attachment: bytes = b"") -> Sample:
    return Sample("/t", payload, attachment)


def test_a_frame_comes_back_as_it_was_and_says_where_it_is_from() -> None:
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    payload, attachment = FrameMessage(pixels, 7, 1_700_000_000_000_000_000, "arena://").encode()

    assert payload == pixels.tobytes()
    assert json.loads(attachment) == {
        "schema": 1,
        "seq": 7,
        "width": 5,
        "height": 4,
        "captured_at": 1_700_000_000_000_000_000,
        "source": "arena://",
    }
    back = FrameMessage.decode(sample_of(payload, attachment))
    assert np.array_equal(back.frame_bgr, pixels)
    assert (back.seq, back.captured_at, back.source) == (7, 1_700_000_000_000_000_000, "arena://")
    assert not back.frame_bgr.flags.writeable


def test_a_part_of_a_frame_may_be_sent() -> None:
    pixels = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)[2:5, 1:7]

    back = FrameMessage.decode(sample_of(*FrameMessage(pixels, 0, 0).encode()))

    assert np.array_equal(back.frame_bgr, pixels)


def test_a_result_comes_back_as_it_was() -> None:
    message = DetectionsMessage(
        frame=3,
        captured_at=5,
        width=640,
        height=480,
        precision="INT8",
        model="arena-n",
        model_digest="ab" * 32,
        detections=[{"label": "cone", "class_id": 0, "score": 0.9, "box": [1.0, 2.0, 3.0, 4.0]}],
        ms={"pre": 1.0, "session": 2.0, "post": 0.5},
        source="arena://",
    )
    payload, attachment = message.encode()

    assert json.loads(payload)["schema"] == 1
    assert attachment == b""
    assert DetectionsMessage.decode(sample_of(payload)) == message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", ControlMessage()),
        ('{"use_int8": true}', ControlMessage(use_int8=True)),
        ('{"use_int8": "auto", "enabled": false}', ControlMessage(use_int8="auto", enabled=False)),
    ],
)
def test_a_command_is_read(text: str, expected: ControlMessage) -> None:
    assert ControlMessage.decode(sample_of(text.encode())) == expected
    assert ControlMessage.decode(sample_of(*expected.encode())) == expected


def test_a_value_of_json_travels() -> None:
    assert JsonMessage.decode(sample_of(*JsonMessage({"ä": [1, None]}).encode())) == JsonMessage({"ä": [1, None]})


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (b'{"use_int9": true}', '/t:1: use_int9: unknown key; did you mean "use_int8"?'),
        (b'{"use_int8": 1}', "/t:1: use_int8: got 1; expected true, false or auto"),
        (b"", "/t: the file is empty; expected JSON"),
        (b"{", "/t:1:2: not JSON: expecting property name enclosed in double quotes"),
    ],
)
def test_a_command_that_is_none_is_refused_with_a_sentence(payload: bytes, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ControlMessage.decode(sample_of(payload))

    assert str(caught.value) == sentence


def test_bytes_that_are_no_text_are_refused_with_a_sentence() -> None:
    with pytest.raises(IntegrityError) as caught:
        JsonMessage.decode(sample_of(b'"\xff"'))

    assert str(caught.value) == "/t: byte 1 is not UTF-8 text; expected JSON"


def test_pixels_that_do_not_fill_the_frame_are_refused_with_a_sentence() -> None:
    payload, attachment = FrameMessage(np.zeros((4, 5, 3), np.uint8), 0, 0).encode()

    with pytest.raises(IntegrityError) as caught:
        FrameMessage.decode(sample_of(payload[:-1], attachment))

    assert str(caught.value) == "/t: got 59 bytes; expected 60 for 5x4 pixels BGR"


def test_keys_of_a_newer_version_are_passed_over_and_a_newer_schema_is_not() -> None:
    pixels, header = frame(3).encode()
    state, _ = CameraStateMessage(stale=True).encode()
    result, _ = detections("cone").encode()

    def grown(text: bytes, **more: object) -> bytes:
        return json.dumps(json.loads(text) | more).encode()

    assert FrameMessage.decode(sample_of(pixels, grown(header, exposure_ms=4))).seq == 3
    assert CameraStateMessage.decode(sample_of(grown(state, since=1))).stale
    assert DetectionsMessage.decode(sample_of(grown(result, tracks=[]))) == detections("cone")
    with pytest.raises(ConfigError) as caught:
        DetectionsMessage.decode(sample_of(grown(result, schema=2)))
    assert str(caught.value) == "/t:1: schema: got 2; expected 1"


def test_half_of_a_letter_that_a_node_sends_does_not_end_it() -> None:
    payload, _ = JsonMessage({"file": "foto\udce4.jpg"}).encode()

    assert JsonMessage.decode(sample_of(payload)).data == {"file": "foto?.jpg"}
