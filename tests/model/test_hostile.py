"""Mutated model directories: one error type, no hang, bounded memory, nothing run, and the message says where."""

from __future__ import annotations

import json
import random
import re
import runpy
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hanok.core.errors import UsageError
from hanok.engine.local import LLM
from hanok.model import limits
from hanok.model.atlas import entries, published
from hanok.model.config import ModelConfig
from hanok.model.families import FAMILIES
from hanok.model.model import Model
from hanok.model.weights import TokenIds, load_model, save_model
from hanok.text.chat import CHATS
from hanok.text.tokenizer import Tokenizer

from .mutations import mutate_json, mutate_template, mutate_weights

MIB = 1 << 20
CASES = Path(__file__).parents[1] / "conformance" / "cases"
SANDBOXED = ('file "<template>"', 'file "<unknown>"')  # a template is compiled, and runs in Jinja's sandbox


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a sound directory of every family."""
    root, found = tmp_path_factory.mktemp("families"), {}
    for name in FAMILIES:
        cases = runpy.run_path(str(CASES / f"family_{name}.py"))
        theirs = {"vocab_size": 101, "model_type": name} | cases["BASE"] | cases["CASES"][0]
        model = Model(FAMILIES[name].read_config(theirs))
        model.origin = theirs | (FAMILIES[name].write_config(model.config) or {})  # every key that there is
        save_model(model, root / name, TokenIds(1, (2, 3), 0))
        load_model(root / name)
        assert json.loads((root / name / "config.json").read_text())["model_type"] == name
        found[name] = root / name
    return found


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with every file that a model that talks, or one that embeds, can have."""
    path = tmp_path_factory.mktemp("talker") / "model"
    tokenizer = Tokenizer.train(["hello world, a house has rooms"], vocab_size=280)
    model = Model(ModelConfig.preset("llama-tiny", vocab=300, dim=32, depth=1))
    LLM(model, tokenizer, CHATS["chatml"]()).save(path)
    (path / "special_tokens_map.json").write_text('{"bos_token": {"content": "<s>"}, "eos_token": "</s>"}')
    modules = [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "1_Pooling"}]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    _attempt(path)
    return path


def _attempt(path: Path) -> str:
    """Load a directory and use it a little; return how it ended."""
    try:
        llm = LLM.load(path)
        if llm.tokenizer is not None:
            llm.generate("hello", 1)
            llm.embed(["hello"])
            if llm.chat is not None:
                llm.generate([{"role": "user", "content": "hello"}], 1)
    except UsageError as error:
        return str(error)
    return ""


Mutation = Callable[[bytes, random.Random], bytes]
Target = tuple[Path, str, Mutation]  # a directory, the file of it that is mutated, and how


def _fuzz(targets: list[Target], count: int, seed: int) -> Iterator[tuple[str, float, Path]]:
    rng = random.Random(seed)
    for number in range(count):
        path, name, mutation = targets[number % len(targets)]
        sound = (path / name).read_bytes()
        (path / name).write_bytes(mutation(sound, rng))
        start = time.process_time()
        try:
            end = _attempt(path)
        finally:
            (path / name).write_bytes(sound)
        yield end, time.process_time() - start, path


