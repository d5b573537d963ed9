"""The card: what contradicts itself is refused, by value and limit; what is message is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from model.card import Assessment, ModelCard, Training
from model.errors import CardError
from model.legend import LEGEND, Legend

FIELDS: dict[str, Any] = {
    "name": "made",
    "version": "1.0",
    "mean": (0.4, 0.5, 0.6, 0.7),
    "std": (0.1, 0.2, 0.3, 0.4),
}


def card(**fields: Any) -> ModelCard:  # noqa: ANN401
    return ModelCard.model_validate(FIELDS | fields)


def diagonal(size: int, right: int = 9, wrong: int = 1) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(right if i == j else wrong for j in range(size)) for i in range(size))


def full() -> ModelCard:
    return card(
        description="all fields",
        ground_resolution=0.6,
        halo=48,
        training=Training(
            preset="full", seed=7, steps=9, places=("a", "b"), pixels={"water": 4}, band_mean=(1.5,)
        ),
        accuracy=(Assessment(name="here", description="x", contingency=diagonal(6)),),
        license="MIT",
        attribution="USDA",
        sha256="ab" * 32,
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mean": (0.4, 0.5, 0.6)}, "mean has 3 values for 4 bands"),
        ({"std": (0.1,) * 5}, "std has 5 values for 4 bands"),
        ({"bands": ("red", "green")}, "mean has 4 values for 2 bands"),
        ({"std": (0.1, 0.2, 0.0, 0.4)}, r"> 0 in every band, got \(0.1, 0.2, 0.0, 0.4\)"),
        ({"std": (0.1, 0.2, -0.3, 0.4)}, "> 0 in every band"),
        ({"halo": 31}, "multiple of 16, got 31"),
        ({"halo": -16}, "greater than or equal to 0"),
        ({"ground_resolution": 0}, "greater than 0"),
        ({"ground_resolution": -1}, "greater than 0"),
        ({"ground_resolution": float("inf")}, "finite number"),
        ({"mean": (0.4, float("nan"), 0.6, 0.7)}, "(?s)mean.1.*finite number"),
        ({"std": (0.1, 0.2, float("nan"), 0.4)}, "(?s)std.2.*finite number"),
        ({"name": ""}, "at least 1 character"),
        ({"version": ""}, "at least 1 character"),
        ({"overlap": 3}, "Extra inputs are not permitted"),
        (
            {"accuracy": [{"name": "a", "description": "b", "contingency": diagonal(5)}]},
            "assessment a has 5 classes, the legend 6",
        ),
    ],
)
def test_a_card_that_contradicts_itself_is_refused_by_value_and_limit(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        card(**fields)


@pytest.mark.parametrize("field", ["name", "version", "mean", "std"])
def test_what_only_the_author_knows_has_no_default(field: str) -> None:
    with pytest.raises(ValidationError, match=f"(?s){field}.*required"):
        ModelCard.model_validate({k: v for k, v in FIELDS.items() if k != field})


@pytest.mark.parametrize("contingency", [((1, 2),), ((1, 2), (3,)), ((1, 2), (3, 4), (5, 6))])
def test_a_contingency_table_is_square(contingency: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValidationError, match="must be square"):
        Assessment(name="a", description="b", contingency=contingency)


def test_a_contingency_table_counts_pixels() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Assessment(name="a", description="b", contingency=((1, -1), (0, 1)))


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ({"here": ((8, 2), (1, 8))}, "must add up"),
        ({"here": ((8, 2), (1, 9)), "there": ((1, 0), (0, 0))}, "must add up"),
        ({"here": ((8, 2),)}, "size of their sum|square"),
        ({"here": ((8, 2, 0), (1, 9, 0), (0, 0, 0))}, "size of their sum|square"),
    ],
)
def test_tables_of_places_add_up_to_their_sum(clusters: dict[str, Any], message: str) -> None:
    parts = {"here": ((8, 0), (0, 9)), "there": ((0, 2), (1, 0))}
    fields = {"name": "a", "description": "b", "contingency": ((8, 2), (1, 9))}
    assert Assessment.model_validate({**fields, "clusters": parts}).clusters == parts
    with pytest.raises(ValidationError, match=message):
        Assessment.model_validate({**fields, "clusters": clusters})


def test_overall_accuracy_is_the_share_of_the_diagonal() -> None:
    table = Assessment(name="a", description="b", contingency=((8, 2), (1, 9)))
    assert table.pixels == 20
    assert table.overall_accuracy == pytest.approx(17 / 20)
    nothing = Assessment(name="a", description="b", contingency=((0, 0), (0, 0)))
    assert nothing.overall_accuracy == 0


@pytest.mark.parametrize(("halo", "window"), [(0, 512), (32, 576), (96, 704)])
def test_a_window_is_a_block_and_its_halo_on_both_sides(halo: int, window: int) -> None:
    assert card(halo=halo).window == window
    assert window % 16 == 0


def test_there_is_a_channel_for_background_and_for_every_class() -> None:
    assert card().channels == 7
    assert card(legend=Legend(classes=LEGEND.classes[:2])).channels == 3


def test_a_card_survives_its_journey_through_json() -> None:
    assert ModelCard.parse(full().model_dump_json(), "here") == full()
    assert ModelCard.parse(full().model_dump_json().encode(), "here") == full()


def test_the_embedded_card_says_everything_but_the_digest_of_its_own_file() -> None:
    embedded = json.loads(full().embedded())
    assert "sha256" not in embedded
    assert embedded.keys() | {"sha256"} == set(ModelCard.model_fields)
    assert ModelCard.parse(full().embedded(), "x") == full().model_copy(update={"sha256": None})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mine.json: card: "),
        ("{", "mine.json: card: "),
        ("[]", "mine.json: card: "),
        (json.dumps(FIELDS | {"halo": 31}), "mine.json: card: .*multiple of 16, got 31"),
        (json.dumps(FIELDS | {"ground_resolution": -1}), "mine.json: ground_resolution: .*than 0"),
        (json.dumps(FIELDS | {"mean": ["x"]}), "mine.json: mean.0: .*number"),
        (
            json.dumps(FIELDS | {"legend": {"classes": [{"value": 300}]}}),
            "mine.json: legend.classes.0.value: .*254",
        ),
        (b"\xff\xfe\x00", "mine.json: "),
    ],
)
def test_an_unreadable_card_is_refused_by_origin_and_field(text: str | bytes, message: str) -> None:
    with pytest.raises(CardError, match=message):
        ModelCard.parse(text, "mine.json")


def test_the_card_lies_beside_its_file() -> None:
    assert ModelCard.path_beside(Path("/m/net.onnx")) == Path("/m/net.card.json")
    assert ModelCard.path_beside(Path("/m/net.v1.onnx")) == Path("/m/net.v1.card.json")
