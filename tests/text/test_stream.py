from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hanok.core.errors import UsageError
from hanok.text.batch import Batch
from hanok.text.chat.chatml import ChatML
from hanok.text.data.chat_stream import ChatStream
from hanok.text.data.mixture import Mixture
from hanok.text.data.order import Order
from hanok.text.data.shard import Shards, write_shards
from hanok.text.data.stream import Stream, TokenStream, evaluation_batches
from hanok.text.tokenizer import Tokenizer

DOCUMENTS = [list(range(start, start + 37)) for start in range(0, 900, 37)]


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    write_shards(tmp_path / "s", DOCUMENTS, vocab_size=1000, num_bytes=123, shard_tokens=200)
    return Shards(tmp_path / "s")


def talks(n: int) -> list[list[dict[str, str]]]:
    return [
        [{"role": "user", "content": f"q {i}" * (1 + i % 3)}, {"role": "assistant", "content": f"answer {i}"}]
        for i in range(n)
    ]


def same(a: Batch, b: Batch) -> bool:
    names = ("tokens", "targets", "weights", "positions")
    equal = all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)
    return (
        equal
        and (a.segments is None) == (b.segments is None)
        and (a.segments is None or torch.equal(a.segments, b.segments))
    )


def test_shards_give_back_what_was_written(shards: Shards) -> None:
    assert [document.tolist() for document in shards.documents()] == DOCUMENTS
    assert len(shards) == sum(map(len, DOCUMENTS)) and shards.num_bytes == 123
    assert len(shards.index["shards"]) > 3 and shards.index["dtype"] == "<u2"
    whole = np.concatenate([np.array(document) for document in DOCUMENTS])
    for start, stop in ((0, 5), (190, 450), (len(whole) - 3, len(whole) + 9)):
        assert shards.read(start, stop).tolist() == whole[start:stop].tolist()


def test_large_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    write_shards(tmp_path, [[70000, 1]], vocab_size=70001)
    assert Shards(tmp_path).read(0, 2).tolist() == [70000, 1] and Shards(tmp_path).index["dtype"] == "<u4"


def test_damage_is_found_and_named(shards: Shards, tmp_path: Path) -> None:
    file = shards.path / "00001.bin"
    raw = bytearray(file.read_bytes())
    raw[7] ^= 1
    file.write_bytes(raw)
    with pytest.raises(UsageError, match=r"00001\.bin has changed"):
        Shards(shards.path)
    Shards(shards.path, verify=False)  # the control: without the check, nobody notices
    file.write_bytes(raw[:-2])
    with pytest.raises(UsageError, match="wrong size"):
        Shards(shards.path, verify=False)
    index = shards.path / "index.json"
    data = json.loads(index.read_text())
    data["shards"][0]["file"] = "../../etc/passwd"
    index.write_text(json.dumps(data))
    with pytest.raises(UsageError, match="outside its folder"):
        Shards(shards.path)
    index.write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        Shards(shards.path)
    with pytest.raises(UsageError, match="no folder of token shards"):
        Shards(tmp_path / "nothing")
    with pytest.raises(UsageError, match="outside the vocabulary"):
        write_shards(tmp_path / "bad", [[5]], vocab_size=5)


def test_an_epoch_predicts_every_token_once(shards: Shards) -> None:
    stream = TokenStream(shards, length=16, batch=1)
    windows = (len(shards) - 1) // 16
    seen: Counter[int] = Counter()
    first = []
    for _ in range(windows):
        batch = stream.next_batch()
        assert torch.equal(batch.tokens[:, 1:], batch.targets[:, :-1])
        seen.update(batch.targets.flatten().tolist())
        first.append(int(batch.tokens[0, 0]))
    assert seen == Counter(shards.read(1, windows * 16 + 1).tolist())
    assert stream.epochs == 1 and first != sorted(first)
    assert first != [int(stream.next_batch().tokens[0, 0]) for _ in range(windows)]  # a new order in the next epoch


