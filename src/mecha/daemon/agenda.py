"""What is to be done for each model that nodes need, and when."""

from collections.abc import Iterable, Iterator

from mecha.daemon.retries import Task


class Agenda:
    """A task for each model that nodes need. Used under the lock of the supply."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def get(self, name: str) -> Task | None:
        """Return the task of a model, None where no node needs it."""
        return self._tasks.get(name)

    @property
    def mirror_fault(self) -> str:
        """Why the Hub could not be reached when it was needed last, "" where it could."""
        return "\n".join(sorted({task.mirror_fault for task in self if task.mirror_fault}))

    def follow(self, wanted: Iterable[str], *, changed: bool, now_s: float) -> tuple[str, ...]:
        """Take over what is needed now.

        Args:
            wanted: names of models.
            changed: what they were read from has changed, so what failed begins anew.
            now_s: on the monotonic clock.

        Returns:
            The models that are needed no more.
        """
        wanted = frozenset(wanted)
        for name in sorted(wanted):
            task = self._tasks.setdefault(name, Task(name))
            if changed:
                task.change(now_s)
            elif task.due_s is None and not task.tries:
                # Cheap where nothing is to be done.
                task.due_s = now_s
        gone = tuple(name for name in self._tasks if name not in wanted)
        for name in gone:
            del self._tasks[name]
        return gone

    def due(self, now_s: float) -> list[Task]:
        """Return what is due at this moment of the monotonic clock, the longest due first."""
        due = [(task.due_s, task) for task in self if task.due_s is not None and task.due_s <= now_s]
        return [task for _, task in sorted(due, key=lambda one: one[0])]

    def moments(self) -> list[float]:
        """Return when something is due, on the monotonic clock."""
        return [task.due_s for task in self if task.due_s is not None]
