"""Which cameras this machine has, and whether the nodes that want one may open it."""

import os
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mecha.daemon.identity import Identity
from mecha.doctor.finding import Finding, note, ok, wrong
from mecha.runtime.sources.device import cameras_here, device_number
from mecha.words import printable

CHECK = "camera"

_DEV = Path("/dev")
_QUERYCAP = 0x80685600
"""VIDIOC_QUERYCAP of linux/videodev2.h: reads struct v4l2_capability, 104 bytes."""
_CAPABILITY = struct.Struct("16s32s32sIII12x")
_CAPTURES = 0x1 | 0x1000
"""V4L2_CAP_VIDEO_CAPTURE, and the same with several planes."""


def camera_findings(configs: Mapping[str, Mapping[str, Any]], user: Identity, *, dev: Path = _DEV) -> Iterator[Finding]:
    """Give for each node that wants a camera of this machine whether it is there.

    Args:
        configs: what each node runs with, by name.
        user: who runs the nodes.
        dev: where devices are.
    """
    if sys.platform != "linux":
        yield ok(CHECK, "this system does not tell which cameras it has; `mecha detect 0` tries the first")
        return
    wanting = {
        node: source for node, config in configs.items() if (source := _device(config.get("source"))) is not None
    }
    for node, source in wanting.items():
        yield _wanted(node, source, user, dev)
    usable = [name for device in cameras_here(dev=dev) if (name := _shown(Path(device), user))]
    if not wanting:
        yield ok(CHECK, f"no node wants one of this machine; there {_are(usable)}")


def _wanted(node: str, source: str, user: Identity, dev: Path) -> Finding:
    number = device_number(source, dev=dev)
    device = dev / f"video{number}" if number is not None else Path(source)
    there = cameras_here(dev=dev)
    if not device.exists():
        return wrong(
            CHECK,
            f"{node} wants {source}, and {device} is not there; there {_are(list(there))}",
            "The node waits for it, and nothing comes.",
            'Plug it in, or change "source" of its config.json; /dev/v4l/by-id has names that last.',
        )
    if not user.may_use(device):
        group = _group_of(device)
        return wrong(
            CHECK,
            f"{node} wants {source}, and {user.name} may not open {device}",
            f"It belongs to the group {group}.",
            f"sudo usermod -aG {group} {user.name}, and log in again (restart the service).",
        )
    name, captures = _asked(device)
    if captures is False:
        return wrong(
            CHECK,
            f"{node} wants {source}, and {device} ({name}) gives no pictures",
            "A camera has several devices; this one is for its metadata, or an encoder.",
            f"Take another one of {', '.join(there)}.",
        )
    if captures is None:
        return note(
            CHECK,
            f"{node} wants {source}; {device} does not say what it is",
            "It may be a camera, and may be busy.",
            f"`mecha detect {source}` tries it.",
        )
    return ok(CHECK, f"{node} wants {source}: {device} ({name})")


def _device(source: object) -> str | None:
    """Return what a config names where that is a camera of this machine."""
    if isinstance(source, int) and not isinstance(source, bool):
        return str(source)
    return source if isinstance(source, str) and (source.isdigit() or source.startswith("/dev/")) else None


def _shown(device: Path, user: Identity) -> str:
    """Return a device with its name, "" for one that gives no pictures."""
    if not user.own or not user.may_use(device):
        return str(device)
    name, captures = _asked(device)
    return "" if captures is False else f"{device} ({name})" if name else str(device)


def _asked(device: Path) -> tuple[str, bool | None]:
    """Return what a device calls itself, and whether it gives pictures; "" and None where it does not tell."""
    import fcntl

    answer = bytearray(_CAPABILITY.size)
    try:
        # A camera that another program uses answers too.
        descriptor = os.open(device, os.O_RDWR | os.O_NONBLOCK)
        try:
            fcntl.ioctl(descriptor, _QUERYCAP, answer)
        finally:
            os.close(descriptor)
    except OSError:
        return "", None
    _, card, _, _, of_all, of_this = _CAPABILITY.unpack(answer)
    name = printable(card.partition(b"\0")[0].decode(errors="replace"))
    return name, bool((of_this or of_all) & _CAPTURES)


def _are(names: list[str]) -> str:
    if not names:
        return "is none"
    return f"{'is' if len(names) == 1 else 'are'} {', '.join(names)}"


def _group_of(device: Path) -> str:
    import grp

    try:
        return grp.getgrgid(device.stat().st_gid).gr_name
    except (KeyError, OSError):
        return "video"
