"""What is to be done for each model that nodes need, and when."""

from collections.abc import Callable, Iterable, Iterator

from mecha.daemon.retries import Task


class Agenda:
    """A task for each model that nodes need. Used under the lock of the reconciler."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def get(self, name: str) -> Task | None:
        """Return the task of a model, None where no node needs it."""
        return self._tasks.get(name)

    @property
    def idle(self) -> bool:
        """No model is worked on, and none waits for its next try."""
        return all(task.due_s is None for task in self)

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

    def next_due(self, now_s: float, at_hand: Callable[[str], bool]) -> Task | None:
        """Return what is due; first what needs no work, and so no network.

        Args:
            now_s: on the monotonic clock.
            at_hand: says of a model whether it is there.
        """
        due = [(not at_hand(task.name), task.due_s, task) for task in self if task.due_s is not None]
        due = [one for one in due if one[1] <= now_s]
        return min(due, key=lambda one: one[:2])[2] if due else None

    def moments(self) -> list[float]:
        """Return when something is due, on the monotonic clock."""
        return [task.due_s for task in self if task.due_s is not None]
