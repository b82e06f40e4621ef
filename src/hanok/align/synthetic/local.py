"""The engine in this process as a writer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hanok.align.synthetic.ask import Ask, Reply
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Prompt, Request
from hanok.ops.numerics import current


class Local:
    """Answers with a model of our own, all questions of a step in one batch; a model without a chat format continues.

    Each question has its seed, so that its answer does not depend on what else is running.
    """

    def __init__(self, llm: LLM, name: str) -> None:
        self.llm, self._name = llm, name

    @property
    def name(self) -> str:
        """Return the name that stands with the rows."""
        return self._name

    def __call__(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Reply]]:
        """Yield replies as they are finished; a prompt and its reply share the model's context."""
        engine = Engine(self.llm, numerics=current())
        places = {}
        for at, one in enumerate(asks):
            prompt: Prompt = one.messages if self.llm.chat is not None else one.messages[-1]["content"] + "\n"
            request = Request(prompt, one.max_tokens, temperature=float(one.temperature or 0), seed=one.seed)
            places[engine.add(request)] = at
        while engine.has_work:
            for event in engine.step():
                if event.error is not None:
                    raise event.error
                if event.output is not None:
                    yield places[event.id], Reply(event.output.text, event.output.finish_reason == "stop")
