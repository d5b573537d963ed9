"""Every kind of input with what it is thrown at, and how many of them `make fuzz` makes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from starlette.testclient import TestClient

from tests.fuzz import inputs, targets
from tests.world.world import World

ITEMS_A_PAGE = 5


class Opaque:
    """An input that hypothesis shows briefly: some are nested too deep to be printed."""

    def __init__(self, value: Any) -> None:  # noqa: ANN401
        self.value = value

    def __repr__(self) -> str:
        try:
            return repr(self.value)[:4000]
        except RecursionError:
            return "<nested too deep to be shown>"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of input. `weight`: inputs in one example."""

    name: str
    share: int
    strategy: SearchStrategy[Any]
    target: Callable[[Any], Any]
    weight: int = 1

    def play(self, examples: int, *, derandomize: bool = False) -> Counter[str]:
        """Throw so many examples; return how they were answered. The first undeclared error ends
        it, with the smallest input that hypothesis finds."""
        answers: Counter[str] = Counter()

        @settings(
            max_examples=examples,
            derandomize=derandomize,
            deadline=None,
            database=None,
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(self.strategy.map(Opaque))
        def throw(given_input: Opaque) -> None:
            answer = self.target(given_input.value)
            answers.update(answer if isinstance(answer, dict) else [answer])

        throw()
        return answers


def kinds_of(client: TestClient, world: World, folder: Path) -> list[Kind]:
    """Return all kinds. `share`: inputs of `make fuzz`."""

    def area(value: tuple[str, str, Any]) -> str:
        path, query, document = value
        joined = "&" if "?" in path else "?"
        return targets.post(client, f"{path}{joined}{query}", inputs.as_json(document))

    def execution(value: tuple[str, Any]) -> str:
        process, document = value
        path = f"/processes/{process}/estimate"
        return targets.post(client, path, inputs.as_json(document))

    def mosaic(value: Any) -> str:  # noqa: ANN401
        content = value if isinstance(value, bytes) else inputs.as_json(value).encode()
        return targets.mosaic_file(folder, content)

    def card(value: Any) -> str:  # noqa: ANN401
        return targets.card(value if isinstance(value, str) else inputs.as_json(value))

    good_inputs = {
        "inputs": {"area": json.loads(json.dumps(_square())), "year": "2017", "source": ""},
        "outputs": {"statistics": {}},
    }
    item = targets.good_item(world)
    processes = st.sampled_from(["classify-area", "change", "seed", "x"])
    return [
        Kind(
            "areas over HTTP", 2500,
            st.tuples(
                st.sampled_from(targets.AREA_PATHS), st.just("") | inputs.queries, inputs.areas
            ),
            area,
        ),
        Kind("tiles", 2500, inputs.tile_keys(targets.middle_of(world)),
             lambda path: targets.get(client, path)),
        Kind(
            "other addresses", 800, st.tuples(st.sampled_from(targets.OTHER_PATHS), inputs.queries),
            lambda value: targets.get(client, "?".join(value)),
        ),
        Kind("executions of processes", 700,
             st.tuples(processes, st.just(good_inputs) | inputs.changed(good_inputs)), execution),
        Kind("sources.toml", 1500, inputs.changed(targets.SOURCES),
             lambda value: targets.sources_file(folder, value)),
        Kind(
            "STAC items", 2500,
            st.lists(inputs.changed(item), min_size=ITEMS_A_PAGE, max_size=ITEMS_A_PAGE),
            lambda value: targets.stac_items(world, value), ITEMS_A_PAGE,
        ),
        Kind("MosaicJSON", 1000, st.binary(max_size=200) | inputs.changed(targets.MOSAIC), mosaic),
        Kind("model cards", 1000, st.text(max_size=200) | inputs.changed(targets.good_card()),
             card),
    ]  # fmt: skip


def _square() -> dict[str, Any]:
    lon, lat, size = inputs.LON, inputs.LAT, 0.002
    ring = [(lon, lat), (lon + size, lat), (lon + size, lat + size), (lon, lat + size), (lon, lat)]
    return {"type": "Polygon", "coordinates": [ring]}