def _campaign(targets: list[Target], count: int, watch: Any) -> Counter[str]:
    """Mutate and load; return how many were refused and how many read."""
    for path in {path for path, _, _ in targets}:  # whatever is imported or set up once happens here
        assert _attempt(path) == ""
    before = watch.peak(reset=True)
    ends: Counter[str] = Counter()
    slowest = 0.0
    for end, seconds, path in _fuzz(targets, count, seed=count):
        ends["refused" if end else "read"] += 1
        named = path.name in end or ".json" in end or "chat template" in end or "prompt is empty" in end
        assert not end or (named and len(end) < 4000), end[:4000]
        slowest = max(slowest, seconds)
    assert slowest < 1.0, slowest
    assert watch.peak() - before < 96 * MIB, f"{(watch.peak() - before) / MIB:.0f} MiB"
    with watch.events() as events:
        for _ in _fuzz(targets, count // 10, seed=count + 1):
            pass
    inside = tuple(str(path) for path, _, _ in targets)
    others = [event for event in events if not any(word in event for word in (*inside, *SANDBOXED))]
    assert events and not others, others[:5]
    return ends


def _config_targets(families: dict[str, Path]) -> list[Target]:
    return [(path, "config.json", mutate_json) for path in families.values()]


def _weight_targets(families: dict[str, Path]) -> list[Target]:
    return [(path, "model.safetensors", mutate_weights) for path in families.values()]


def _text_targets(path: Path) -> list[Target]:
    names = ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json"]
    names += ["tokenizer.json", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json"]
    return [(path, "chat_template.jinja", mutate_template), *((path, name, mutate_json) for name in names)]


def test_mutated_configs_are_read_or_refused(families: dict[str, Path], watch: Any) -> None:
    ends = _campaign(_config_targets(families), 80, watch)
    assert ends["refused"] > 35 and ends["read"] > 11, ends


def test_mutated_weights_are_read_or_refused(families: dict[str, Path], watch: Any) -> None:
    ends = _campaign(_weight_targets(families), 80, watch)
    assert ends["refused"] > 56 and ends["read"] > 1, ends


def test_mutated_texts_are_read_or_refused(talker: Path, watch: Any) -> None:
    ends = _campaign(_text_targets(talker), 54, watch)
    assert ends["refused"] > 19 and ends["read"] > 4, ends


@pytest.mark.slow
def test_ten_thousand_mutated_files_are_read_or_refused(families: dict[str, Path], talker: Path, watch: Any) -> None:
    ends = _campaign(_config_targets(families), 5000, watch)
    ends += _campaign(_weight_targets(families), 3000, watch)
    ends += _campaign(_text_targets(talker), 2000, watch)
    assert ends["refused"] > 6000 and ends["read"] > 500, ends


def test_without_the_guard_the_campaign_fails(families: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: rows that reckon with what they find let other errors through, if nobody catches them."""
    monkeypatch.setattr("hanok.model.families.table.WRONG", ())
    with pytest.raises((TypeError, AttributeError, ValueError, ArithmeticError, LookupError)) as caught:
        for _ in _fuzz(_config_targets({"llama": families["llama"]}), 660, seed=660):
            pass
    assert not isinstance(caught.value, UsageError)


def _with_config(path: Path, **changes: Any) -> None:
    theirs = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps({key: value for key, value in theirs.items() if value is not ...}))


def _with_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors")


@pytest.mark.parametrize(
    "family", ["llama", "gpt2", "gpt_neox", "bloom", "mixtral", "mamba", "bert", "t5", "deepseek_v3"]
)
def test_what_is_wrong_is_named(family: str, families: dict[str, Path], tmp_path: Path) -> None:
    names = sorted(load_file(families[family] / "model.safetensors"))
    matrix = next(name for name in reversed(names) if load_file(families[family] / "model.safetensors")[name].ndim > 1)

    def refused(change: Callable[[Path], Any], *words: str) -> None:
        path = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(families[family], path)
        change(path)
        with pytest.raises(UsageError) as caught:
            load_model(path)
        for word in (str(path), *words):
            assert word in str(caught.value), caught.value

    refused(lambda path: _with_tensors(path, lambda t: t.pop(matrix)), "missing", matrix)
    refused(lambda path: _with_tensors(path, lambda t: t.update({"odd.one": torch.ones(2)})), "'odd.one'", "no place")
    wider = torch.ones(3, 1000)
    refused(lambda path: _with_tensors(path, lambda t: t.update({matrix: wider})), matrix, "[3, 1000]", "asks for")
    refused(lambda path: _with_tensors(path, lambda t: t.update({matrix: t[matrix].int()})), matrix, "int32")
    refused(lambda path: _with_config(path, auto_map={"AutoModel": "evil.Model"}), "auto_map")
    refused(lambda path: _with_config(path, model_type=f"{family}_"), f"{family}_", f"mean {family!r}")
    refused(lambda path: _with_config(path, model_type=...), "model_type None")
    refused(lambda path: (path / "model.safetensors").rename(path / "pytorch_model.bin"), "pickled", "from_pretrained")


def test_an_index_that_lies(families: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(families["llama"], tmp_path / "m")
    path, index = tmp_path / "m", tmp_path / "m" / "model.safetensors.index.json"
    (path / "model.safetensors").rename(path / "a.safetensors")
    (tmp_path / "outside.safetensors").write_bytes((path / "a.safetensors").read_bytes())
    (path / "folder.safetensors").mkdir()
    (path / "code.py").write_text("raise SystemExit")

    def refused(data: Any, message: str) -> None:
        index.write_text(data if isinstance(data, str) else json.dumps(data))
        with pytest.raises(UsageError, match=message) as caught:
            load_model(path)
        assert str(path) in str(caught.value) and len(str(caught.value)) < 2000

    for name in ("../outside.safetensors", str(tmp_path / "outside.safetensors"), "b.safetensors", "", ".", "..", "\0"):
        refused({"weight_map": {"x": name}}, "not a file of this directory")
    for name in ("folder.safetensors", "code.py", "config.json", "a.safetensors\0", "x" * 5000):
        refused({"weight_map": {"x": name}}, "not a file of this directory")
    for damaged in ([], {}, {"weight_map": 3}, {"weight_map": {}}, {"weight_map": {"x": ["a"]}}, "{", "[" * 10**6):
        refused(damaged, "index.json")
    (path / "b.safetensors").write_bytes((path / "a.safetensors").read_bytes())
    refused({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}, "in another shard too")
    index.write_text('{"weight_map": {"what it says of tensors": "a.safetensors"}}')
    load_model(path)  # the headers say what is where
    (path / "a.safetensors").unlink()
    (path / "a.safetensors").symlink_to(tmp_path / "outside.safetensors")
    load_model(path)  # as in the hub's cache, whose files are all links
    (tmp_path / "outside.safetensors").write_text("a secret that is no safetensors file")
    with pytest.raises(UsageError) as caught:
        load_model(path)
    assert "a.safetensors" in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a file without end")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "generation_config.json"])
def test_a_file_without_end_is_not_read(name: str, families: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(families["llama"], tmp_path / "m")
    (tmp_path / "m" / name).unlink()
    (tmp_path / "m" / name).symlink_to("/dev/zero")
    if name == "generation_config.json":  # passed over like one that is not there
        LLM.load(tmp_path / "m")
        return
    with pytest.raises(UsageError):
        LLM.load(tmp_path / "m")


def test_large_files_of_settings_are_refused_unread(families: dict[str, Path], tmp_path: Path, watch: Any) -> None:
    shutil.copytree(families["llama"], tmp_path / "m")
    with (tmp_path / "m" / "config.json").open("ab") as file:
        file.truncate(10**10)  # without blocks on the disk
    before, start = watch.peak(reset=True), time.process_time()
    with pytest.raises(UsageError, match="more than 4 MiB"):
        load_model(tmp_path / "m")
    assert watch.peak() - before < 32 * MIB and time.process_time() - start < 5.0


SIZES = ("hidden_size", "n_embd", "d_model", "vocab_size")
DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_wrong_size_is_refused_by_its_key(family: str, families: dict[str, Path]) -> None:
    path = families[family]
    sound = (path / "config.json").read_text()
    theirs = json.loads(sound)
    keys = [key for key in theirs if key in SIZES + DEPTHS]
    assert len(keys) >= 3, keys
    try:
        for key in keys:
            for wrong in ("x", [3], {}, -3, 10**9, 10**15):
                (path / "config.json").write_text(json.dumps(theirs | {key: wrong}))
                start = time.process_time()
                with pytest.raises(UsageError) as caught:
                    load_model(path)
                assert time.process_time() - start < 2.0
                assert str(path) in str(caught.value)
                if key in DEPTHS or isinstance(wrong, list | dict):
                    assert key in str(caught.value) or "number of layers" in str(caught.value), (key, wrong)
    finally:
        (path / "config.json").write_text(sound)


def test_limits_are_far_above_what_is_published() -> None:
    for name in entries():
        config = published(name)
        limits.check_sizes(config, {}, name)
        assert 3 * limits.layers(config) < limits.DEEPEST, name
        for path, value in limits._numbers(config.to_dict()):
            limit = limits.LIMITS.get(path.rpartition(".")[2], limits.LARGEST)
            assert 2 * value <= limit, (name, path, value)


def test_the_guide_lists_every_family() -> None:
    page = (Path(__file__).parents[2] / "docs" / "guide" / "models.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| `(\w+)` \| .+ \| .+ \|$", page, re.M)
    assert dict(rows) == {name: FAMILIES[name].architecture for name in FAMILIES}
    for limit in (limits.DEEPEST, limits.MOST_EXPERTS):
        assert f"{limit:,}" in page
    assert "2^24" in page and limits.MOST_WORDS == 2**24 and "2^20" in page and limits.LARGEST == 2**20
