"""`hanok <verb>`: each verb is one small file, imported only when it is called, so that `--help` answers at once."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import cyclopts

from hanok import __version__
from hanok.core.errors import HanokError, UsageError

EPILOGUE = """\
Examples: hanok quickstart --minutes 5 · hanok sft MODEL --data chat.jsonl · hanok run MODEL "prompt"

Settings: --config file.yaml and bare key.sub=value (or --key.sub value), wherever a verb has a configuration.

Exit codes: 0 ok · 1 failed · 2 wrong usage or input · 3 quality gate failed · 130 interrupted after saving.
"""

TRAINS = ("pretrain", "sft", "dpo")  # verbs that several processes can share
LAUNCHES = ("--nproc", "--nnodes", "--standalone", "--rdzv")  # options of torchrun, which nothing else here has

VERBS: dict[str, dict[str, str]] = {
    "Start here": {
        "quickstart": "A model's whole life in minutes: data, training, alignment, evaluation, serving, report.",
        "doctor": "What this machine can do, and what would be skipped.",
        "ls": "List models, parts, tasks, methods, or the runs in a folder.",
        "inspect": "Parameters, FLOPs, memory and a block diagram of a model or preset.",
    },
    "Data": {
        "tokenizer": "Train a tokenizer on your text, or measure one.",
        "data": "Prepare text for training, or show what a trainer would see.",
    },
    "Train": {
        "pretrain": "Train a model from scratch on prepared tokens or on text files.",
        "sft": "Fine-tune a model on conversations.",
        "dpo": "Align a model with pairs of better and worse answers.",
        "grpo": "Train a model on rewards that can be checked.",
        "plan": "What training or serving a model will take: memory, time and cost.",
        "replay": "Take a training step that was refused again, and show what was wrong.",
        "scale": "Run a ladder of small models, or fit a scaling law to measured losses.",
        "verify-parallel": "Check each parallel strategy against one process, on this machine.",
        "classic": "The models before the network: n-grams and word vectors.",
    },
    "Measure and shrink": {
        "lineage": "Race every kind of language model, from n-grams to hybrids, on one text.",
        "eval": "Accuracy on held-out tasks and bits per byte, with intervals.",
        "compare": "Put models side by side, or measure position schemes beyond their training length.",
        "quantize": "Store the weights in int8, int4 or bf16, with the error of each layer.",
        "export": "Write a model for other programs: GGUF, or the Hugging Face layout.",
        "report": "One self-contained HTML page about a run.",
        "ui": "Watch runs in a browser while they go on.",
    },
    "Use": {
        "run": "Answer one prompt (standard input works too).",
        "chat": "Talk to a model in the terminal.",
        "serve": "Serve the OpenAI API and a chat page on this machine.",
        "bench": "Measure latency, throughput, or a running server under load.",
    },
}

GROUPS = ("tokenizer", "data", "scale", "classic", "compare", "plan", "bench")  # verbs that have verbs of their own


def build(called: str = "") -> cyclopts.App:
    """Return the command line as an app whose verbs are still unloaded; the called one shows its whole docstring."""
    # The first page goes without the library for markdown, which takes as long to import as all the rest.
    page: Literal["markdown", "plaintext"] = (
        "markdown" if any(called in verbs for verbs in VERBS.values()) else "plaintext"
    )
    app = cyclopts.App(
        name="hanok",
        help="The whole life of a language model in one package.",
        help_epilogue=EPILOGUE,
        help_format=page,
        version=__version__,
        result_action="return_value",
    )
    for order, (title, verbs) in enumerate(VERBS.items()):
        group = cyclopts.Group(title, sort_key=order)
        for verb, summary in verbs.items():
            target = "app" if verb in GROUPS else verb
            line = None if verb == called else summary
            app.command(f"hanok.cli.{verb}:{target}".replace("-", "_"), name=verb, help=line, group=group)
    return app


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the code that the outcome has."""
    sys.exit(execute(list(sys.argv[1:] if argv is None else argv)))


def execute(argv: list[str]) -> int:
    """Run one command and return its exit code; people see messages, never a traceback of ours."""
    try:
        with started(argv) as words:
            build(*words[:1])(normalise(words), exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        return fail(" ".join(str(error).split()), 2)
    except HanokError as error:
        return fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


@contextmanager
def started(argv: list[str]) -> Iterator[list[str]]:
    """Hand a verb that trains over to torchrun if `--` and its options follow; join the others where it has started us.

    `hanok pretrain steps=100 -- --nproc-per-node=4` becomes `torchrun --nproc-per-node=4 -m hanok pretrain steps=100`.
    """
    verb = argv[0] if argv else ""
    behind = argv[argv.index("--") + 1 :] if "--" in argv else []
    if verb not in TRAINS and any(word.replace("_", "-").startswith(LAUNCHES) for word in behind):
        raise UsageError(f"{verb!r} is work for one process; several can share {', '.join(TRAINS)}")
    if verb not in TRAINS or ("--" not in argv and int(os.environ.get("WORLD_SIZE") or 1) == 1):
        yield argv
        return
    if "--" in argv:
        from hanok.train.parallel.torchrun import torchrun

        at = argv.index("--")
        if not all(word.startswith("-") for word in argv[at + 1 : at + 2]) or at + 1 == len(argv):
            raise UsageError("behind the lone dashes stand torchrun's options, such as -- --nproc-per-node=4")
        torchrun(argv[:at], argv[at + 1 :])
    from hanok.train.parallel.launch import joined

    with joined():
        yield argv


def fail(message: str, code: int) -> int:
    """Print an error to stderr and return the exit code."""
    sys.stderr.write(("" if code == 130 else "error: ") + message + "\n")
    if code == 2:
        sys.stderr.write("(see hanok --help, or hanok VERB --help)\n")
    return code


def normalise(argv: list[str]) -> list[str]:
    """Accept `--snake_case` for `--dash-case`, and `--key.sub value` for the override `key.sub=value`."""
    out: list[str] = []
    rest = iter(argv)
    for word in rest:
        if word == "--":
            return [*out, word, *rest]
        name, equals, value = word.partition("=")
        if re.fullmatch(r"--[a-z_]+(\.[a-z0-9_]+)+", name):
            out.append(f"{name[2:]}={value if equals else next(rest, '')}")
        elif re.fullmatch(r"--[a-z][a-z_]*", name):
            out.append(name.replace("_", "-") + equals + value)
        else:
            out.append(word)
    return out
