"""What came of building INT8 again, so that a build that brought nothing is not made with every start."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from mecha.store.atomic import write_file
from mecha.store.published import INT8_FILE, PublishedModel
from mecha.store.spec import Frozen, serialised

AGAIN_AFTER = timedelta(days=1)


class Attempt(Frozen):
    """A build that was not published.

    Attributes:
        int8_sha256: of the INT8 that stayed.
        at: ISO 8601 time, UTC.
        message: why it stayed.
    """

    int8_sha256: str
    at: str
    message: str


class Attempts:
    """The last attempt for each model of a project.

    Args:
        models_dir: of the project.
    """

    def __init__(self, models_dir: Path) -> None:
        self._models_dir = models_dir

    def recent(self, model: PublishedModel, now: datetime | None = None) -> Attempt | None:
        """Return the attempt with the INT8 that is published now, None where it is a day old or there was none.

        A clock that was set meanwhile, as on boards without a battery for it, at worst makes it a new one.
        """
        try:
            attempt = Attempt.model_validate_json(self._file(model).read_bytes())
            age = (now or datetime.now(UTC)) - datetime.fromisoformat(attempt.at)
        except (OSError, ValidationError, ValueError, TypeError):
            return None
        same = attempt.int8_sha256 == model.manifest.files[INT8_FILE].sha256
        return attempt if same and abs(age) < AGAIN_AFTER else None

    def note(self, model: PublishedModel, message: str, now: datetime | None = None) -> Attempt:
        """Remember that the INT8 of a model stayed, and return what is remembered.

        Raises:
            DiskError: it cannot be written.
        """
        at = (now or datetime.now(UTC)).isoformat(timespec="seconds")
        attempt = Attempt(int8_sha256=model.manifest.files[INT8_FILE].sha256, at=at, message=message)
        write_file(self._file(model), serialised(attempt))
        return attempt

    def _file(self, model: PublishedModel) -> Path:
        # A name with a dot is no model's.
        return self._models_dir / f".{model.name}.self-calibration.json"
