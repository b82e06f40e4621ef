"""The command line as people meet it: quick help, errors that help, exit codes that mean something."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hanok import Model, ModelConfig
from hanok.cli import VERBS, build, normalise
from hanok.cli import execute as run
from hanok.core.artifact import Artifact
from hanok.engine.local import LLM
from hanok.text.chat import CHATS
from hanok.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny random model that can chat."""
    path = tmp_path_factory.mktemp("model")
    tokenizer = Tokenizer.train(["the quick brown fox 사과는 빨갛다 0123456789 " * 50], vocab_size=300)
    config = ModelConfig.preset("llama-tiny", vocab=tokenizer.vocab_size, dim=32, depth=2)
    LLM(Model(config), tokenizer, CHATS["chatml"]()).save(path)
    return path


def test_help_is_quick_and_imports_no_torch() -> None:
    script = "import sys; from hanok.cli import execute; execute(['--help'])"
    script += "; print('torch' in sys.modules, 'numpy' in sys.modules)"
    best, out = float("inf"), ""
    for _ in range(5):
        started = time.perf_counter()
        out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        best = min(best, time.perf_counter() - started)
    assert out.rstrip().endswith("False False")
    assert "quickstart" in out and "Exit codes" in out
    assert best < 3.0  # 0.15 s on an idle machine; the bound is for a busy one


def test_every_verb_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for verbs in VERBS.values():
        for verb in verbs:
            assert run([verb, "--help"]) == 0
            assert f"hanok {verb}" in capsys.readouterr().out


