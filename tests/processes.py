"""Processes below this one."""

from collections.abc import Collection

import psutil


def below(*words: str, besides: Collection[psutil.Process] = ()) -> list[psutil.Process]:
    """Return the processes below this one whose command line holds these words; one that ends meanwhile is none."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if process not in besides and all(word in command for word in words):
            found.append(process)
    return found
