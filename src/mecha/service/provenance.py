"""The catalog entry that a published model came from."""

from mecha.catalog.catalog import load_catalog
from mecha.catalog.schema import ModelCatalogEntry
from mecha.project import Project
from mecha.service.request import PullOptions, wanted_file
from mecha.store.published import PublishedModel


def entry_of(published: PublishedModel, project: Project) -> ModelCatalogEntry:
    """Return the entry a published model came from, by the catalog if it still names it, else by its manifest."""
    origin = published.manifest.origin
    listed = next((entry for entry in load_catalog(project).entries if entry.name == published.name), None)
    if listed is not None:
        wanted = wanted_file(listed, PullOptions(), project.root)
        if (wanted.repo, wanted.filename) == (origin.repo, origin.filename):
            return listed
    spec = published.spec
    source = {"repo": origin.repo, "filename": origin.filename, "revision": origin.requested_revision}
    if origin.kind == "file":
        source = {"path": str(project.root / origin.filename)}
    # What the entry said besides is in config.json: without it, class names and sizes would be lost.
    return ModelCatalogEntry.model_validate(
        {
            **source,
            "name": published.name,
            "task": spec.task,
            "license": spec.licence,
            "preprocessing_preset": spec.preprocessing,
            "family": spec.family,
            "labels": spec.classes or None,
            "input_size": spec.input.height if spec.input.dynamic else None,
        }
    )
