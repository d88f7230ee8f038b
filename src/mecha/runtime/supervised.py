"""One node under its supervisor, over all of its processes: what it is in, and when it is started again."""

import json
from collections.abc import Mapping
from typing import Any

from mecha.child_process import exit_words
from mecha.errors import NodeError
from mecha.project import NodeSettings
from mecha.runtime.events import SEEN_VARIABLE
from mecha.runtime.faults import BEGAN_VARIABLE
from mecha.runtime.process import NodeProcess
from mecha.runtime.restart import RestartPolicy
from mecha.runtime.surroundings import Account, State, Surroundings
from mecha.runtime.timing import NodeStats

ASKED = "asked for"


class SupervisedNode:
    """A node and the process that it has just now. Used by one thread.

    Args:
        name: of the node.
        environ: of its processes.
        settings: what is done for it.
        around: what it shares with the others.

    Attributes:
        state: see `STATES`.
        was_ready: it was set up once.
        failure: why it is not started again; empty otherwise.
        exit_code: what the run ends with when this ends it.
        inputs: its topics, known once it was ready; so are outputs.
    """

    def __init__(self, name: str, environ: Mapping[str, str], settings: NodeSettings, around: Surroundings) -> None:
        self.name = name
        self.settings = settings
        self.state: State = "starting"
        self.was_ready = False
        self.failure = ""
        self.exit_code = 0
        self.inputs: tuple[str, ...] = ()
        self.outputs: tuple[str, ...] = ()
        self._environ = environ
        self._around = around
        self._policy = RestartPolicy(settings)
        self._process: NodeProcess | None = None
        self._ready = False
        self._go = False
        self._began_s: float | None = None
        self._paused = False
        self._last = False
        self._again = ""
        self._killed_for = ""
        self._start_at_s: float | None = None
        self._kill_at_s: float | None = None
        self._account = Account()
        self._last_error = ""

    @property
    def running(self) -> bool:
        """It has a process."""
        return self._process is not None

    @property
    def finished(self) -> bool:
        """It has no process, and is to get none."""
        return self.state in {"ended", "failed"}

    @property
    def total(self) -> NodeStats:
        """Its figures, over all of its processes."""
        return self._account.total(self.state)

    @property
    def due_s(self) -> float | None:
        """The next moment at which `tick` has something to do for sure."""
        moments = [moment for moment in (self._start_at_s, self._kill_at_s) if moment is not None]
        return min(moments, default=None)

    # What it is told to do

    def start(self) -> None:
        """Start a process."""
        self._start_at_s = self._kill_at_s = None
        self._ready = False
        self._again = self._killed_for = self._last_error = ""
        try:
            self._process = NodeProcess(
                self.name, self._around.root, self._environ_now(), self._around.guard, self._around.on_news
            )
        except NodeError as error:
            self._fail(str(error), error.exit_code)
            return
        self._be("starting")

    def _environ_now(self) -> Mapping[str, str]:
        """Return the environment of a process that is started now: a later one learns where the run is."""
        if self._began_s is None:
            return self._environ
        seen = json.dumps(dict(self.total.seen))
        return {**self._environ, BEGAN_VARIABLE: repr(self._began_s), SEEN_VARIABLE: seen}

    def go(self) -> None:
        """Let messages flow, now or as soon as it is ready."""
        self._go = True
        self._began_s = self._around.clock()
        if self._process is not None and self._ready:
            self._flow()

    def pause(self) -> None:
        """Hold it between two steps, until `resume`; the next process of it too."""
        self._paused = True
        if self._go and self._ready:
            self.send(b"pause")
            self._be("paused")

    def resume(self) -> None:
        """Let it step again."""
        self._paused = False
        if self.state == "paused":
            self.send(b"resume")
            self._be("running")

    def send(self, line: bytes) -> None:
        """Write a line to its process, see `mecha.runtime.lifeline`."""
        if self._process is not None:
            self._process.send(line)

    def restart(self, reason: str = ASKED) -> None:
        """Stop its process in order and start another one; one that has failed for good gets another chance."""
        self._policy = RestartPolicy(self.settings)
        if self._last or self._again or self._kill_at_s is not None:
            return
        self.say("INFO", f"is started again: {reason}")
        if self._process is None:
            self._account.begin_another()
            self.failure = ""
            self.start()
        else:
            self._again = reason
            self._be("restarting", reason)
            self._process.stop()
            self._kill_at_s = self._around.clock() + self._around.stop_deadline_s

    def be_last(self) -> None:
        """Let no process come after this one."""
        self._last = True
        self._start_at_s = None
        self._again = ""

    def stop(self) -> None:
        """End it in order."""
        self.be_last()
        if self._process is None:
            if not self.finished:
                self._be("ended")
            return
        self._be("stopping")
        self._process.stop()
        self._kill_at_s = self._around.clock() + self._around.stop_deadline_s

    def kill(self) -> None:
        """End its process, which has had its time to end, and say so."""
        if self._process is not None:
            self.say("ERROR", f"does not end, and is killed ({self._process.pid})")
            self.end()

    def cut_short(self) -> None:
        """End its process before it has had its time, as somebody wants it, and say so."""
        if self._process is not None:
            self.say("WARNING", f"is killed, as the run is to end at once ({self._process.pid})")
            self.end()

    def end(self) -> None:
        """End its process at once."""
        self._kill_at_s = None
        if self._process is not None:
            self._process.kill()

    def tick(self) -> None:
        """Do what is due: start it again, kill it when it does not end, is not ready in time or hangs."""
        now_s = self._around.clock()
        if self._start_at_s is not None and now_s >= self._start_at_s:
            self.start()
        if self._process is None:
            return
        if self._kill_at_s is not None:
            if now_s >= self._kill_at_s:
                self.end() if self._killed_for else self.kill()
            return
        if self._killed_for:
            return
        silent_s = now_s - self._process.heard_at_s
        if not self._ready and silent_s > self.settings.ready_s:
            self._give_up(f"not ready after {self.settings.ready_s:g} s")
        elif self._ready and 0 < self.settings.heartbeat_s < silent_s:
            self._give_up(f"no sign of life for {self.settings.heartbeat_s:g} s")

    def overlook(self) -> None:
        """Forget how long it was silent: nobody could listen."""
        if self._process is not None:
            self._process.heard_at_s = self._around.clock()

    # What it does

    def take_event(self, event: dict[str, Any]) -> None:
        """Take in what its process said."""
        kind = event.get("event")
        if kind == "ready":
            self._ready = self.was_ready = True
            self.inputs, self.outputs = tuple(event["inputs"]), tuple(event["outputs"])
            if self._kill_at_s is None:
                self._be("ready")
                if self._go:
                    self._flow()
            return
        if kind == "stats":
            self._account.take(NodeStats.of_event(event))
        elif kind == "error":
            self._last_error = event["message"]
        self._around.on_event(event)

    def take_exit(self, code: int) -> None:
        """Take in the end of its process; a negative code is a signal."""
        killed_for, was_ready_now, reason = self._killed_for, self._ready, self._again
        self._process = self._kill_at_s = None
        self._ready = False
        self._killed_for = self._again = ""
        if self._last:
            self._be("ended", exit_words(code) if code else "")
        elif reason:
            self._account.begin_another()
            self.start()
        elif code == 0 and not self._policy.wants(0):
            self._be("ended")
        else:
            self._take_failure(code, killed_for, ready=was_ready_now)

    def say(self, level: str, text: str) -> None:
        """Log a line in its name; an error is an event too."""
        self._around.say(level, self.name, text)

    def _take_failure(self, code: int, killed_for: str, *, ready: bool) -> None:
        how = killed_for or f"ended with {exit_words(code)}"
        delay_s = self._policy.delay_s(code, self._around.clock(), was_ready=self.was_ready, ready=ready)
        if delay_s is None:
            why = self._last_error.splitlines()[0] if self._last_error and not killed_for else how
            again = f", {self._policy.count - 1} times in a short while" if self._policy.exhausted else ""
            # A signal or the limit of restarts says nothing more than that a node failed.
            self._fail(f"{why}{again}", code if code > 0 and not self._policy.exhausted else NodeError.exit_code)
            return
        self._account.begin_another()
        self._start_at_s = self._around.clock() + delay_s
        self.say("ERROR" if code else "INFO", f"{how}; it is started again in {delay_s:g} s")
        self._be("restarting", how)

    def _give_up(self, why: str) -> None:
        """Kill a process that can do nothing for itself any more; it says where it is stuck before."""
        if self._process is None:
            return
        self._killed_for = why
        self.say("ERROR", f"{why}; it is killed ({self._process.pid})")
        self._be("hung", why)
        self._process.show_where()
        self._kill_at_s = self._around.clock() + _LAST_WORDS_S

    def _flow(self) -> None:
        if self._paused:
            self.send(b"pause")
        self.send(b"go")
        self._be("paused" if self._paused else "running")

    def _fail(self, why: str, code: int) -> None:
        self.failure, self.exit_code = why, code
        if self._around.until_stopped:
            self.say("ERROR", f"{why}; it stays away for now, and the others go on without it")
        elif not self.settings.essential:
            self.say("ERROR", f"{why}; it is not started again, and the others go on without it")
        self._be("failed", why)

    def _be(self, state: State, reason: str = "") -> None:
        self.state = state
        self._around.on_event(
            {
                "event": "state",
                "node": self.name,
                "state": state,
                "pid": self._process.pid if self._process is not None else None,
                "restarts": self._account.restarts,
                "reason": reason,
            }
        )


_LAST_WORDS_S = 0.5
"""How long a node that hangs gets to write where it is stuck."""
