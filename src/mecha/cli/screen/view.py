"""Keys that change only what is seen: the log and its filter, the help, the chosen node."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from mecha.cli.screen.keys import BACKSPACE, CLEAR, ENTER, ESCAPE, Action, Key
from mecha.cli.screen.log import Log, LogFilter
from mecha.cli.screen.state import ScreenState

_MOVES = {Action.PAGE_UP: Log.page_up, Action.PAGE_DOWN: Log.page_down, Action.OLDEST: Log.oldest}


def look(state: ScreenState, action: Action, room: int) -> bool:
    """Do what an action asks for; returns False when it is none of these.

    Args:
        room: how many lines of the log are seen.
    """
    if action in _MOVES:
        _MOVES[action](state.log, room)
    elif action in _VIEWS:
        _VIEWS[action](state)
    else:
        return False
    return True


def _choose(state: ScreenState, step: int) -> None:
    state.choose(step)
    if state.log.filter.node:
        _narrow(state, node=state.chosen)


def _only_node(state: ScreenState) -> None:
    _narrow(state, node="" if state.log.filter.node else state.chosen)


def _next_level(state: ScreenState) -> None:
    _narrow(state, level=state.log.filter.next_level)


def _find(state: ScreenState) -> None:
    state.typed = state.log.filter.text


def _wrap(state: ScreenState) -> None:
    state.wraps = not state.wraps


def _help(state: ScreenState) -> None:
    state.helps = not state.helps


def _clear(state: ScreenState) -> None:
    if state.helps:
        state.helps = False
        return
    state.log.filter = LogFilter()
    state.log.newest()


def _narrow(state: ScreenState, **changed: str) -> None:
    state.log.filter = replace(state.log.filter, **changed)


_VIEWS: dict[Action, Callable[[ScreenState], None]] = {
    Action.SELECT_PREVIOUS: partial(_choose, step=-1),
    Action.SELECT_NEXT: partial(_choose, step=1),
    Action.ONLY_NODE: _only_node,
    Action.LEVEL: _next_level,
    Action.FIND: _find,
    Action.WRAP: _wrap,
    Action.NEWEST: lambda state: state.log.newest(),
    Action.HELP: _help,
    Action.CLEAR: _clear,
}


def type_text(state: ScreenState, key: Key) -> None:
    """Take a key of the text that lines are found by; what is typed counts at once."""
    typed = state.typed or ""
    if key.pasted:
        state.typed = typed = typed + key.name
    elif key.name == ENTER:
        state.typed = None
    elif key.name == ESCAPE:
        state.typed, typed = None, ""
    elif key.name == BACKSPACE:
        state.typed = typed = typed[:-1]
    elif key.name == CLEAR:
        state.typed = typed = ""
    elif len(key.name) == 1:
        state.typed = typed = typed + key.name
    _narrow(state, text=typed)
