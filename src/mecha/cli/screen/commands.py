"""What keys do to the nodes: over the control topic, and through their supervisor."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mecha.cli.screen.keys import Action
from mecha.cli.screen.state import NodeRow
from mecha.errors import MechaError
from mecha.project import Project
from mecha.runtime.bus import Bus
from mecha.runtime.config import read_layers
from mecha.runtime.messages import ControlMessage

CONTROL = "/vision/object/control"
"""What detectors listen to."""
_SWITCHES = {
    Action.INT8: ("use_int8", False),
    Action.DEGRADE: ("degrade", False),
    Action.CALIBRATE: ("self_calibrate", True),
}
"""Keys of a detector's config that are true or false, with what they are where no config.json names them."""
_WORDS = {"degrade": "degrading on", "self_calibrate": "self-calibration off"}


class NodeControl(Protocol):
    """The part of a supervisor that keys command."""

    def stop(self) -> None:
        """End the run in order; called again, at once."""
        ...

    def restart(self, node: str) -> None:
        """End the process of a node and start another one."""
        ...

    def pause(self, node: str) -> None:
        """Let a node work no more until `resume`."""
        ...

    def resume(self, node: str) -> None:
        """Let a paused node go on."""
        ...


@dataclass(frozen=True, slots=True)
class Said:
    """A key of the config that was said otherwise: it holds until config.json says something else about it."""

    value: bool
    configured: object


class Commands:
    """Does what keys ask for, and says in a line what that was.

    Args:
        environ: of this process; the configs of a run depend on it.
    """

    def __init__(self, control: NodeControl, bus: Bus, project: Project, environ: Mapping[str, str]) -> None:
        self._control = control
        self._bus = bus
        self._project = project
        self._environ = environ
        self._said: dict[str, Said] = {}

    def stop(self) -> None:
        """End the run."""
        self._control.stop()

    def do(self, action: Action, row: NodeRow, detectors: Sequence[NodeRow]) -> str:
        """Do what an action asks for, and return that in words.

        Args:
            row: the chosen node.
            detectors: the nodes that run a model; all of them hear what is said over the control topic.
        """
        if action is Action.PAUSE:
            return self._pause_or_resume(row)
        if action is Action.RESTART:
            self._control.restart(row.name)
            return f"{row.name} is started again"
        if not detectors:
            return "no node runs a model yet"
        key, default = _SWITCHES[action]
        # Before somebody says otherwise, INT8 is what runs: "auto" may have chosen it.
        default = detectors[0].precision == "INT8" if action is Action.INT8 else default
        return self._say(key, not self._value(key, detectors[0], default=default), detectors[0])

    def in_words(self, detectors: Sequence[NodeRow]) -> dict[str, str]:
        """Return what was said and holds still, by key, where it is not as it usually is."""
        words = {}
        for key, default in _SWITCHES.values():
            if detectors and key in _WORDS and self._value(key, detectors[0], default=default) != default:
                words[key] = _WORDS[key]
        return words

    def _pause_or_resume(self, row: NodeRow) -> str:
        if row.state == "paused":
            self._control.resume(row.name)
            return f"{row.name} goes on"
        self._control.pause(row.name)
        return f"{row.name} is paused; p lets it go on"

    def _value(self, key: str, detector: NodeRow, *, default: bool) -> bool:
        """Return what a key is now: what was said, where config.json has not said something else since."""
        configured = self._configured(key, detector)
        said = self._said.get(key)
        if said is not None and said.configured == configured:
            return said.value
        return configured if isinstance(configured, bool) else default

    def _say(self, key: str, value: bool, detector: NodeRow) -> str:
        payload, attachment = ControlMessage.model_validate({key: value}).encode()
        self._bus.publish(CONTROL, payload, attachment)
        self._said[key] = Said(value, self._configured(key, detector))
        return f"{CONTROL}: {payload.decode()}"

    def _configured(self, key: str, detector: NodeRow) -> object:
        """Return what the config files of a node say about a key, the last one first; None where none of them does."""
        try:
            files = self._project.node_config_files(detector.name)
            layers = read_layers(files, self._project.root, self._environ)
        except MechaError:
            return None
        found: object = None
        for layer in layers:
            table = _table(layer.text)
            found = table.get(key, found)
        return found


def _table(text: bytes | None) -> Mapping[str, object]:
    try:
        table = json.loads(text or b"{}")
    except ValueError:
        # Half written, or faulty: the node tells of it.
        return {}
    return table if isinstance(table, dict) else {}
