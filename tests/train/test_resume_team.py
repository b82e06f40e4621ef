"""Two processes that are killed at any moment, in saves and loads too, end with the same losses and weights."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hanok.text.data.shard import write_shards
from hanok.text.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return two prepared folders of one tokenizer: prose and tables."""
    path, rng = tmp_path_factory.mktemp("team"), random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=rng.randint(2, 5))) for _ in range(60)]
    texts = {
        "prose": [" ".join(rng.choices(words, k=rng.randint(3, 20))) for _ in range(90)],
        "tables": [" | ".join(str(rng.randrange(100)) for _ in range(rng.randint(2, 9))) for _ in range(60)],
    }
    tokenizer = Tokenizer.train([text for some in texts.values() for text in some], vocab_size=320)
    for name, some in texts.items():
        (path / name).mkdir()
        tokenizer.save(path / name)
        for split, part in (("train", some[10:]), ("valid", some[:10])):
            documents, size = map(tokenizer.encode_document, part), sum(map(len, part))
            write_shards(path / name / split, documents, vocab_size=tokenizer.vocab_size, num_bytes=size)
    return path


@pytest.mark.parametrize(
    ("layout", "tries", "kills"),
    [
        pytest.param({"data": 2}, 1, 2, marks=pytest.mark.slow),
        pytest.param({"data": 2}, 20, 3, marks=pytest.mark.slow),
        pytest.param({"shard": 2}, 20, 3, marks=pytest.mark.slow),
        pytest.param({"data": 4}, 5, 3, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_killed_teams_end_the_same(layout: dict[str, int], tries: int, kills: int, work: Path) -> None:
    """Packed rows of two mixed folders, accumulated gradients and an average of the weights, on several ranks."""
    program = ["-m", "tests.train.team_lives", str(work), json.dumps(layout), str(tries), str(tries), str(kills)]
    # Which life finds kernels of our own built already is not what is asked here; they round otherwise than torch.
    env = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "HANOK_NATIVE": "0"}
    done = subprocess.run([sys.executable, *program], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    whole, *killed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert not whole.pop("kills") and len(killed) == tries
    where = sum((Counter(found.pop("kills")) for found in killed), Counter[str]())
    assert where.total() >= tries, where  # the test is not blind
    if tries >= 20:
        assert all(where[kind] for kind in ("train", "save", "load")), where
    print(f"{layout}: killed {dict(where)}")
    assert all(found == whole for found in killed), (whole, killed)
