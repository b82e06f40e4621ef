"""Ray Data: units as the rows of a dataset, done by a pool of actors on a cluster that shares the output folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from hanok.core.errors import require
from hanok.text.data.pipeline.engine import ENGINES
from hanok.text.data.pipeline.job import Job, Worker, check_answer


@ENGINES.register("ray")
class Ray:
    """Ray Data (extra `ray`), on the cluster of `RAY_ADDRESS` or on this machine; input and output have to be shared.

    A row is the number of a unit; documents are read and written where the unit is done, and never travel.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(self, job: Job, units: Sequence[int]) -> Iterator[int]:
        """Do the units on `workers` actors, each of which sets up the job once."""
        if not units:
            return
        # What Ray will do by default: leave alone which accelerators are seen where none is asked for, as here.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray, data = require("ray", extra="ray"), require("ray.data", extra="ray")
        if not ray.is_initialized():
            here = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": self.workers, "_node_ip_address": "127.0.0.1"}
            ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False, **here)
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        rows = data.from_items([{"unit": unit} for unit in units], override_num_blocks=len(units))
        pool = data.ActorPoolStrategy(size=min(self.workers, len(units)))
        answers = rows.map(_Actor, fn_constructor_args=(job.to_dict(), os.getcwd()), compute=pool)
        for row in answers.iter_rows():
            yield check_answer(json.loads(row["answer"]))


class _Actor:
    """What an actor of the pool runs."""

    def __init__(self, job: dict[str, Any], folder: str) -> None:
        os.chdir(folder)  # the paths of the settings count from where the run was started
        self._worker = Worker(job)

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        return {"answer": json.dumps(self._worker(int(row["unit"])))}
