"""The error tree: what can go wrong for a user, each class with its exit code.

    MechaError
    |-- UsageError            2   a command was called in a way that makes no sense
    |-- ConfigError           3   a catalog, settings or node config says something that cannot be used
    |   `-- UnsupportedModelError   the model is whole, but it is not what is needed here
    |-- NotFoundError         4   a model, node, file or project that does not exist
    |-- NetworkError          5   no answer, or an answer that refuses
    |   |-- AccessDeniedError       401 or 403
    |   `-- OfflineError            the network is needed and was switched off
    |-- IntegrityError        6   bytes that are not what they should be
    |-- DiskError             7   no space, no permission, no such device
    |   `-- NoSpaceError
    |-- QuantizationError     8   INT8 could not be made, or is wrong
    |-- NodeError             9   a node failed
    `-- BusyError            10   another process holds what is needed

A message says where, what, got and expected. The hint says what to do next. Builtin exceptions are for programming
mistakes only.
"""

from typing import ClassVar

INTERNAL_EXIT_CODE = 70
"""Of a failure that nobody foresaw, EX_SOFTWARE of sysexits."""
INTERRUPTED_EXIT_CODE = 130


class MechaError(Exception):
    """Any failure a user can meet.

    Attributes:
        exit_code: the exit code of a command that ends with this error.
        hint: what to do next, one or two sentences; empty when the message says it all.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(MechaError):
    """A command was called in a way that makes no sense."""

    exit_code = 2


class ConfigError(MechaError):
    """A catalog, settings or node config says something that cannot be used."""

    exit_code = 3


class UnsupportedModelError(ConfigError):
    """The model is whole, but it is not what is needed here: no detector, an unknown family, an unsupported opset."""


class NotFoundError(MechaError):
    """A model, node, file, repo or project that does not exist."""

    exit_code = 4


class NetworkError(MechaError):
    """No answer from a server, or an answer that refuses."""

    exit_code = 5


class AccessDeniedError(NetworkError):
    """The server answered 401 or 403."""


class OfflineError(NetworkError):
    """The network is needed, and was switched off by an option or HF_HUB_OFFLINE."""


class IntegrityError(MechaError):
    """Bytes that are not what they should be: wrong digest, wrong size, no ONNX."""

    exit_code = 6


class DiskError(MechaError):
    """No space, no permission, or no such device."""

    exit_code = 7


class NoSpaceError(DiskError):
    """The disk, or what this user may use of it, is full, or would be."""


class QuantizationError(MechaError):
    """INT8 could not be made, or what was made is wrong."""

    exit_code = 8


class NodeError(MechaError):
    """A node failed."""

    exit_code = 9


class BusyError(MechaError):
    """Another process holds what is needed."""

    exit_code = 10
