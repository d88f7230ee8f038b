"""Files that change while they are in use. The only module that imports watchdog."""

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent

SETTLE_S = 0.1
"""How long a file must stay as it is: editors truncate and write, or write in pieces."""
PATIENCE_S = 0.4
"""The same for a file that is not whole, as one that is being written in pieces."""
POLL_S = 1.0
"""How often files are looked at where the system does not tell of changes: a folder that is not there yet, a network
file system, no inotify watches left."""

Contents = tuple[bytes | None, ...]


class FileWatch:
    """Tells when the contents of some files are others than before.

    Folders are watched, not files: an editor that renames puts a new file in the old one's place. What is told is the
    contents, not the event: writing the same text again is no change.

    Args:
        files: may be absent; content None. A function is asked for them each time: they may become more and less, and
            where it raises OSError, as when a folder goes while it is listed, nothing is taken for changed.
        on_change: called with the contents of all files, in the order of `files`, in the watch's own thread.
        last: the contents that are known already; None reads them now.
        whole: tells whether contents look finished.
        read: returns the bytes of a file; raises OSError.
        settle_s: see SETTLE_S.
        patience_s: see PATIENCE_S.
        poll_s: see POLL_S.
    """

    def __init__(
        self,
        files: Sequence[Path] | Callable[[], Sequence[Path]],
        on_change: Callable[[Contents], None],
        *,
        last: Contents | None = None,
        whole: Callable[[Contents], bool] = lambda contents: True,  # noqa: ARG005 - a text may be anything
        read: Callable[[Path], bytes] = Path.read_bytes,
        settle_s: float = SETTLE_S,
        patience_s: float = PATIENCE_S,
        poll_s: float = POLL_S,
    ) -> None:
        self._files = files if callable(files) else lambda: files
        self._on_change = on_change
        self._whole = whole
        self._read_bytes = read
        self._settle_s = settle_s
        self._patience_s = patience_s
        self._poll_s = poll_s
        self._last: Contents = ()
        self._last = self._read() if last is None else last
        self._touched = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="file-watch", daemon=True)
        self._observer: Any = None

    @property
    def last(self) -> Contents:
        """The contents as they were told, or known, last."""
        return self._last

    def start(self) -> None:
        """Begin to watch."""
        self._observer = _started_observer({file.parent for file in self._files()}, self._event)
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait until no call of `on_change` runs any more."""
        self._stopping.set()
        self._touched.set()
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
        if self._thread.is_alive():
            self._thread.join()

    def _event(self, event: "FileSystemEvent") -> None:
        names = {Path(str(path)).name for path in (event.src_path, event.dest_path) if path}
        with contextlib.suppress(OSError):
            if not names & {file.name for file in self._files()}:
                return
        self._touched.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._touched.wait(self._poll_s)
            contents = self._settled()
            if contents != self._last and not self._stopping.is_set():
                self._last = contents
                self._on_change(contents)

    def _settled(self) -> Contents:
        """Return the contents once they have stayed the same for a while."""
        self._touched.clear()
        contents = self._read()
        while contents != self._last:
            if self._stopping.wait(self._settle_s if self._whole(contents) else self._patience_s):
                break
            again = self._read()
            if again == contents:
                break
            contents = again
        return contents

    def _read(self) -> Contents:
        try:
            files = self._files()
        except OSError:
            return self._last
        return tuple(self._content(file) for file in files)

    def _content(self, file: Path) -> bytes | None:
        """Return the bytes of a file, None when it is absent or cannot be read just now."""
        try:
            return self._read_bytes(file)
        except OSError:
            return None


def _started_observer(folders: set[Path], on_event: Callable[["FileSystemEvent"], None]) -> Any:  # noqa: ANN401
    from watchdog.events import FileSystemEventHandler
    from watchdog.observers import Observer

    class _Handler(FileSystemEventHandler):
        def on_any_event(self, event: "FileSystemEvent") -> None:
            # Our own reads are reported too, and would never let the files settle.
            if event.event_type not in {"opened", "closed_no_write"}:
                on_event(event)

    logging.getLogger("watchdog.observers.inotify").addFilter(_is_news)
    observer = Observer()
    observer.start()
    for folder in folders:
        # No such folder, or no watch left: polling finds the change.
        with contextlib.suppress(OSError):
            observer.schedule(_Handler(), str(folder))
    return observer


def _is_news(record: logging.LogRecord) -> bool:
    """Tell whether a line of the library is one; an event that comes while its thread is stopped is an error to it."""
    return "called when the thread is inactive" not in record.getMessage()
