"""The engine in this process as the one who writes, through the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hanok.align.synthetic.ask import Ask
from hanok.align.synthetic.local import Local
from hanok.cli import execute
from hanok.engine.local import LLM
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.text.chat import CHATS
from hanok.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def llm() -> LLM:
    tokenizer = Tokenizer.train(["the quick brown fox 사과는 빨갛다 " * 20], vocab_size=280)
    config = ModelConfig.preset("llama-tiny", vocab=tokenizer.vocab_size, dim=16, depth=1, context=512)
    return LLM(Model(config, seed=1), tokenizer, CHATS["chatml"]())


def test_a_reply_depends_on_its_question_and_seed_alone(llm: LLM) -> None:
    asks = [Ask([{"role": "user", "content": f"say {n % 3}"}], 1.0, 6, seed=n) for n in range(5)]
    together = dict(Local(llm, "tiny")(asks))
    assert sorted(together) == list(range(5)) and len({reply.text for reply in together.values()}) == 5
    for at, one in enumerate(asks):
        assert next(Local(llm, "tiny")([one])) == (0, together[at])
    assert not together[0].finished  # six tokens of a random model do not end by themselves


def test_a_model_without_a_chat_format_goes_on_with_the_text(llm: LLM) -> None:
    plain = LLM(llm.model, llm.tokenizer)
    ((_, reply),) = Local(plain, "plain")([Ask([{"role": "user", "content": "the quick"}], 0.0, 5)])
    assert reply.text == plain.generate("the quick\n", 5).text


def test_the_command_writes_rows_and_refuses_what_makes_no_sense(
    llm: LLM, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    llm.save(tmp_path / "model")
    (tmp_path / "seeds.jsonl").write_text('{"topic": "fox"}\n')
    words = ["data", "synthesize", str(tmp_path / "model"), "--seeds", str(tmp_path / "seeds.jsonl")]
    more = ["method=textbook", "max_tokens=5", "batch=2", "whole=false", "novelty=null", "temperature=1"]
    where = ["-o", str(tmp_path / "runs"), "--json", "-q"]
    assert execute([*words, *more, "rows=3", *where]) == 0
    made = json.loads(capsys.readouterr().out)
    rows = [json.loads(line) for line in (Path(made["path"]) / "train.jsonl").read_text().splitlines()]
    assert len(rows) == 3 == made["rows"] and rows[0]["model"] == "model"
    assert execute([*words, *more, *where]) == 2  # a method without an end wants a number of rows
    assert execute([*words, "--name", "gpt", *where]) == 2
    assert "--name is for endpoints" in capsys.readouterr().err
