"""Presets: what is shipped is valid, what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.config import PRESETS, load_preset
from training.errors import PresetError


@pytest.mark.parametrize("name", sorted(p.stem for p in PRESETS.glob("*.toml")))
def test_every_shipped_preset_is_valid(name: str) -> None:
    assert load_preset(name).name == name


@pytest.mark.parametrize("name", ["default", "article"])
def test_presets_that_choose_a_checkpoint_hold_a_city_out(name: str) -> None:
    assert load_preset(name).held_out == ("claremont",)


def test_the_run_that_others_begin_from_sees_no_real_place() -> None:
    assert load_preset("made").synthetic_share == 1.0


def test_the_article_differs_in_activation_and_stops_early() -> None:
    article, default = load_preset("article"), load_preset("default")
    assert (article.activation, default.activation) == ("elu", "relu")
    assert (article.patience, default.patience) == (5, 0)


def test_a_change_is_laid_over_the_file() -> None:
    assert load_preset("default", steps=500, seed=None).steps == 500


def test_an_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(PresetError, match="article, candidate, coarse, default"):
        load_preset("nonsense")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("learnig_rate = 1", "learnig_rate"),
        ("crop = 100", "multiple of 16"),
        ("gain = [2.0, 1.0]", "lower end 2.0 is above"),
        ("warmup = 6000", "shorter than steps"),
        ("zoom = [0.0, 1.0]", "above 0"),
        ("steps = ", "preset"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(line + "\n")
    with pytest.raises(PresetError, match=reason):
        load_preset(str(path))
