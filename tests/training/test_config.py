"""Presets: what is shipped is valid, what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.config import OLD_KEYS, OLD_PRESETS, PRESETS, Preset, load_preset
from training.errors import PresetError


@pytest.mark.parametrize("name", sorted(p.stem for p in PRESETS.glob("*.toml")))
def test_every_shipped_preset_is_valid(name: str) -> None:
    assert load_preset(name).name == name


@pytest.mark.parametrize("name", ["default", "article"])
def test_presets_that_choose_a_checkpoint_hold_a_city_out(name: str) -> None:
    assert load_preset(name).held_out == ("claremont",)


def test_the_run_that_others_begin_from_sees_no_real_place() -> None:
    assert load_preset("synthetic").synthetic_share == 1.0


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


def test_former_names_of_presets_are_still_loaded() -> None:
    for old, new in OLD_PRESETS.items():
        assert load_preset(old) == load_preset(new)


@pytest.mark.parametrize("old", sorted(OLD_KEYS))
def test_former_keys_are_still_read_from_presets_and_checkpoints(old: str, tmp_path: Path) -> None:
    new = OLD_KEYS[old]
    values = load_preset("coarse").model_dump(mode="json")
    stored = {old if key == new else key: value for key, value in values.items()}
    assert Preset.model_validate(stored) == load_preset("coarse")
    assert load_preset("default", **{old: values[new]}) == load_preset(
        "default", **{new: values[new]}
    )
    path = tmp_path / "mine.toml"
    path.write_text(f"{old} = 1\n{new} = 1\n")
    with pytest.raises(PresetError, match=f"{old} is the former name of {new}"):
        load_preset(str(path))
