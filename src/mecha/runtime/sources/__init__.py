"""Where frames come from: a camera, a picture, a folder, a video, a network stream or the arena."""

from pathlib import Path

from mecha.errors import NotFoundError
from mecha.runtime.sources.address import without_password
from mecha.runtime.sources.dropped import present
from mecha.runtime.sources.frame import CapturedFrame, FrameSize, FrameSource

__all__ = ["CapturedFrame", "FrameSize", "FrameSource", "open_source"]

_STREAMS = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://")
_VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts")


def open_source(text: str, *, size: FrameSize | None = None, loop: bool = False) -> FrameSource:
    """Open a source of frames; it gives them as fast as they are asked for, a live one as they come.

    Args:
        text: the number of a camera ("0") or its device ("/dev/video0"); a picture, a folder of pictures or a glob
            pattern; a video; the address of a stream ("rtsp://…"); "arena://?seed=0&size=640x480&fps=15&frames=100",
            every part of it optional.
        size: what the frames are brought to; None leaves them as they come.
        loop: begin again at the end of pictures and videos.

    Raises:
        NotFoundError: there is nothing of that kind; the message says what was tried.
        NetworkError: no stream answers at the address.
        IntegrityError: the file holds no picture and no video.
        ConfigError: an option of the arena is none.
    """
    return present(lambda: _opened(text, size or FrameSize(), loop=loop))


def _opened(text: str, size: FrameSize, *, loop: bool) -> FrameSource:
    if text.startswith("arena://"):
        from mecha.runtime.sources.arena import ArenaSource

        return ArenaSource(text, size)
    if text.startswith(_STREAMS):
        from mecha.runtime.sources.capture import open_stream

        return open_stream(text, size)
    if text.isdigit() or text.startswith("/dev/"):
        from mecha.runtime.sources.capture import open_device

        return open_device(text, size)
    path = Path(text)
    if path.is_file() and path.suffix.lower() in _VIDEO_SUFFIXES:
        from mecha.runtime.sources.capture import open_video

        return open_video(path, size, loop=loop)
    if path.exists() or any(sign in text for sign in "*?["):
        from mecha.runtime.sources.pictures import PictureSource

        return PictureSource(text, size, loop=loop)
    shown = without_password(text)
    file = Path(shown).absolute()
    raise NotFoundError(
        f"source {shown}: tried it as a file, folder or pattern ({file} is not there), as the number of a camera "
        "(it is none) and as an address (it begins with no rtsp:// and no arena://)",
        hint="Give a camera number, a picture, a folder, a video, rtsp://HOST/PATH or arena://.",
    )
