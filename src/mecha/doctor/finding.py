"""What a look at one thing came to."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from mecha.errors import ConfigError

Level = Literal["ok", "note", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: what was looked at, a word or two.
        level: `ok`; `note`: it works, and could be better, or could not be told; `wrong`: it has to be changed.
        what: what was found.
        why: what that means here; "" where `what` says it all.
        remedy: what to do about it, "" where there is nothing to do.
    """

    check: str
    level: Level
    what: str
    why: str = ""
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        """Return it as `mecha doctor --json` writes it."""
        return asdict(self)


def ok(check: str, what: str, why: str = "") -> Finding:
    """Return that a thing is well."""
    return Finding(check, "ok", what, why)


def note(check: str, what: str, why: str, remedy: str = "") -> Finding:
    """Return that a thing works, and could be better."""
    return Finding(check, "note", what, why, remedy)


def wrong(check: str, what: str, why: str, remedy: str) -> Finding:
    """Return that a thing has to be changed."""
    return Finding(check, "wrong", what, why, remedy)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 when nothing is wrong, 3 when something has to be changed."""
    return ConfigError.exit_code if any(finding.level == "wrong" for finding in findings) else 0
