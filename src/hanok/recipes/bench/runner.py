"""Programs that answer a batch of prompts and say when each token came: hanok's engine, and peers where installed."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from hanok.core.errors import UsageError, require
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Request
from hanok.recipes.bench.figures import Sample

Clock = Callable[[], float]
Prompts = Sequence[Sequence[int]]


class Runner(Protocol):
    """Whatever answers prompts with exactly as many tokens as are asked for, greedily."""

    def __call__(self, prompts: Prompts, output_len: int) -> list[Sample]:
        """Answer all prompts, which are there from the first moment, and return what was seen of each."""
        ...


class Hanok:
    """The engine of this package, driven in this thread."""

    def __init__(
        self, llm: LLM, settings: Mapping[str, Any] | None = None, *, clock: Clock = time.perf_counter
    ) -> None:
        self.engine = Engine(llm, **(settings or {}))
        self._clock = clock

    def __call__(self, prompts: Prompts, output_len: int) -> list[Sample]:
        """Answer prompts by continuous batching."""
        begun = self._clock()
        samples: dict[int, Sample] = {}
        for prompt in prompts:
            request = Request(list(prompt), output_len, temperature=0.0, ignore_eos=True)
            samples[self.engine.add(request)] = Sample(begun, len(prompt))
        while self.engine.has_work:
            events = self.engine.step()
            now = self._clock()
            for event in events:
                if event.error is not None:
                    raise event.error
                if event.tokens:
                    samples[event.id].arrivals.append(now)
                    samples[event.id].output_tokens += len(event.tokens)
        return list(samples.values())


class Transformers:
    """`generate` of transformers on the same weights: one padless batch, which starts and ends together."""

    name = "transformers"

    def __init__(self, llm: LLM, *, clock: Clock = time.perf_counter) -> None:
        transformers = require("transformers", extra="test")
        transformers.utils.logging.disable_progress_bar()
        with tempfile.TemporaryDirectory() as folder:
            llm.save(folder)
            try:
                model = transformers.AutoModelForCausalLM.from_pretrained(Path(folder), dtype=llm.model.dtype)
            except (ValueError, KeyError, OSError) as error:
                raise UsageError(f"transformers cannot load this model: {str(error).splitlines()[0]}") from None
        self.model = model.to(llm.model.device).eval()
        self.model.generation_config.pad_token_id = 0
        self._criteria, self._clock = transformers.StoppingCriteriaList, clock

    def __call__(self, prompts: Prompts, output_len: int) -> list[Sample]:
        """Answer prompts of one length as one batch."""
        rows = torch.tensor([list(prompt) for prompt in prompts], device=self.model.device)
        stamps: list[float] = []

        def seen(ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
            stamps.append(self._clock())
            return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

        begun = self._clock()
        with torch.inference_mode():
            self.model.generate(
                rows,
                attention_mask=torch.ones_like(rows),
                max_new_tokens=output_len,
                min_new_tokens=output_len,
                do_sample=False,
                stopping_criteria=self._criteria([seen]),
            )
        return [Sample(begun, rows.shape[1], output_len, list(stamps)) for _ in prompts]


class ContinuousTransformers(Transformers):
    """`generate_batch` of transformers: its continuous batching, which says no more than when all is done."""

    name = "transformers generate_batch"

    def __init__(self, llm: LLM, *, clock: Clock = time.perf_counter) -> None:
        if llm.model.device.type == "cpu" and importlib.util.find_spec("psutil") is None:
            raise UsageError("generate_batch measures a CPU's memory with psutil, and waits for ever without it")
        super().__init__(llm, clock=clock)
        if not hasattr(self.model, "generate_batch"):
            raise UsageError("this version of transformers has no generate_batch")

    def __call__(self, prompts: Prompts, output_len: int) -> list[Sample]:
        """Answer prompts; each sample has one arrival, at the end."""
        import transformers

        config = transformers.GenerationConfig(
            max_new_tokens=output_len, do_sample=False, eos_token_id=-1, pad_token_id=0
        )
        begun = self._clock()
        found = self.model.generate_batch(
            inputs=[list(prompt) for prompt in prompts], generation_config=config, progress_bar=False
        )
        now = self._clock()
        counts = [len(output.generated_tokens) for output in found.values()]
        if counts != [output_len] * len(prompts):
            raise UsageError(f"generate_batch gave {sum(counts)} tokens of {output_len * len(prompts)}")
        return [Sample(begun, len(prompt), output_len, [now]) for prompt in prompts]


def in_turn(
    runners: Mapping[str, Runner], inputs: Callable[[], Prompts], output_len: int, *, rounds: int, warmup: int
) -> dict[str, list[list[Sample]]]:
    """Return every round's samples by runner; who goes first changes, so that a slower machine harms all alike."""
    found: dict[str, list[list[Sample]]] = {name: [] for name in runners}
    names = list(runners)
    for number in range(warmup + rounds):
        prompts = inputs()  # new ones each time: nothing of an earlier round can be reused
        for at in range(len(names)):
            name = names[(at + number) % len(names)]
            samples = runners[name](prompts, output_len)
            if number >= warmup:
                found[name].append(samples)
    return found
