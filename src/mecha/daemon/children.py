"""What processes that work for the daemon get of its environment."""

from collections.abc import Mapping

_NOT_FOR_CHILDREN = frozenset({"MECHA_TOKEN", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"})


def child_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child: without the token of the daemon, and without what makes it a service."""
    return {name: value for name, value in environ.items() if name not in _NOT_FOR_CHILDREN}
