"""`hanok data synthesize`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts

from hanok.cli.common import ConfigFile, Json, Out, Overrides, Quiet, ResumeOption, Settings, run_verb

if TYPE_CHECKING:
    from hanok.align.synthetic.ask import Ask, Reply
    from hanok.serve.remote import Remote

KEY = "OPENAI_API_KEY"


def synthesize(
    model: Annotated[
        str, cyclopts.Parameter(help="model folder, hub id, or the address of an endpoint (http://.../v1)")
    ],
    *overrides: Overrides,
    seeds: Annotated[Path, cyclopts.Parameter(help="examples, topics, documents or questions (JSONL, parquet)")],
    name: Annotated[str | None, cyclopts.Parameter(help="the endpoint's model (default: its only one)")] = None,
    parallel: Annotated[int, cyclopts.Parameter(help="requests to an endpoint at a time")] = 8,
    config: ConfigFile = None,
    output_dir: Out = Path("runs"),
    resume: ResumeOption = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let a model write training data: `hanok data synthesize MODEL --seeds tasks.jsonl method=evol_instruct rows=90`.

    Methods: self_instruct, evol_instruct, textbook, backtranslation, solve (with `rewards=[exact_match]`). The key of
    an endpoint is read from OPENAI_API_KEY. A run that was stopped or killed goes on where it was when it is repeated.
    """
    from hanok.align.synthetic.local import Local
    from hanok.align.synthetic.stages import SynthesisConfig, synthesis_stage
    from hanok.cli.common import model_path
    from hanok.core.errors import UsageError
    from hanok.engine.local import load
    from hanok.serve.remote import Remote

    settings = Settings(overrides, config, output_dir, resume, quiet, json)
    chosen = SynthesisConfig.from_yaml(config, *overrides)  # a mistake in it is said before a model is loaded
    if not 1 <= parallel <= 1024:
        raise UsageError(f"--parallel must be from 1 to 1024, not {parallel}")
    if model.startswith(("http://", "https://")):
        remote = Remote.find(model, name, key=os.environ.get(KEY), parallel=parallel)
        stage = synthesis_stage(Endpoint(remote), {"seeds": "conversations"}, chosen)
        run_verb(stage, {"seeds": seeds}, settings, config=chosen.model_copy(update={"model": remote.name}))
        return
    if name is not None:
        raise UsageError("--name is for endpoints (http://.../v1): a folder holds one model")
    path = model_path(model)
    kinds = {"seeds": "conversations", "model": "model"}
    stage = synthesis_stage(Local(load(path), Path(model).name), kinds, chosen)
    run_verb(stage, {"seeds": seeds, "model": path}, settings, config=chosen)


@dataclass(frozen=True)
class Endpoint:
    """A model over HTTP in the shape that the methods know."""

    remote: Remote

    @property
    def name(self) -> str:
        """Return the model's name at its address."""
        return self.remote.name

    def __call__(self, asks: Sequence[Ask]) -> Iterator[tuple[int, Reply]]:
        """Yield replies as they come."""
        from hanok.align.synthetic.ask import Reply

        requests = [
            {"messages": a.messages, "max_tokens": a.max_tokens, "temperature": a.temperature, "seed": a.seed}
            for a in asks
        ]
        for at, (text, ended) in self.remote.each(requests):
            yield at, Reply(text, ended == "stop")
