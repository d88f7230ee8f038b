"""The config a node runs with while its files change: the last good one, always."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from mecha.errors import ConfigError
from mecha.runtime.config import Layer, NodeConfig, load_config, read_config_file, read_layers
from mecha.runtime.watch import Contents, FileWatch

C = TypeVar("C", bound=NodeConfig)
REMEDY = "The node keeps the config it runs with; correct the file and save it."


class LiveConfig(Generic[C]):
    """Reads the config of a node, and again whenever its files change.

    A change counts when all files are whole and valid together; otherwise the running config stays, and the fault is
    logged, once for as long as it stays the same.

    Args:
        model: the type of the config.
        files: see `read_layers`.
        root: the project's root, for messages.
        environ: see `read_layers`.
        log: where faults and changes go.
        on_change: called, in the thread of the watch, when `take` has something new.
        on_fault: called there with each fault, and with "" once the files are valid again.

    Raises:
        ConfigError: the config is not valid to begin with.
    """

    def __init__(
        self,
        model: type[C],
        files: Sequence[Path],
        root: Path,
        environ: Mapping[str, str],
        *,
        log: logging.Logger,
        on_change: Callable[[], None],
        on_fault: Callable[[str], None] = lambda fault: None,  # noqa: ARG005 - nobody asks
    ) -> None:
        self._model = model
        self._layers = read_layers(files, root, environ)
        self._log = log
        self._on_change = on_change
        self._on_fault = on_fault
        self._lock = threading.Lock()
        self._fresh: C | None = None
        self._told = ""
        self.value = load_config(model, self._layers)
        self._known = self.value
        last = tuple(layer.text for layer in self._layers[: len(files)])
        self._present = [content is not None for content in last]
        self._watch = FileWatch(files, self._changed, last=last, whole=self._whole, read=read_config_file)

    def start(self) -> None:
        """Begin to watch the files."""
        self._watch.start()

    def stop(self) -> None:
        """Stop watching."""
        self._watch.stop()

    def take(self) -> tuple[C, C] | None:
        """Make the newest valid config the running one; return (previous, now), or None when nothing changed."""
        with self._lock:
            fresh, self._fresh = self._fresh, None
        if fresh is None or fresh == self.value:
            return None
        previous, self.value = self.value, fresh
        return previous, fresh

    def _whole(self, contents: Contents) -> bool:
        try:
            self._read(contents)
        except ConfigError:
            return False
        return True

    def _changed(self, contents: Contents) -> None:
        try:
            config = self._read(contents)
        except ConfigError as error:
            self._tell(str(error))
            return
        if self._told:
            self._told = ""
            self._on_fault("")
        self._present = [content is not None for content in contents]
        if config == self._known:
            return
        self._log.info("Config changed: %s", ", ".join(changes(self._known, config)))
        self._known = config
        with self._lock:
            self._fresh = config
        self._on_change()

    def _read(self, contents: Contents) -> C:
        """Return what the files say now.

        Raises:
            ConfigError: a file is not valid, or is gone: a slip takes a file away more often than somebody means it.
        """
        layers = [Layer(layer.where, text) for layer, text in zip(self._layers, contents, strict=False)]
        gone = [layer.where for layer, was in zip(layers, self._present, strict=True) if was and layer.text is None]
        if gone:
            raise ConfigError("\n".join(f"{where}: no such file any more, or it cannot be read" for where in gone))
        return load_config(self._model, [*layers, *self._layers[len(layers) :]])

    def _tell(self, fault: str) -> None:
        if fault != self._told:
            self._told = fault
            self._on_fault(fault)
            for line in (*fault.splitlines(), REMEDY):
                self._log.error("%s", line)


def changes(before: NodeConfig, after: NodeConfig) -> list[str]:
    """Return what differs between two configs, as in `use_int8: false -> true`."""
    import json

    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    return [f"{key}: {json.dumps(old[key])} -> {json.dumps(new[key])}" for key in new if old[key] != new[key]]