def test_evaluation_scores_every_token_exactly_once(shards: Shards) -> None:
    seen: list[int] = []
    for batch in evaluation_batches(shards, length=16, batch=3):
        seen += batch.targets[batch.weights > 0].tolist()
    assert seen == shards.read(1, len(shards)).tolist()
    part = list(evaluation_batches(shards, length=16, batch=3, max_tokens=50))
    assert sum(batch.num_targets for batch in part) == 50


def streams(shards: Shards, tokenizer: Tokenizer, seed: int) -> list[Stream]:
    def token() -> TokenStream:
        return TokenStream(shards, length=16, batch=3, seed=seed)

    def chat() -> ChatStream:
        return ChatStream(talks(23), tokenizer, ChatML(), length=64, batch=2, seed=seed)

    return [token(), chat(), Mixture([token(), chat()], [1, 2])]


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_a_saved_position_gives_the_same_batches(shards: Shards, tokenizer: Tokenizer, kind: int) -> None:
    rng = random.Random(kind)
    for _ in range(8):
        seed, before = rng.randrange(99), rng.randrange(60)
        stream = streams(shards, tokenizer, seed)[kind]
        for _ in range(before):
            stream.next_batch()
        state: Any = json.loads(json.dumps(stream.state()))
        expected = [stream.next_batch() for _ in range(30)]
        again = streams(shards, tokenizer, seed)[kind]
        again.restore(state)
        assert all(same(again.next_batch(), batch) for batch in expected)
        fresh = streams(shards, tokenizer, seed)[kind]  # the control: without the position they differ
        assert before == 0 or not all(same(fresh.next_batch(), batch) for batch in expected)


def test_positions_of_other_data_are_refused(shards: Shards, tokenizer: Tokenizer) -> None:
    state = TokenStream(shards, length=16, batch=3).state()
    for other in (
        TokenStream(shards, length=16, batch=4),
        TokenStream(shards, length=8, batch=3),
        TokenStream(shards, length=16, batch=3, seed=1),
    ):
        with pytest.raises(UsageError, match="the saved data position has"):
            other.restore(state)
    with pytest.raises(UsageError, match="lacks"):
        TokenStream(shards, length=16, batch=3).restore({"epoch": 0})
    with pytest.raises(UsageError, match="another mixture"):
        Mixture([TokenStream(shards, length=16, batch=3)], [1]).restore({"weights": [9], "streams": []})


def test_a_chat_epoch_has_every_conversation_once(tokenizer: Tokenizer) -> None:
    stream = ChatStream(talks(23), tokenizer, ChatML(), length=80, batch=1)
    learned: Counter[str] = Counter()
    while stream.epochs < 1:
        batch = stream.next_batch()
        assert batch.segments is not None
        for segment in batch.segments[0].unique():
            inside = (batch.segments[0] == segment) & (batch.weights[0] > 0)
            learned[tokenizer.decode(batch.targets[0][inside].tolist(), skip_special=False)] += 1
    del learned[""]
    assert learned >= Counter(f"answer {i}<|im_end|>" for i in range(23))
    assert max(learned.values()) <= 2 and stream.truncated == 0


def test_long_conversations_are_cut_and_counted(tokenizer: Tokenizer) -> None:
    long = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y 1" * 100}]
    mute = [{"role": "user", "content": "x 1" * 100}, {"role": "assistant", "content": "y"}]
    stream = ChatStream([long, mute, *talks(2)], tokenizer, ChatML(), length=48, batch=1)
    assert (stream.truncated, stream.dropped) == (2, 1)
    assert stream.next_batch().tokens.shape == (1, 48)
    with pytest.raises(UsageError, match="no conversation has a word of the assistant"):
        ChatStream([mute], tokenizer, ChatML(), length=48, batch=1)


def test_mistakes_are_explained(shards: Shards) -> None:
    with pytest.raises(UsageError, match="fewer than a window"):
        TokenStream(shards, length=5000, batch=1)
    with pytest.raises(UsageError, match="the data is empty"):
        Order(0, seed=0)
    with pytest.raises(UsageError, match="one weight for each"):
        Mixture([], [])
    with pytest.raises(UsageError, match="at least 0"):
        Mixture([TokenStream(shards, length=16, batch=1)], [-1])
