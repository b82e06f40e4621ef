"""The figures of a finished step in one line."""

from __future__ import annotations

from typing import Any

from hanok.core.artifact import Artifact


def summary(name: str, artifact: Artifact) -> str:
    """Return what to say about a step; only measured figures."""
    m = artifact.metrics
    if artifact.kind == "scores":
        bits = f"{m['bits_per_byte']:.3f} bits/byte" if "bits_per_byte" in m else ""
        tasks = " ".join(
            f"{k.removeprefix('acc/')} {v:.2f}" for k, v in m.items() if k.startswith("acc/") and "mean" not in k
        )
        drawn = " ".join(f"{k.removeprefix('reward/')} {v:.2f}" for k, v in m.items() if k.startswith("reward/"))
        others = " ".join(f"{k.removeprefix('baseline/')} {v:.2f}" for k, v in m.items() if k.startswith("baseline/"))
        reward = f"reward of drawn answers: {drawn}" if drawn else ""
        return " · ".join(part for part in (bits + (f" ({others})" if others else ""), tasks, reward) if part)
    return _STEPS[name](m) if name in _STEPS else ""


def _plan(m: dict[str, Any]) -> str:
    machine = m["machine"]
    steps = "+".join(str(m[f"{name}_steps"]) for name in ("pretrain", "sft", "dpo", "grpo"))
    return (
        f"{machine['cores']} cores, {machine['memory_gib']:.0f} GiB, {machine['gpu'] or 'no GPU'} · "
        f"depth {m['depth']} · {m['tokens_per_second']:,.0f} tokens/s · steps {steps}"
    )


def _data(m: dict[str, Any]) -> str:
    return (
        f"{m['train_tokens']:,} tokens of {m['train_bytes'] / 1e6:.1f} MB · vocabulary {m['vocab_size']} · "
        f"English {m['english_chars_per_token']:.2f} characters/token, "
        f"Korean {m['korean_tokens_per_syllable']:.2f} tokens/syllable · sha {m['corpus_sha256'][:8]}"
    )


def _pretrain(m: dict[str, Any]) -> str:
    return f"{m['parameters'] / 1e6:.2f} M parameters · {m['steps']} steps · {_losses(m)}"


def _losses(m: dict[str, Any]) -> str:
    names = {"train/loss": "loss", "loss": "loss", "val/loss": "validation loss", "reward": "reward", "kl": "KL"}
    return " · ".join(f"{label} {m[key]:.3f}" for key, label in names.items() if isinstance(m.get(key), float))


def _dpo(m: dict[str, Any]) -> str:
    return f"{m['steps']} steps · margin {m['rewards/margins']:.2f} · accuracy {m['rewards/accuracies']:.2f}"


def _trained(m: dict[str, Any]) -> str:
    return f"{m['steps']} steps · {_losses(m)}"


def _quantize(m: dict[str, Any]) -> str:
    return (
        f"{m['bytes_before'] / 1e6:.1f} -> {m['bytes_after'] / 1e6:.1f} MB · {m['layers']} layers · "
        f"error of their outputs {m['mean_output_error']:.2%}, at worst {m['worst_output_error']:.2%}"
    )


def _serve(m: dict[str, Any]) -> str:
    return (
        f"{m['url']} · first token {m['ttft_ms']:.0f} ms · {m['tokens_per_second']:.0f} tokens/s · "
        f"{m['clients']} clients {m['clients_tokens_per_second']:.0f} tokens/s"
    )


_STEPS = {
    "plan": _plan,
    "data": _data,
    "tasks": lambda m: f"{m['conversations']:,} conversations · {m['held_out']:,} held-out items",
    "pretrain": _pretrain,
    "sft": _trained,
    "dpo": _dpo,
    "grpo": _trained,
    "focus": lambda m: f"{m['prompts']} prompts: {m['tasks']}",
    "ladder": lambda m: str(m["verdict"]),
    "quantize": _quantize,
    "serve": _serve,
}
