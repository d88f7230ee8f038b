"""What work on the models of one project needs: where they are, what brings files, whom it may ask."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mecha.project import Project
from mecha.service.fetch import Fetcher
from mecha.service.pinning import is_frozen, project_lock
from mecha.service.request import PullOptions
from mecha.store.blobs import BlobCache
from mecha.store.models import ModelStore

if TYPE_CHECKING:
    from mecha.hub.source import Source
    from mecha.service.publication import Place


@dataclass(frozen=True, slots=True)
class Workplace:
    """One project, and the environment that its work is done in.

    Attributes:
        environ: HF_*, MECHA_* and proxies are read from it.
        cache: of the user.
    """

    project: Project
    environ: Mapping[str, str]
    store: ModelStore
    cache: BlobCache

    def place(self, name: str) -> "Place":
        """Return where a model is worked on; what is published of it stands in where the cache was emptied."""
        from mecha.service.publication import Place

        published = self.store.published(name)
        seeds = (published.fp32_path,) if published is not None else ()
        cache = BlobCache(self.cache.root, seeds=(*self.cache.seeds, *seeds), quota_bytes=self.cache.quota_bytes)
        return Place(self.project, self.store, cache)

    def fetcher(self, options: PullOptions, cache: BlobCache) -> Fetcher:
        """Return what brings the files of one pull."""
        options = self.as_frozen(options)
        return Fetcher(
            cache,
            # One for each pull: it remembers what the pull used.
            project_lock(self.project, frozen=options.frozen),
            self.source(offline=options.offline),
            settings=self.project.settings.hub,
            renew=options.force and not options.frozen,
            limit_bytes_per_s=options.limit_bytes_per_s,
        )

    def source(self, *, offline: bool) -> "Callable[[], Source]":
        """Return what makes the source of files, when the network is really needed."""

        def make() -> "Source":
            from mecha.hub.mirrors import hub_source

            return hub_source(self.environ, self.project.settings.hub, offline=offline)

        return make

    def as_frozen(self, options: PullOptions) -> PullOptions:
        """Return the options, frozen where the environment says so."""
        return replace(options, frozen=options.frozen or is_frozen(self.environ))
