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


# BERT has what transformers counts with its pooler; Vaswani et al. 2017 print 65M and 213M for a vocabulary of "about
# 37000 tokens".
COUNTS: list[tuple[str, dict[str, Any], int]] = [
    ("transformer", {}, 63_082_496),
    ("transformer", {"size": "big"}, 214_245_376),
    ("bert", {"head": "pooler"}, 109_482_240),
    ("bert", {"size": "large", "head": "pooler"}, 335_141_888),
]


@pytest.mark.parametrize(("preset", "dials", "params"), COUNTS, ids=str)
def test_presets_have_their_published_parameters(preset: str, dials: dict[str, Any], params: int) -> None:
    assert count(ModelConfig.preset(preset, **dials)).params == params


@pytest.mark.parametrize(("size", "billions"), [("1.3B", 1.3), ("2.7B", 2.7), ("6.7B", 6.7)])
def test_a_retnet_layer_has_12_squares_of_its_width(size: str, billions: float) -> None:
    config = ModelConfig.preset("retnet", size=size)
    found = count(config)
    squares = 12 * config.depth * config.dim**2
    norms = (2 * config.depth + 1) * 2 * config.dim
    assert found.params == squares + norms + config.vocab * config.dim
    assert found.params / 1e9 == pytest.approx(billions, rel=0.025)
    assert found.cache_numbers == 0 and found.state_bytes == config.depth * config.dim * 512 * 4


@torch.no_grad()
def test_the_transformer_of_2017_equals_torch() -> None:
    """The preset's stacks compute what `torch.nn.TransformerEncoder` and `Decoder` compute with the same weights."""
    model = Model(ModelConfig.preset("transformer", vocab=50, dim=24, depth=2, heads=3)).double()
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    keys = {"dim_feedforward": 96, "dropout": 0.0, "layer_norm_eps": 1e-6, "batch_first": True, "dtype": torch.float64}
    layers = (torch.nn.TransformerEncoderLayer(24, 3, **keys), torch.nn.TransformerDecoderLayer(24, 3, **keys))
    read = torch.nn.TransformerEncoder(layers[0], 2, enable_nested_tensor=False).eval()
    write = torch.nn.TransformerDecoder(layers[1], 2).eval()
    assert model.encoder is not None
    for theirs_stack, ours_stack in ((read, model.encoder.blocks), (write, model.blocks)):
        for layer, block in zip(theirs_stack.layers, ours_stack, strict=True):
            copy_layer(layer, dict(block.named_parameters()))
    source, tokens = torch.randint(0, 50, (2, 9)), torch.randint(0, 50, (2, 7))
    at = torch.arange(9, dtype=torch.float64)[:, None] / 10000 ** (2 * torch.arange(12, dtype=torch.float64) / 24)
    sines = torch.stack((at.sin(), at.cos()), -1).flatten(1)
    table = model.embed.weight
    seen = read(table[source] * 24**0.5 + sines)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(7, dtype=torch.float64)
    states = write(table[tokens] * 24**0.5 + sines[:7], seen, tgt_mask=mask, tgt_is_causal=True)
    torch.testing.assert_close(model(tokens, source=source), states @ table.T, rtol=1e-9, atol=1e-9)


def copy_layer(layer: Any, ours: dict[str, torch.Tensor]) -> None:
    """Fill a layer of torch's with a block's weights."""
    pairs = [("mixer", layer.self_attn), ("cross", getattr(layer, "multihead_attn", None))]
    branches = ["mixer", *(["cross"] if pairs[1][1] is not None else []), "ffn"]
    for part in ("weight", "bias"):
        for name, attention in pairs[: len(branches) - 1]:
            fused = torch.cat([ours[f"{name}.{a}.{part}"] for a in "qkv"])
            getattr(attention, f"in_proj_{part}").copy_(fused)
            getattr(attention.out_proj, part).copy_(ours[f"{name}.o.{part}"])
        getattr(layer.linear1, part).copy_(ours[f"ffn.up.{part}"])
        getattr(layer.linear2, part).copy_(ours[f"ffn.down.{part}"])
        for at, branch in enumerate(branches, 1):
            getattr(getattr(layer, f"norm{at}"), part).copy_(ours[f"{branch}_norm.{part}"])


SMALL: list[tuple[str, dict[str, Any]]] = [
    ("transformer", {"heads": 4}),
    ("bert", {"heads": 4}),
    ("retnet", {"heads": 2}),
    ("lstm-lm", {}),
    ("gru-lm", {}),
    ("rnn-lm", {}),
    *(("seq2seq", {"cell": cell, "cross": cross}) for cell, cross in (("gru", "fixed"), ("rnn", "additive"))),
    ("seq2seq", {"cross": "attention", "heads": 2}),
    ("seq2seq", {"cross": "none", "depth": 1}),
]


@pytest.mark.parametrize(("preset", "dials"), SMALL, ids=str)
def test_presets_learn_a_text_by_heart_and_round_trip(preset: str, dials: dict[str, Any], tmp_path: Path) -> None:
    config = ModelConfig.preset(preset, **({"vocab": 20, "dim": 32, "depth": 2, "context": 32} | dials))
    model = Model(config, seed=1)
    text = torch.randint(0, 20, (2, 17), generator=torch.Generator().manual_seed(3))
    tokens, targets = text[:, :-1], text[:, 1:]
    given = {"source": targets} if config.encoder else {}
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    losses = []
    for _ in range(25):
        loss = torch.nn.functional.cross_entropy(model(tokens, **given).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0], losses
    save_model(model, tmp_path)
    assert load_model(tmp_path).config == config
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path)(tokens, **given), model(tokens, **given))


def test_starting_weights_come_from_the_seed_alone() -> None:
    config = ModelConfig.preset("bert", vocab=20, dim=32, depth=1, heads=2, context=16)
    models = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        models.append(Model(config, seed=7))
    for (name, a), b in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b), name
    assert models[0].embed.types is not None and 0.01 < float(models[0].embed.types.weight.detach().std()) < 0.03


@torch.no_grad()
def test_a_bert_of_ours_is_one_of_theirs(tmp_path: Path) -> None:
    model = Model(ModelConfig.preset("bert", vocab=61, dim=40, depth=2, heads=5, context=32))
    save_model(model, tmp_path)
    back = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(back(TOKENS).logits, model(TOKENS), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("preset", "dials", "message"),
    [
        ("seq2seq", {"cross": "additve"}, "cross must be one of fixed, additive"),
        ("seq2seq", {"cross": "fixed", "depth": 1}, "depth must be at least 2"),
        ("bert", {"size": "huge"}, "no size 'huge'"),
        ("transformer", {"headz": 3}, "did you mean 'heads'"),
    ],
)
def test_wrong_dials_are_explained(preset: str, dials: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ModelConfig.preset(preset, **dials)
