"""What a source of model files is: the seam between the pull and a Hub."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

RepoType = Literal["model", "dataset"]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file at one commit.

    Attributes:
        url: where to ask for its bytes. The Hub's address of the file at that commit: it may redirect to another host,
            to a new signed address each time.
        headers: request headers for `url`; the token is among them only when `url` is on the Hub's own host.
        commit: 40 hex digits.
        etag: validator without quotes; equals sha256 for LFS files.
        size_bytes: None when the server does not say.
        sha256: lower-case hex, None when the Hub gives no digest of the content.
    """

    repo: str
    filename: str
    repo_type: RepoType
    commit: str
    url: str
    etag: str
    size_bytes: int | None
    sha256: str | None
    headers: dict[str, str] = field(default_factory=dict, repr=False)


class Source(Protocol):
    """Resolves names to files.

    Raises NotFoundError, AccessDeniedError, NetworkError, OfflineError, or ConfigError for a name that cannot be one.
    """

    def resolve(self, repo: str, filename: str, *, revision: str = "main", repo_type: RepoType = "model") -> RemoteFile:
        """Return where a file is at a revision, and what its bytes must be."""
        ...

    def elsewhere(self, remote: RemoteFile) -> Iterator[RemoteFile]:
        """Give the same bytes at the mirrors after the one a file was found at; each is asked when it is next."""
        ...

    def list_files(self, repo: str, *, revision: str = "main", repo_type: RepoType = "model") -> tuple[str, ...]:
        """Return the paths of all files in a repo at a revision."""
        ...

    def licence(self, repo: str, *, revision: str = "main") -> str | None:
        """Return the licence the repo states, or None."""
        ...
