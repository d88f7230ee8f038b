"""What a detector does less of when its device is too hot or too slow, one rung after the other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Self

from pydantic import Field

from mecha.runtime.variants import Wanted
from mecha.validation import Expected

RungText = Annotated[
    str,
    Expected('"skip N" (frames left out after each one), "fastest" (precision) or "input N" (pixels)'),
    Field(pattern=r"^(skip [1-9]\d?|fastest|input [1-9]\d{1,3})$"),
]
"""One rung as a config says it."""

DEFAULT_LADDER = ("skip 1", "fastest", "input 320", "skip 3")


@dataclass(frozen=True, slots=True)
class Relief:
    """What is done less.

    Attributes:
        skip: frames that are left out after each one that is worked on.
        fastest: the precision runs that was measured to be faster on this device, whatever was asked for.
        input_size: pixels, where that is less than what was asked for; None leaves it.
    """

    skip: int = 0
    fastest: bool = False
    input_size: int | None = None

    @classmethod
    def of(cls, rungs: Sequence[str]) -> Self:
        """Return what some rungs, from the first one on, are together: of two of a kind the later one counts.

        Args:
            rungs: as `RungText` takes them.
        """
        relief = cls()
        for rung in rungs:
            kind, _, number = rung.partition(" ")
            if kind == "skip":
                relief = replace(relief, skip=int(number))
            elif kind == "fastest":
                relief = replace(relief, fastest=True)
            else:
                relief = replace(relief, input_size=int(number))
        return relief

    def applied(self, wanted: Wanted) -> Wanted:
        """Return what is to run instead of what was asked for."""
        smaller = wanted.input_size is None or (self.input_size or 0) < wanted.input_size
        return replace(
            wanted,
            use_int8="auto" if self.fastest else wanted.use_int8,
            input_size=self.input_size if self.input_size is not None and smaller else wanted.input_size,
        )

    def words(self) -> str:
        """Return it as people read it, as in "skip 1, fastest"; empty where nothing is done less."""
        said = [
            f"skip {self.skip}" if self.skip else "",
            "fastest" if self.fastest else "",
            f"input {self.input_size}" if self.input_size is not None else "",
        ]
        return ", ".join(word for word in said if word)
