"""The models of one server, each behind its own gate, found by the name that a request says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from hanok.serve.errors import ApiError
from hanok.serve.gateway import Gateway


class Catalogue:
    """Gates by model name; the first is what a request gets that names none."""

    def __init__(self, gateways: Sequence[Gateway]) -> None:
        self._gateways = {gateway.model_name: gateway for gateway in gateways}
        assert len(self._gateways) == len(gateways) > 0, "names must differ"

    def __iter__(self) -> Iterator[Gateway]:
        return iter(self._gateways.values())

    @property
    def first(self) -> Gateway:
        """The gate of the model that was named first."""
        return next(iter(self))

    def find(self, name: str | None) -> Gateway:
        """Return the gate of a model, or refuse with 404 a name that nobody here has."""
        gateway = self._gateways.get(name) if name else self.first
        if gateway is None:
            known = ", ".join(repr(known) for known in self._gateways)
            message = f"the model {str(name)[:100]!r} does not exist; this server has {known}"
            raise ApiError(404, message, param="model", code="model_not_found")
        return gateway

    def check(self) -> None:
        """Refuse with 503 and the reason while no model at all would answer."""
        if all(gateway.state != "ready" for gateway in self):
            self.first.check()

    async def drained(self, grace: float) -> bool:
        """Admit nothing more and wait for what was admitted; say whether all of it ended in time."""
        return all(await asyncio.gather(*(gateway.drained(grace) for gateway in self)))

    def close(self) -> None:
        """Close every engine."""
        for gateway in self:
            gateway.close()
