"""Steps: what happens to one document, and what compares documents with each other, in the order of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from hanok.text.data.document import Editor, Filter, Page
from hanok.text.data.pipeline.funnel import Funnel

Signature = npt.NDArray[np.uint64]


class Outcome(NamedTuple):
    """A page as a step leaves it, or the reason why it is dropped."""

    page: Page | None
    reason: str = ""
    changes: Mapping[str, int] = {}
    of: str = ""  # whose copy it is, or what was found in it


@dataclass(frozen=True)
class Step:
    """A step on single documents under the name that the funnel gives it; it depends on nothing but the page."""

    name: str
    apply: Callable[[Page], Outcome]


class Maker(Protocol):
    """Makes the signature of a text: `bands` keys of `words` numbers; documents that share a key are one."""

    @property
    def bands(self) -> int:
        """Return the number of keys."""
        ...

    @property
    def words(self) -> int:
        """Return the numbers of 64 bits in a key."""
        ...

    def signature(self, text: str) -> Signature:
        """Return the numbers of all keys."""
        ...


@dataclass(frozen=True)
class Twins:
    """A step that drops documents which repeat an earlier one, under its name in the funnel and its reason there."""

    name: str
    reason: str
    maker: Maker

    @property
    def width(self) -> int:
        """Return the numbers in a signature."""
        return self.maker.bands * self.maker.words


@dataclass(frozen=True)
class Steps:
    """All steps of a run: on single documents before the comparison, the comparisons, on single documents after it."""

    before: Sequence[Step] = ()
    twins: Sequence[Twins] = ()
    after: Sequence[Step] = ()

    @property
    def names(self) -> list[str]:
        """Return the names of all steps in order."""
        parts: Sequence[Sequence[Step | Twins]] = (self.before, self.twins, self.after)
        return [step.name for part in parts for step in part]


def judge(name: str, filter: Filter) -> Step:
    """Return a filter as a step."""

    def apply(page: Page) -> Outcome:
        reason = filter(page)
        return Outcome(page) if reason is None else Outcome(None, reason)

    return Step(name, apply)


def edit(name: str, editor: Editor) -> Step:
    """Return an editor as a step; a page that it leaves empty is dropped."""

    def apply(page: Page) -> Outcome:
        edited, changes = editor(page)
        return Outcome(edited, "", changes) if edited.text.strip() else Outcome(None, "empty")

    return Step(name, apply)


def follow(page: Page, steps: Sequence[Step], funnel: Funnel) -> tuple[Page | None, dict[str, Any]]:
    """Take a page through steps and count it; return it, or None with what is to be said of the step that ended it."""
    size = size_of(page.text)
    for step in steps:
        funnel.enter(step.name, size)
        after, reason, changes, of = step.apply(page)
        if after is None:
            funnel.drop(step.name, reason, size)
            return None, ending(step.name, reason, size, of)
        if after is not page:
            grown = size_of(after.text) - size
            funnel.edit(step.name, grown, changes)
            page, size = after, size + grown
    return page, {}


def ending(step: str, reason: str, size: int, of: str = "") -> dict[str, Any]:
    """Return what `dropped.jsonl` says of the end of a document; `size` is its bytes there and then."""
    return {"step": step, "reason": reason, "bytes": size, **({"of": of} if of else {})}


def size_of(text: str) -> int:
    """Return the bytes of a text in UTF-8."""
    return len(text.encode())
