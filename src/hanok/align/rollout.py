"""Reinforcement learning's stream: batches made by the very model that they train, through the engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hanok.align.prompts import Prompt, columns_of
from hanok.align.reward import Reward
from hanok.align.score import token_scores
from hanok.core.config import Config, digest
from hanok.core.errors import UsageError
from hanok.core.rng import derive
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Output, Request
from hanok.model.model import Model
from hanok.text.batch import Batch, pad_batch
from hanok.text.data.order import Order
from hanok.text.trace import Span, Trace


@dataclass(frozen=True)
class Scored:
    """A reward function, the name that its figures go by, and its weight in the sum."""

    name: str
    weight: float
    function: Reward


class RolloutConfig(Config):
    """One round: `prompts` times `group` completions, cut into `parts` micro-batches, gone through `updates` times."""

    prompts: int
    group: int
    max_tokens: int
    parts: int = 1
    updates: int = 1
    numerics: str = "exact"
    seed: int = 0


class Rollouts:
    """A source whose `next_batch` samples from the policy when the last round is used up.

    The engine runs on the same Model object, at temperature 1: in exact numerics its log-probs are those of the
    training forward to the last bit, and the first update of a round has ratios of exactly 1. Each request has a seed
    of its own, so that a resumed run draws the same tokens. Batches carry `advantages`, `old_logprobs` and, with a
    reference model, `reference`, all (B, T).
    """

    def __init__(
        self,
        llm: LLM,
        prompts: Sequence[Prompt],
        rewards: Sequence[Scored],
        advantage: Callable[[Tensor], Tensor],
        config: RolloutConfig,
        *,
        reference: Model | None = None,
    ) -> None:
        if (config.prompts * config.group) % config.parts:
            raise UsageError(
                f"{config.prompts} prompts x {config.group} completions cannot be cut into {config.parts} equal parts"
            )
        self.llm, self.prompts, self.rewards, self.advantage = llm, prompts, rewards, advantage
        self.config, self.reference = config, reference
        self.figures: dict[str, float] = {}
        self.table: list[dict[str, Any]] = []
        identity = digest([prompt.tokens for prompt in prompts])
        self._order = Order(len(prompts), seed=config.seed, fingerprint=identity)
        self._round = 0
        self._used = config.parts * config.updates  # nothing left of the round before the first
        self._rows: list[dict[str, Any]] = []
        self._parts: list[Batch] = []

    def next_batch(self) -> Batch:
        """Return the next micro-batch of this round, or the first of a new one."""
        if self._used == self.config.parts * self.config.updates:
            self._sample()
            self._used = 0
        batch = self._parts[self._used % self.config.parts]
        self._used += 1
        return batch

    def state(self) -> dict[str, Any]:
        """Return the position in the prompts, and this round's completions as far as they are still needed."""
        left = self._used < self.config.parts * self.config.updates
        return {
            "order": self._order.state(),
            "round": self._round,
            "used": self._used,
            "rows": self._rows if left else [],
            "figures": self.figures,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a position; completions that are still needed are laid out again, not drawn again."""
        self._order.restore(state["order"])
        self._round, self._used = int(state["round"]), int(state["used"])
        self._rows, self.figures, self.table = state["rows"], state["figures"], []
        self._parts = self._lay_out() if self._rows else []

    def _sample(self) -> None:
        """Draw a round of completions, score them, and lay them out."""
        started = time.perf_counter()
        chosen = [self.prompts[next(self._order)] for _ in range(self.config.prompts)]
        prompts = [prompt for prompt in chosen for _ in range(self.config.group)]
        requests = [
            Request(
                prompt.tokens,
                self.config.max_tokens,
                temperature=1.0,
                seed=derive(self.config.seed, f"round {self._round} completion {i}"),
                logprobs=0,
            )
            for i, prompt in enumerate(prompts)
        ]
        # A new engine each time: nothing of an earlier round, such as its page order, can tint this one.
        outputs = Engine(self.llm, numerics=self.config.numerics).generate(requests)
        self._round += 1
        sampled = time.perf_counter() - started
        totals, figures = self._score(prompts, outputs)
        advantages = self.advantage(totals.view(-1, self.config.group)).flatten().tolist()
        self._rows = [
            {"prompt": prompt.tokens, "tokens": output.tokens, "logprobs": output.logprobs, "advantage": advantage}
            for prompt, output, advantage in zip(prompts, outputs, advantages, strict=True)
        ]
        self._parts = self._lay_out()
        if self.reference is not None:
            self._add_reference(self.reference)
        self.figures = {**figures, **_lengths(outputs), "rollout_time": sampled}
        self.table = [
            {**p.columns, "prompt": p.prompt, "completion": o.text, "reward": r, "advantage": a}
            for p, o, r, a in zip(prompts, outputs, totals.tolist(), advantages, strict=True)
        ]

    def _score(self, prompts: Sequence[Prompt], outputs: Sequence[Output]) -> tuple[Tensor, dict[str, float]]:
        """Return the weighted sum of the rewards of each completion, and figures about them."""
        columns = {**columns_of(prompts), "finished": [output.finish_reason == "stop" for output in outputs]}
        texts, questions = [output.text for output in outputs], [prompt.prompt for prompt in prompts]
        total = torch.zeros(len(outputs))
        figures: dict[str, float] = {}
        for reward in self.rewards:
            scores = list(reward.function(questions, texts, **columns))
            if len(scores) != len(outputs):
                raise UsageError(
                    f"the reward {reward.name!r} returned {len(scores)} scores for {len(outputs)} completions"
                )
            values = torch.tensor(scores, dtype=torch.float32)
            if not values.isfinite().all():
                raise UsageError(f"the reward {reward.name!r} returned a score that is not a finite number")
            total += reward.weight * values
            figures |= {
                f"rewards/{reward.name}/mean": float(values.mean()),
                f"rewards/{reward.name}/std": float(values.std()),
            }
        spread = total.view(-1, self.config.group).std(-1)
        figures |= {
            "reward": float(total.mean()),
            "reward_std": float(spread.mean()),
            "frac_reward_zero_std": float((spread == 0).float().mean()),
        }
        return total, figures

    def _lay_out(self) -> list[Batch]:
        """Return the round's rows as micro-batches with the columns that the objective reads."""
        size = len(self._rows) // self.config.parts
        parts = []
        for start in range(0, len(self._rows), size):
            rows = self._rows[start : start + size]
            batch = pad_batch([_trace(row) for row in rows], self.llm.ids.pad or 0, multiple=8)
            advantages = torch.tensor([row["advantage"] for row in rows])[:, None] * (batch.weights > 0)
            columns = {"advantages": advantages, "old_logprobs": batch.columns["logprobs"]}
            if self.reference is not None and "reference" in rows[0]:
                columns["reference"] = _spread(batch.weights, [row["reference"] for row in rows])
            parts.append(Batch(batch.tokens, batch.targets, batch.weights, batch.positions, None, columns))
        return parts

    def _add_reference(self, reference: Model) -> None:
        """Score the round once under the reference, and keep the scores with the rows."""
        scores = [token_scores(reference, part) for part in self._parts]
        self._parts = [part.with_columns(reference=score) for part, score in zip(self._parts, scores, strict=True)]
        flat = [
            row[weights > 0].tolist()
            for part, score in zip(self._parts, scores, strict=True)
            for row, weights in zip(score, part.weights, strict=True)
        ]
        for row, values in zip(self._rows, flat, strict=True):
            row["reference"] = values


def _trace(row: dict[str, Any]) -> Trace:
    prompt = Trace(row["prompt"], [Span(0, len(row["prompt"]), "user")])
    return prompt.extend(row["tokens"], logprobs=row["logprobs"])


def _spread(weights: Tensor, rows: Sequence[Sequence[float]]) -> Tensor:
    """Put each row's values where its weights are not zero."""
    out = torch.zeros(weights.shape)
    for line, mask, values in zip(out, weights > 0, rows, strict=True):
        line[mask] = torch.tensor(values)
    return out


def _lengths(outputs: Sequence[Output]) -> dict[str, float]:
    lengths = [len(output.tokens) for output in outputs]
    ended = [len(output.tokens) for output in outputs if output.finish_reason == "stop"]
    return {
        "completions/mean_length": sum(lengths) / len(lengths),
        "completions/min_length": min(lengths),
        "completions/max_length": max(lengths),
        "completions/mean_terminated_length": sum(ended) / len(ended) if ended else 0.0,
        "completions/clipped_ratio": 1 - len(ended) / len(lengths),
    }
