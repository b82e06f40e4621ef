"""One position for any number of ranks: 1 -> 2 -> 4 -> 3 -> 1 reads the very rows that one process reads."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from hanok.core.errors import UsageError
from hanok.text.batch import Batch
from hanok.text.chat.chatml import ChatML
from hanok.text.data.chat_stream import ChatStream
from hanok.text.data.mixture import Mixture
from hanok.text.data.shard import Shards, write_shards
from hanok.text.data.sources import Layout, MixtureConfig, open_stream
from hanok.text.data.stream import RowStream, Sliced, Stream, TokenStream, for_rank
from hanok.text.tokenizer import Tokenizer

BATCH = 12
WORLDS = (1, 2, 4, 3, 1)
STEPS = 5  # in each world
Build = Callable[[], Stream]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world")
    rng = random.Random(0)
    for name in ("web", "code"):
        documents = [[rng.randrange(500) for _ in range(rng.randint(2, 40))] for _ in range(80)]
        write_shards(path / name / "train", documents, vocab_size=500)
    return path


def builds(folder: Path, tokenizer: Tokenizer) -> dict[str, Build]:
    shards = Shards(folder / "web" / "train")
    mixture = MixtureConfig.parse(
        {
            "sources": {"web": str(folder / "web"), "code": str(folder / "code")},
            "weights": {"code": 0.2},
            "schedule": [{"start": 0.5, "ramp": 0.25, "weights": {"code": 0.8}}],
            "curriculum": {"by": "length", "buckets": 3, "pace": 0.7},
        }
    )

    def mixed(packed: bool) -> RowStream:
        stream = open_stream(mixture, folder / "web", Layout(16, BATCH, seed=3, packed=packed))
        stream.span(len(WORLDS) * STEPS * BATCH)
        return stream

    def chat() -> ChatStream:
        turns = [
            [{"role": "user", "content": "q" * (i % 5 + 1)}, {"role": "assistant", "content": f"a {i}"}]
            for i in range(30)
        ]
        return ChatStream(turns, tokenizer, ChatML(), length=48, batch=BATCH, seed=1)

    return {
        "windows": lambda: TokenStream(shards, length=16, batch=BATCH, seed=7),
        "packed": lambda: TokenStream(shards, length=16, batch=BATCH, seed=7, packed=True),
        "mixed windows": lambda: mixed(False),
        "mixed packed": lambda: mixed(True),
        "chat": chat,
        "mixture of streams": lambda: Mixture([chat(), TokenStream(shards, length=48, batch=BATCH)], [1, 2]),
    }


KINDS = ("windows", "packed", "mixed windows", "mixed packed", "chat", "mixture of streams")


def flat(batches: list[Batch]) -> dict[str, torch.Tensor]:
    """Lay the batches of all ranks one below the other."""
    tensors = {name: [getattr(b, name) for b in batches] for name in ("tokens", "targets", "weights", "positions")}
    if all(batch.segments is not None for batch in batches):
        tensors["segments"] = [batch.segments for batch in batches]
    return {name: torch.cat(parts) for name, parts in tensors.items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_of_world_changes_no_row(kind: str, folder: Path, tokenizer: Tokenizer) -> None:
    build = builds(folder, tokenizer)[kind]
    alone = build()
    expected = [flat([alone.next_batch()]) for _ in range(len(WORLDS) * STEPS)]
    state: Any = None
    found = []
    for world in WORLDS:
        ranks = [for_rank(build(), rank, world) for rank in range(world)]
        for stream in ranks:
            if state is not None:
                stream.restore(json.loads(json.dumps(state)))
        for _ in range(STEPS):
            found.append(flat([stream.next_batch() for stream in ranks]))
            states = [stream.state() for stream in ranks]
            assert all(one == states[0] for one in states)  # any rank's checkpoint will do
        state = states[-1]
    assert all(equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_control_an_own_order_per_rank_does_not_survive(kind: str, folder: Path, tokenizer: Tokenizer) -> None:
    """Ranks that each count their own rows, as loaders without a global position do, read other rows."""
    build = builds(folder, tokenizer)[kind]
    alone = build()
    expected = [flat([alone.next_batch()]) for _ in range(2 * STEPS)]
    first = [for_rank(build(), rank, 2) for rank in range(2)]
    for _ in range(STEPS):
        for stream in first:
            stream.next_batch()
    second = [for_rank(build(), rank, 4) for rank in range(4)]
    for rank, stream in enumerate(second):
        state = first[rank % 2].state()
        for _ in range(rank % 2):  # the position of a rank that has gone on by itself
            first[rank % 2].next_batch()
        stream.restore(first[rank % 2].state() if rank % 2 else state)
    found = [flat([stream.next_batch() for stream in second]) for _ in range(STEPS)]
    assert not all(equal(a, b) for a, b in zip(found, expected[STEPS:], strict=True))


def test_gradients_of_uneven_slices_add_up(folder: Path) -> None:
    """Ranks whose losses are weighed by their share of the targets give the gradient of one process."""
    from hanok.model.config import ModelConfig
    from hanok.model.model import Model
    from hanok.nn.context import Dense

    torch.set_num_threads(1)
    model = Model(ModelConfig.preset("llama-tiny", vocab=500, dim=16, depth=2, context=64), seed=0)
    shards = Shards(folder / "web" / "train")

    def gradient(world: int) -> torch.Tensor:
        streams = [for_rank(TokenStream(shards, length=16, batch=8, packed=True), rank, world) for rank in range(world)]
        batches = [stream.next_batch() for stream in streams]
        total = sum(float(batch.weights.sum()) for batch in batches)
        model.zero_grad()
        for batch in batches:
            logits = model(batch.tokens, Dense(batch.tokens, batch.positions, batch.segments)).flatten(0, 1)
            losses = torch.nn.functional.cross_entropy(logits, batch.targets.flatten(), reduction="none")
            ((losses * batch.weights.flatten()).sum() / total).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    whole = gradient(1)
    for world in (2, 3, 8):
        assert torch.allclose(gradient(world), whole, atol=1e-6)


def test_realised_shares_across_a_resume_with_another_world(tmp_path: Path) -> None:
    """Three sources, 20 million tokens in rows of 2,048: every window of 10 million is within 0.1 points."""
    names = ["a", "b", "c"]
    for number, name in enumerate(names):  # each token says which source it is from
        write_shards(tmp_path / name / "train", [[number] * 9000], vocab_size=9)
    length, batch, steps = 2048, 64, 156
    mixture = MixtureConfig.parse(
        {
            "sources": {name: str(tmp_path / name) for name in names},
            "weights": {"a": 0.71, "b": 0.18, "c": 0.11},
            "schedule": [{"start": 0.6, "ramp": 0.2, "weights": {"a": 0.3, "b": 0.2, "c": 0.5}}],
        }
    )

    def build(rank: int, size: int) -> Stream:
        stream = open_stream(mixture, tmp_path / "a", Layout(length, batch))
        stream.span(steps * batch)
        return for_rank(stream, rank, size)

    counted: list[npt.NDArray[np.int64]] = []
    state: Any = None
    for world, until in ((2, 60), (3, 100), (1, steps)):
        ranks = [build(rank, world) for rank in range(world)]
        if state is not None:
            for stream in ranks:
                stream.restore(state)
        for _ in range(until - len(counted)):
            seen = torch.cat([stream.next_batch().tokens[:, 0] for stream in ranks])
            counted.append(np.bincount(seen.numpy(), minlength=3) * length)
        state = ranks[-1].state()
    asked = np.zeros((steps + 1, 3))
    plan = np.array([[0.71, 0.18, 0.11], [0.3, 0.2, 0.5]])
    for row in range(steps * batch):  # by hand: row by row, as the configuration reads
        at = row / (steps * batch)
        late = min(max((at - 0.6) / 0.2, 0), 1)
        asked[row // batch + 1] += plan[0] * (1 - late) + plan[1] * late
    wanted = np.cumsum(asked, axis=0) * length
    given = np.concatenate([np.zeros((1, 3)), np.cumsum(counted, axis=0)])
    window = -(-10_000_000 // (batch * length))
    off = np.abs((given[window:] - given[:-window]) - (wanted[window:] - wanted[:-window])) / (window * batch * length)
    assert off.max() < 0.001
    assert len(off) > 70
    late_only = np.abs(given[-1] / given[-1].sum() - plan[0]).max()
    assert late_only > 0.05  # the control: the schedule did move


def test_too_many_ranks_are_refused(folder: Path, tokenizer: Tokenizer) -> None:
    stream = TokenStream(folder / "web" / "train", length=16, batch=2)
    with pytest.raises(UsageError, match="batch must be >= 3"):
        for_rank(stream, 0, 3)
    with pytest.raises(UsageError, match="batch must be >= 3"):
        Sliced(TokenStream(folder / "web" / "train", length=16, batch=2), 0, 3).next_batch()
