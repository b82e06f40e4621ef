"""One checkpoint, any number of processes: what FSDP2 shards comes back whole, bit for bit, and without a pickle."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import HuggingFaceStorageReader

from hanok.core.artifact import ArtifactError
from hanok.core.errors import UsageError
from hanok.train.checkpoint.file import Shelf
from hanok.train.state import load_weights, resume

from .states import small

RESHARD = Path(__file__).with_name("reshard.py")


def go_on(folder: Path, sizes: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(RESHARD), str(folder), sizes]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.slow
@pytest.mark.parametrize("sizes", ["1,2,4,1", "4,3,2,1"])
def test_parameters_and_optimizer_stay_the_same(sizes: str, tmp_path: Path) -> None:
    found = go_on(tmp_path / "run", sizes)
    for before, after in itertools.pairwise(found):
        assert after["loaded"] == before["moved"] == before["again"]  # handed on to another number of processes
        assert after["loaded"] != after["moved"]
        assert after["drawn"] == before["step"]
    alone = go_on(tmp_path / "alone", ",".join("1" for _ in found))
    # What AdamW's kernel computes at the end of a shard, where no whole vector fits, differs in the last bit.
    for one, many in zip(alone, found, strict=True):
        assert one["norms"] == pytest.approx(many["norms"], rel=1e-6)
    assert all(record["unpickled"] == 0 for record in found)

    # The outside world: torch's own distributed checkpointing reads the shards, at another number of processes.
    sharded = Path(next(record["path"] for record in found if record["size"] > 1))
    ours, theirs = small(seed=7, dim=16).model, small(seed=8, dim=16).model
    load_weights(ours, sharded.parent)
    last = Path(found[-1]["path"])
    state = dict(theirs.named_parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(state, storage_reader=HuggingFaceStorageReader(str(sharded)), no_dist=True)
    shelf = Shelf(sorted(sharded.glob("model-*")))
    for name, tensor in state.items():
        assert torch.equal(tensor, shelf[name]), name
    assert set(shelf) == set(state)
    assert load_weights(ours, last.parent) == last

    # A shard that is in no file any more is noticed even where no manifest is asked.
    with pytest.raises(ArtifactError, match=r"values of .* are in no file"):
        pieces = Shelf(sorted(sharded.glob("model-*"))[1:])
        for name in pieces:
            _ = pieces[name]


def test_ranks_that_read_their_own_data_cannot_be_resharded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hanok.train.checkpoint import load
    from hanok.train.state import save_checkpoint

    state = small(2)
    save_checkpoint(state, tmp_path)
    real = load._inspect

    def two_ranks(path: Path) -> load.Sound:
        sound = real(path)
        sound.ranks, sound.sides = 2, [sound.sides[0], {**sound.sides[0], "source": {"drawn": 99}}]
        return sound

    monkeypatch.setattr(load, "_inspect", two_ranks)
    with pytest.raises(UsageError, match="written by 2 ranks that read data of their own, which 1 cannot share out"):
        resume(small(seed=1), tmp_path)
