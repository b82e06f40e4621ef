"""Which worker has read the beginning of a prompt before, so that its prefix cache can be used again."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping

CHUNK, MOST = 256, 64  # bytes of one link of the chain, and how many links are looked at
SIZE = 1 << 16  # links remembered
SLACK = 4  # requests that the worker with the right prefix may have more than the idlest one
PARTS = ("model", "tools", "system", "instructions", "messages", "prompt", "input")  # in the order a model reads them


def prompt_of(body: bytes) -> bytes:
    """Return what of a request the model will read, as bytes; nothing where it is no JSON object."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return b""
    if not isinstance(data, dict):
        return b""
    kept = {name: data[name] for name in PARTS if name in data}
    # What is cut, should a lone surrogate stand there, only has to be the same each time.
    return json.dumps(kept, ensure_ascii=False).encode(errors="replace") if kept else b""


def chain(text: bytes, salt: bytes) -> list[bytes]:
    """Return a hash for each whole chunk of a text, which depends on all chunks before it, and on who asks."""
    links, last = [], hashlib.sha256(salt).digest()
    for start in range(0, min(len(text), CHUNK * MOST) - CHUNK + 1, CHUNK):
        last = hashlib.sha256(last + text[start : start + CHUNK]).digest()
        links.append(last)
    return links


class PrefixMap:
    """Remembers for each link of a chain which worker read it last; the links longest unused are forgotten first."""

    def __init__(self, size: int = SIZE) -> None:
        self._size = size
        self._owner: OrderedDict[bytes, int] = OrderedDict()
        self.hits = self.queries = 0

    def choose(self, links: list[bytes], loads: Mapping[int, int]) -> int:
        """Return the worker with the longest part of the prefix, unless it is busier than others by far.

        `loads` are the requests under way at each worker that may be chosen; among equals the first is taken.
        """
        self.queries += 1
        least = min(loads.values())
        for link in reversed(links):
            owner = self._owner.get(link)
            if owner is not None and owner in loads and loads[owner] <= least + SLACK:
                self.hits += 1
                return owner
        return next(number for number, load in loads.items() if load == least)

    def note(self, links: list[bytes], worker: int) -> None:
        """Remember that a worker reads this prefix now."""
        for link in links:
            self._owner[link] = worker
            self._owner.move_to_end(link)
        while len(self._owner) > self._size:
            self._owner.popitem(last=False)

    def forget(self, worker: int) -> None:
        """Forget a worker whose memory is gone."""
        for link in [link for link, owner in self._owner.items() if owner == worker]:
            del self._owner[link]
