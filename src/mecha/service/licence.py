"""Under which licence a model comes: asked, and told, before the first byte of it."""

from contextlib import suppress

from mecha.catalog.schema import ModelCatalogEntry
from mecha.errors import NotFoundError
from mecha.progress import Progress, licence_stage
from mecha.service.fetch import Fetcher, Wanted
from mecha.words import printable


class LicenceFirst:
    """Hands progress on, and says the licence once, before the download begins.

    Attributes:
        licence: what the entry states, else what the repo states once that was asked; None where nobody states one.
    """

    def __init__(self, entry: ModelCatalogEntry, wanted: Wanted, fetcher: Fetcher, progress: Progress) -> None:
        self.licence = entry.license
        self._name, self._wanted, self._fetcher, self._progress = entry.name, wanted, fetcher, progress
        self._said = False

    def __call__(self, stage: str, completed: int, total: int | None) -> None:
        """Take a progress report.

        Raises:
            NetworkError: the repo must be asked for its licence, and does not answer.
        """
        if stage == "download" and not self._said:
            self._said = True
            if self.licence is None:
                self.licence = self._asked()
            self._progress(licence_stage(self._name, self.licence or "unknown"), 0, None)
        self._progress(stage, completed, total)

    def _asked(self) -> str | None:
        known = self._fetcher.known(self._wanted)
        # A mirror may have the bytes of a commit without knowing the commit.
        for revision in dict.fromkeys((known.revision if known else self._wanted.revision, "main")):
            with suppress(NotFoundError):
                stated = self._fetcher.licence(self._wanted.repo, revision)
                return None if stated is None else printable(stated)
        return None
