"""Where a finished model lands: what may go for it, and who may read and write it then."""

import sys
from pathlib import Path

from mecha.errors import DiskError
from mecha.store.faults import disk_error

# Any of these says that mecha made a folder, or most of it.
_OURS = ("manifest.json", "model.onnx", "config.json")


def require_ours(final: Path) -> None:
    """Refuse to put a model in the place of a folder that holds something else: with the old one, all of it would go.

    Raises:
        DiskError: the folder is a person's.
    """
    try:
        if not final.is_dir() or final.is_symlink() or any((final / name).exists() for name in _OURS):
            return
        held = next(final.iterdir(), None)
    except FileNotFoundError:
        return  # another process has removed it meanwhile
    except OSError as error:
        raise disk_error(error, final, "look into the folder") from error
    if held is not None:
        raise DiskError(
            f"{final}: a folder is there that mecha did not make (it holds {held.name}); expected none, or a model",
            hint="Move it away, or give the model another name.",
        )


def set_modes(staged: Path) -> None:
    """Let everybody read a model and nobody but its owner change it, whatever the umask says.

    Files that are linked from the cache are read-only there (0444) and stay so. Windows has no such modes.

    Raises:
        DiskError: the system refuses.
    """
    if sys.platform == "win32":
        return
    try:
        staged.chmod(0o755)
        for file in staged.iterdir():
            if file.stat().st_mode & 0o222:
                file.chmod(0o644)
    except OSError as error:
        raise disk_error(error, staged, "set the permissions") from error