def test_a_verbs_page_says_what_its_docstring_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pretrain", "--help"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "hanok pretrain --data corpus/*.txt preset=llama-depth" in page and "--nproc-per-node=4" in page
    assert run(["data", "--help"]) == 0
    page = capsys.readouterr().out
    assert all(re.search(rf"│ {verb} +\w", page) for verb in ("clean", "ngram", "select", "synthesize", "trace"))


def test_bare_command_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0 and "quickstart" in capsys.readouterr().out
    assert "hanok" in build().name


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["pretrian"], "pretrian"),
        (["pretrain", "optimizer.lrr=1", "steps=1"], "unknown key 'optimizer.lrr'|lrr"),
        (["pretrain", "stesp=1"], "did you mean 'steps'"),
        (["pretrain", "preset=lama-tiny", "steps=1"], "did you mean 'llama-tiny'"),
        (["pretrain", "--data", "absent.txt", "steps=1"], "absent.txt"),
        (["sft", "nowhere", "--data", "x.jsonl", "steps=1"], "nowhere"),
        (["sft"], "requires an argument"),
        (["serve", "nowhere"], "nowhere"),
        (["eval", "nowhere", "-t", "x"], "nowhere"),
        (["inspect", "lama-tiny"], "did you mean 'llama-tiny'"),
        (["inspect", "llama-tiny", "dmi=3"], "dmi"),
        (["ls", "mixer"], "did you mean 'mixers'"),
        (["run", "nowhere", "hi"], "nowhere"),
        (["scale", "fit", "absent.csv"], "absent.csv"),
        (["report", "absent"], "absent"),
        (["quickstart", "--minutes", "-1"], "minutes"),
        (["tokenizer", "eval", "nowhere"], "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_exits_2_and_says_what_would_be_right(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(argv) == 2
    err = capsys.readouterr().err
    assert any(word in err for word in message.split("|")), err
    assert "Traceback" not in err


def test_spellings() -> None:
    assert normalise(["sft", "m", "--output_dir", "x", "--optimizer.lr", "3", "--loop.clip=2", "--", "--a_b"]) == [
        "sft", "m", "--output-dir", "x", "optimizer.lr=3", "loop.clip=2", "--", "--a_b",
    ]  # fmt: skip


def test_inspect_counts_and_draws(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    assert run(["inspect", "llama-tiny", "depth=6", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["parameters"] == sum(p.numel() for p in Model(ModelConfig.preset("llama-tiny", depth=6)).parameters())
    assert facts["cache_bytes_per_token"]["bf16"] == 6 * 2 * 2 * 32 * 2  # layers, key and value, heads, size, bytes
    assert run(["inspect", str(model)]) == 0
    assert "gqa" in capsys.readouterr().out


def test_ls(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["ls", "--json"]) == 0
    kinds = {row["kind"]: row["names"] for row in json.loads(capsys.readouterr().out)}
    assert "gqa" in kinds["mixers"] and "muon" in kinds["optimizers"] and all(kinds.values())
    assert run(["ls", "runs", "-o", str(tmp_path)]) == 0
    assert "nothing" in capsys.readouterr().out


def test_run_and_stream(capsys: pytest.CaptureFixture[str], model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    assert run(["run", str(model), "the fox", "--max-tokens", "5", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert run(["run", str(model), "the fox", "--max_tokens", "5"]) == 0
    assert capsys.readouterr().out == whole["text"] + "\n"


def test_run_in_a_form(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of a schema, or an expression; both, or a bad one, is the user's error."""
    monkeypatch.setattr("hanok.cli.run.read_piped", lambda wait: "")
    schema = tmp_path / "schema.json"
    schema.write_text('{"enum": ["한옥", 7]}', encoding="utf-8")
    assert run(["run", str(model), "the fox", "--json-schema", str(schema)]) == 0
    assert json.loads(capsys.readouterr().out) in ("한옥", 7)
    assert run(["run", str(model), "the fox", "--regex", "[0-9]{3}"]) == 0
    assert len(capsys.readouterr().out.strip()) == 3
    assert run(["run", str(model), "the fox", "--regex", "[0-9]{3}", "--json-schema", str(schema)]) == 2
    assert run(["run", str(model), "the fox", "--regex", "["]) == 2


def test_the_verbs_follow_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Data, pre-training, fine-tuning, preferences, rewards, evaluation, int8 and the report, on a user's own files."""
    out = ["-o", str(tmp_path), "-q", "--json"]

    def verb(*argv: str, code: int = 0) -> Path:
        assert run([*argv, *out]) == code, capsys.readouterr().err
        line = capsys.readouterr().out.splitlines()[0]
        return Path(json.loads(line)["path"])

    (tmp_path / "text.txt").write_text("Roses are red, violets are blue; 장미는 붉다.\n\n" * 400, encoding="utf-8")
    sizes = ["conversations=40", "preferences=20", "prompts=20", "valid=5", "held_out=5"]
    tasks = verb("data", "tasks", *sizes)
    tokens = verb("data", "prepare", "--data", str(tmp_path / "text.txt"), "vocab_size=300", "task_items=20")
    train = ["steps=3", "batch=2", "length=96"]
    base = verb("pretrain", "--data", str(tokens), *train, "dials.dim=32", "dials.depth=1")
    again = verb("pretrain", "--config", str(base / "config.yaml"), "--data", str(tokens))
    assert again == base, "the resolved configuration runs again, and finds its own result"
    tuned = verb("sft", str(base), "--data", str(tasks / "conversations.jsonl"), *train)
    aligned = verb("dpo", str(tuned), "--data", str(tasks / "preferences.jsonl"), *train)
    rl = ["steps=2", "batch=2", "group=2", "max_tokens=4", "length=96"]
    rewarded = verb("grpo", str(aligned), "--data", str(tasks / "prompts.jsonl"), *rl)
    small = verb("quantize", str(rewarded), "--text", str(tmp_path / "text.txt"))
    held = ["-t", str(tasks / "held_out.jsonl"), "--text", str(tmp_path / "text.txt")]
    scores = verb("eval", str(small), *held)
    assert Artifact.load(scores).metrics["bits_per_byte"] > 0
    verb("eval", str(small), *held, "--fail-under", "copy=0.99", code=3)
    assert run(["data", "show", str(tasks / "conversations.jsonl"), "-m", str(tuned), "-n", "1"]) == 0
    assert "[" in capsys.readouterr().out
    assert run(["report", str(tmp_path), "--json"]) == 0
    assert (tmp_path / "report.html").stat().st_size > 100_000
    assert run(["ls", "runs", "-o", str(tmp_path), "--json"]) == 0


def test_damage_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["data", "tasks", "conversations=5", "preferences=5", "prompts=5", "valid=2", "held_out=2"]
    argv += ["-o", str(tmp_path), "-q", "--json"]
    assert run(argv) == 0
    path = Path(json.loads(capsys.readouterr().out)["path"])
    with (path / "prompts.jsonl").open("a") as file:
        file.write(" ")
    assert run(argv) == 2
    assert "prompts.jsonl has changed" in capsys.readouterr().err
    assert run([*argv, "--resume", "maybe"]) == 2
