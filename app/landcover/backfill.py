"""Exact blocks computed behind the estimates that were shown in their place.

What was requested last is computed first: it is what somebody looks at now.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable

from app.errors import LandcoverError
from app.landcover.blocks import BlockPlan, LandCover, Selection
from app.scheduling import Flow, background

MOST_WAITING = 256
"""Blocks that may wait; beyond it those that were requested longest ago are dropped."""

log = logging.getLogger("landcover.backfill")


class Backfill:
    """A bounded, last-in-first-out list of blocks, computed in the background of all requests.

    Belongs to one event loop. It takes at most half of the gate's places, so that requests never
    wait for a place because of it.
    """

    def __init__(self, landcover: LandCover) -> None:
        self._landcover = landcover
        self._waiting: OrderedDict[str, tuple[Selection, BlockPlan]] = OrderedDict()
        self._workers: set[asyncio.Task[None]] = set()

    def add(self, selection: Selection, plans: Iterable[BlockPlan]) -> None:
        """Add blocks to the list, or move them to its front."""
        for plan in plans:
            self._waiting[plan.key] = selection, plan
            self._waiting.move_to_end(plan.key)
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popitem(last=False)
        while len(self._workers) < min(len(self._waiting), self._landcover.infers.workers):
            worker = asyncio.get_running_loop().create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    def close(self) -> None:
        """Drop what waits and cancel what is being computed."""
        self._waiting.clear()
        for worker in self._workers:
            worker.cancel()

    async def _work(self) -> None:
        with background(Flow("backfill")):
            while self._waiting and self._landcover.gate.inside < self._landcover.gate.limit // 2:
                _, (selection, plan) = self._waiting.popitem()
                try:
                    await self._landcover.compute(selection, plan)
                except LandcoverError as error:
                    log.info("block %s is not computed ahead: %s", plan.key, error)
