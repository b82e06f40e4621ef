"""Memory does not grow with the input: a run over eight times as much needs about as much as over one."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import resource, sys
from pathlib import Path
from hanok.core.log import Log
from hanok.core.stage import run_stage
from hanok.text.data.pipeline.clean import clean_stage
from hanok.text.data.pipeline.config import PipelineConfig
from hanok.text.data.pipeline.engine import ENGINES
from hanok.text.data.pipeline.tokens import TokensConfig, tokens_stage
engine, log = ENGINES["local"](1), Log(quiet=True)
config = PipelineConfig(paths=(sys.argv[1],), clean=None, filters=(), minhash=None, pii=None).pin()
documents = run_stage(clean_stage(engine), config, {}, Path(sys.argv[2]), log=log).path
tokens = TokensConfig(vocab_size=300, tokenizer_bytes=1 << 16)
run_stage(tokens_stage(engine), tokens, {"documents": documents}, Path(sys.argv[2]), log=log)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_memory_is_bounded(tmp_path: Path) -> None:
    peaks = []
    for megabytes in (4, 32):
        file = tmp_path / f"{megabytes}.jsonl.gz"
        with gzip.open(file, "wt", compresslevel=1) as rows:
            for number in range(megabytes * 200):
                rows.write(json.dumps({"text": f"document {number} " + "plain words " * 420}) + "\n")
        command = [sys.executable, "-c", CODE, str(file), str(tmp_path / "out")]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    # The shards of one split are 2 bytes per token while they are written, up to a full shard; all else is constant.
    print(f"peak memory in MiB: {peaks}")
    assert peaks[1] - peaks[0] < 60
