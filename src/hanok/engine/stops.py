"""Stop strings: text is withheld while it may still become one."""

from __future__ import annotations

from collections.abc import Sequence


class StopText:
    """Passes text through until one of the stop strings appears, and never gives out a part of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Take new text and return what is safe to show; `stopped` is set once a stop string is complete."""
        if not self._stops:
            return text
        self._held += text
        found = [at for at in (self._held.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped = True
            out, self._held = self._held[: min(found)], self._held[min(found) :]
            return out
        keep = max(_overlap(self._held, stop) for stop in self._stops)
        cut = len(self._held) - keep
        out, self._held = self._held[:cut], self._held[cut:]
        return out

    def resume(self) -> str:
        """Return what was cut off by a stop string that is none after all, and go on behind it."""
        self.stopped = False
        return self.finish()

    def finish(self) -> str:
        """Return what was withheld: no stop string can come of it any more."""
        out, self._held = self._held, ""
        return out


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` with which `stop` begins."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
