"""A number that the pipeline has written down."""

from __future__ import annotations

from typing import Literal

from hanok.core.config import PartConfig
from hanok.text.data.origins import Origins
from hanok.text.data.score import SCORES
from hanok.text.data.score.base import Scores
from hanok.text.data.shard import Shards


@SCORES.register("metadata")
class Metadata:
    """A number from each document's metadata in origins.jsonl, such as a quality score."""

    class Config(PartConfig):
        """The key below "metadata"."""

        kind: Literal["metadata"] = "metadata"
        key: str

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, shards: Shards) -> Scores:
        """Return the score of every document in order."""
        return Origins(shards.path, int(shards.index["documents"])).column(self.config.key)
