"""Which camera of this machine is which: /dev/video0 may be another one after it was unplugged."""

from pathlib import Path

_DEV = Path("/dev")
_CLASS = Path("/sys/class/video4linux")


def lasting_name(text: str, *, dev: Path = _DEV, sys_class: Path = _CLASS) -> str:
    """Return the name under which the same camera is found again, `text` itself where there is none.

    That is its link in /dev/v4l/by-id where it has a serial number, and else the one in /dev/v4l/by-path, which names
    the port that it is plugged into: two cameras of one make without serial numbers share a link by id.

    Args:
        text: the number of a camera, as in "0", or its device.
        dev: where devices are; sys_class: what the system tells of them.
    """
    named = dev / f"video{text}" if text.isdigit() else Path(text)
    links = dev / "v4l"
    if named.is_relative_to(links):
        return text
    device = named.resolve()
    # video0 -> the interface of a USB device -> the device, which has the number.
    has_serial = ((sys_class / device.name / "device").resolve().parent / "serial").is_file()
    for folder in ("by-id", "by-path") if has_serial else ("by-path",):
        for link in sorted((links / folder).glob("*")):
            if link.resolve() == device:
                return str(link)
    return text


def device_number(text: str, *, dev: Path = _DEV) -> int | None:
    """Return the number of the camera that a number, device or link names now, None where it has none."""
    if text.isdigit():
        return int(text)
    device = Path(text).resolve()
    number = device.name.removeprefix("video")
    return (
        int(number) if device.parent == dev.resolve() and device.name.startswith("video") and number.isdigit() else None
    )


def cameras_here(*, dev: Path = _DEV) -> tuple[str, ...]:
    """Return the devices that may be cameras."""
    return tuple(sorted(str(path) for path in dev.glob("video*")))
