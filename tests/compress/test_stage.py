import csv
import json

import pytest
import torch

from hanok.compress.apply import quantized
from hanok.compress.quantize import QUANTIZERS
from hanok.compress.stages import QuantizeConfig, stage_for
from hanok.core.errors import UsageError
from hanok.core.log import Log
from hanok.core.stage import run_stage
from hanok.engine.local import LLM, load
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.text.chat import CHATS
from hanok.text.data.shard import write_shards
from hanok.text.tokenizer import Tokenizer

QUIET = Log(None, quiet=True)
TEXTS = ["The post rests on stone, the beam rests on the post, and the roof rests on both. " * 4] * 8


@pytest.fixture(params=["llama-tiny", "griffin-tiny"])
def source(request, tmp_path):
    tokenizer = Tokenizer.train(TEXTS, vocab_size=280)
    config = ModelConfig.preset(request.param, vocab=tokenizer.vocab_size, dim=128)
    llm = LLM(Model(config, seed=5), tokenizer, CHATS["chatml"]())
    llm.save(tmp_path / "model")
    return llm, tmp_path / "model"


def test_the_stage_writes_a_model_like_any_other(source, tmp_path):
    llm, path = source
    text = tmp_path / "calibration.txt"
    text.write_text(TEXTS[0])
    inputs = {"model": path, "tokens": text}
    artifact = run_stage(stage_for(inputs), QuantizeConfig(), inputs, tmp_path / "runs", log=QUIET)
    assert artifact.kind == "model"
    again = load(artifact.path)
    expected = quantized(llm.model, QUANTIZERS["int8"](QUANTIZERS["int8"].Config()))
    tokens = torch.tensor([llm.tokenizer.encode_document(TEXTS[0])])
    with torch.no_grad():
        assert torch.equal(again.model(tokens), expected(tokens))
    assert again.chat is not None and again.stop_ids == llm.stop_ids
    assert (
        again.generate("The post", max_tokens=4).tokens
        == LLM(expected, llm.tokenizer, llm.chat).generate("The post", max_tokens=4).tokens
    )
    figures = artifact.metrics
    assert figures["bytes_after"] < 0.6 * figures["bytes_before"]  # the embedding stays
    rows = list(csv.DictReader((artifact.path / "layers.csv").read_text().splitlines()))
    record = json.loads((artifact.path / "quantize.json").read_text())
    assert len(rows) == len(record["per_layer"]) == figures["layers"]
    assert figures["worst_layer"] in {row["name"] for row in rows}
    assert 0 < figures["mean_output_error"] <= figures["worst_output_error"] < 0.05


def test_prepared_tokens_calibrate_too_and_none_claims_nothing(source, tmp_path):
    llm, path = source
    documents = [llm.tokenizer.encode_document(text) for text in TEXTS]
    write_shards(tmp_path / "data" / "train", documents, vocab_size=llm.tokenizer.vocab_size)
    inputs = {"model": path, "tokens": tmp_path / "data"}
    made = run_stage(stage_for(inputs), QuantizeConfig(), inputs, tmp_path / "runs", log=QUIET)
    assert made.metrics["worst_output_error"] > 0
    alone = run_stage(stage_for({"model": path}), QuantizeConfig(), {"model": path}, tmp_path / "runs", log=QUIET)
    assert "worst_output_error" not in alone.metrics and alone.metrics["worst_weight_error"] > 0


def test_a_quantised_model_is_not_quantised_again(source, tmp_path):
    _, path = source
    once = run_stage(stage_for({"model": path}), QuantizeConfig(), {"model": path}, tmp_path / "runs", log=QUIET)
    with pytest.raises(UsageError, match="leaves nothing to quantize"):
        run_stage(stage_for({"model": once.path}), QuantizeConfig(), {"model": once.path}, tmp_path / "x", log=QUIET)
