"""What one pulled file was: an entry of mecha.lock, and of the manifest of the model that was made from it."""

from pydantic import Field

from mecha.store.spec import Frozen

Identity = tuple[str, str, str, str]


class LockedFile(Frozen):
    """One pulled file.

    Attributes:
        requested: the revision that was asked for ("main").
        revision: the commit it meant.
        sha256: lower-case hex.
    """

    repo: str
    repo_type: str = "model"
    filename: str
    requested: str
    revision: str
    etag: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)

    @property
    def identity(self) -> Identity:
        """What the entry is looked up by."""
        return (self.repo_type, self.repo, self.filename, self.requested)

    @property
    def where(self) -> str:
        """The file in words: `owner/repo/model.onnx`, or its path on this device."""
        return f"{self.repo}/{self.filename}" if self.repo else self.filename
