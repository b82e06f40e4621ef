"""Encoders and pairs in their files' older and barer forms, and what their presets cost, learn and can recall."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import hanok
from hanok.core.errors import UsageError
from hanok.engine.engine import Engine
from hanok.engine.local import LLM
from hanok.engine.request import Request
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.model.size import count
from hanok.model.weights import load_model, read_token_ids, save_model
from hanok.nn.context import Dense

SIZES = {
    "vocab_size": 61,
    "hidden_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "intermediate_size": 48,
    "max_position_embeddings": 32,
}
TOKENS = torch.randint(0, 61, (3, 20), generator=torch.Generator().manual_seed(5))


def theirs(name: str, **keys: Any) -> Any:
    """Return one of the reference library's BERTs, in which every tensor matters."""
    torch.manual_seed(1)
    model = getattr(transformers, name)(transformers.BertConfig(**(SIZES | keys))).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    return model


def rename(path: Path, change: Any) -> None:
    """Rewrite the names of a directory's tensors; None drops one."""
    tensors = load_file(path / "model.safetensors")
    save_file({change(k): v for k, v in tensors.items() if change(k)}, path / "model.safetensors")


@torch.no_grad()
def test_a_bare_bert_with_its_pooler_both_ways(tmp_path: Path) -> None:
    bert = theirs("BertModel")
    bert.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    assert ours.config.head is None and ours.config.pooler == "tanh"
    want, hidden = bert(TOKENS), ours.hidden(TOKENS)
    torch.testing.assert_close(hidden, want.last_hidden_state, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.pool(hidden), want.pooler_output, rtol=0, atol=1e-5)
    assert count(ours.config).params == sum(p.numel() for p in bert.parameters())
    save_model(ours, tmp_path / "ours", read_token_ids(tmp_path / "theirs"))
    back, info = transformers.BertModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    torch.testing.assert_close(back.eval()(TOKENS).pooler_output, want.pooler_output, rtol=0, atol=1e-6)
    assert load_model(tmp_path / "ours").config == ours.config
    kept = back.config.to_dict()
    for key, value in bert.config.to_dict().items():
        assert key in ("_name_or_path", "transformers_version") or kept[key] == value, key
    with pytest.raises(UsageError, match="no head"):
        ours(TOKENS)


@torch.no_grad()
def test_padding_is_seen_by_nothing() -> None:
    bert, lengths = theirs("BertModel"), [20, 7, 13]
    seen = torch.arange(20) < torch.tensor(lengths)[:, None]
    ours = convert(bert)
    want = bert(TOKENS, attention_mask=seen.long()).last_hidden_state
    found = ours.hidden(TOKENS, Dense(TOKENS, segments=(~seen).long()))
    torch.testing.assert_close(found[seen], want[seen], rtol=0, atol=1e-5)


@torch.no_grad()
def test_token_types(tmp_path: Path) -> None:
    bert, types = theirs("BertModel"), torch.randint(0, 2, TOKENS.shape)
    ours, ctx = convert(bert), Dense(TOKENS)
    x = ours.embed(TOKENS, ctx.positions, types)
    for block in ours.blocks:
        x = block(x, ctx)
    torch.testing.assert_close(x, bert(TOKENS, token_type_ids=types).last_hidden_state, rtol=0, atol=1e-5)


def convert(model: Any) -> Model:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_model(folder)


@torch.no_grad()
def test_a_bert_without_pooler(tmp_path: Path) -> None:
    torch.manual_seed(1)
    bert = transformers.BertModel(transformers.BertConfig(**SIZES), add_pooling_layer=False).eval()
    bert.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"bert\.pooler\.dense\.weight"):
        load_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"add_pooling_layer": False}))
    ours = load_model(tmp_path)
    torch.testing.assert_close(ours.hidden(TOKENS), bert(TOKENS).last_hidden_state, rtol=0, atol=1e-5)
    save_model(ours, tmp_path / "ours")
    assert load_model(tmp_path / "ours").config == ours.config


@torch.no_grad()
def test_older_names_and_missing_prefixes(tmp_path: Path) -> None:
    bert = theirs("BertForMaskedLM")
    want = bert(TOKENS).logits
    bert.save_pretrained(tmp_path)

    def older(name: str) -> str:
        if "LayerNorm" in name:
            name = name.replace("weight", "gamma").replace("bias", "beta")
        return name.removeprefix("bert.")

    rename(tmp_path, older)
    tensors = load_file(tmp_path / "model.safetensors")
    assert "embeddings.LayerNorm.gamma" in tensors and "cls.predictions.transform.LayerNorm.beta" in tensors
    extra = {
        "embeddings.position_ids": torch.arange(32)[None],
        "cls.predictions.decoder.weight": tensors["embeddings.word_embeddings.weight"].clone(),
        "cls.predictions.decoder.bias": tensors["cls.predictions.bias"].clone(),
    }
    save_file(tensors | extra, tmp_path / "model.safetensors")
    torch.testing.assert_close(load_model(tmp_path)(TOKENS), want, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_files_of_pretraining_are_read_as_a_masked_model(tmp_path: Path) -> None:
    bert = theirs("BertForPreTraining")
    bert.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    want = bert(TOKENS).prediction_logits
    torch.testing.assert_close(ours(TOKENS), want, rtol=0, atol=1e-5)
    save_model(ours, tmp_path / "ours")
    back = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "ours").eval()
    assert type(back) is transformers.BertForMaskedLM
    torch.testing.assert_close(back(TOKENS).logits, want, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_head_that_is_not_tied(tmp_path: Path) -> None:
    bert = theirs("BertForMaskedLM", tie_word_embeddings=False)
    bert.save_pretrained(tmp_path / "theirs")
    ours, want = load_model(tmp_path / "theirs"), bert(TOKENS).logits
    torch.testing.assert_close(ours(TOKENS), want, rtol=0, atol=1e-5)
    save_model(ours, tmp_path / "ours")
    torch.testing.assert_close(load_model(tmp_path / "ours")(TOKENS), want, rtol=0, atol=1e-5)
    # There the library has a second bias beside the decoder's own, which it does not use and so may miss.
    back, info = transformers.BertForMaskedLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert set(info["missing_keys"]) == {"cls.predictions.bias"} and not info["unexpected_keys"]
    torch.testing.assert_close(back.eval()(TOKENS).logits, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"architectures": ["BertForSequenceClassification"]}, "BertForSequenceClassification"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"is_decoder": True}, "is_decoder"),
        ({"hidden_act": "mish"}, "mish"),
    ],
)
def test_what_is_not_computed_is_refused(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    theirs("BertForMaskedLM").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | keys))
    with pytest.raises(UsageError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize(("name", "message"), [("BertForMaskedLM", "see both ways"), ("BertModel", "no head")])
def test_an_encoder_does_not_generate(name: str, message: str) -> None:
    llm = LLM(convert(theirs(name)))
    with pytest.raises(UsageError, match=f"cannot generate text.*{message}"):
        llm.generate([1, 2, 3])
    with pytest.raises(UsageError, match=message):
        Engine(llm).add(Request([1, 2, 3]))


@torch.no_grad()
def test_learned_positions_end() -> None:
    with pytest.raises(UsageError, match="reads 32 tokens"):
        convert(theirs("BertModel")).hidden(torch.zeros(1, 33, dtype=torch.int64))
    assert hanok.LLM(convert(theirs("BertModel"))).embed([[1] * 40]).shape == (1, 40), "embed cuts texts"
