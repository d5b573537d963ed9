"""What doctor says of a STAC source is what the services answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from typer.testing import CliRunner

from app.cli import cli
from app.imagery.config import AnyConfig, StacApiConfig, access_of, reach_of
from app.imagery.diagnostics import Finding, check_s3, check_stac
from app.imagery.scene import ReadOptions
from app.imagery.store import ByScheme
from tests.world.doubles import Doubles, doubles
from tests.world.stac import item_of
from tests.world.world import World

CONFIG: TypeAdapter[Any] = TypeAdapter(AnyConfig)


@pytest.fixture
def services(two_quads: World) -> Iterator[Doubles]:
    with doubles(closed=409) as running:
        made = two_quads.scenes[0]
        running.items = [item_of(made, running.add(made.path))]
        yield running


def checked(services: Doubles, **changes: object) -> list[Finding]:
    given = {
        "id": "pc",
        "type": "stac-api",
        "url": services.stac_url,
        "collection": "naip",
        "signing": "auto",
        "token_url": services.token_url,
        "token_hosts": [services.host],
    }
    config = CONFIG.validate_python(given | changes)
    assert isinstance(config, StacApiConfig)
    return check_stac(config, ReadOptions())


def test_a_source_that_works_is_found_well_in_every_part_and_no_log_holds_a_signature(
    services: Doubles, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    found = checked(services)
    assert "is read signed" in caplog.text
    assert "sig=" not in caplog.text
    assert any("sig=" in path for _, path in services.requests)
    assert [finding.what for finding in found] == ["hosts", "API", "item", "token", "read"]
    assert all(finding.ok for finding in found)
    assert "sig=" not in str(found)


FAULTS: dict[str, tuple[Callable[[Doubles], object], dict[str, object], str, str]] = {
    "down": (lambda s: setattr(s, "search_status", 503), {}, "API", "503"),
    "no collection": (lambda s: None, {"collection": "nape"}, "API", "404"),
    "no item": (lambda s: s.items.clear(), {}, "item", "no item"),
    "wrong asset": (lambda s: None, {"asset": "cog"}, "item", "has no asset 'cog'"),
    "dates": (lambda s: setattr(s, "dates", (-9, -5)), {}, "token", "expired"),
    "unsigned": (lambda s: None, {"signing": "never"}, "read", "409"),
    "gone": (lambda s: s.files.clear(), {}, "read", "404"),
    "refused": (lambda s: setattr(s, "broken", 403), {}, "read", "403"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_what_is_wrong_is_named_with_what_to_do(services: Doubles, kind: str) -> None:
    fault, changes, what, detail = FAULTS[kind]
    fault(services)
    wrong = [finding for finding in checked(services, **changes) if not finding.ok]
    assert wrong[0].what == what
    assert detail in wrong[0].detail
    assert wrong[0].advice
    assert "sig=" not in str(wrong)


def test_missing_credentials_for_s3_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ):
        monkeypatch.setenv(name, value)
    config = CONFIG.validate_python({"id": "e", "type": "stac-api", "preset": "earth-search"})
    access = access_of(config, reach_of(config))
    assert isinstance(access, ByScheme)
    credentials, region = check_s3(access)
    assert not credentials.ok
    assert "AWS_ACCESS_KEY_ID" in credentials.detail
    assert "us-west-2; requester_pays is off" in region.detail


def test_doctor_asks_the_services_of_a_stac_source(
    services: Doubles, pixelwise_model: Path, tmp_path: Path
) -> None:
    config = tmp_path / "sources.toml"
    config.write_text(
        f'[[source]]\nid = "pc"\ntype = "stac-api"\nurl = "{services.stac_url}"\n'
        f'collection = "naip"\nsigning = "auto"\ntoken_url = "{services.token_url}"\n'
        f'token_hosts = ["{services.host}"]\n'
    )
    command = ["doctor", "--sources", str(config), "--model", str(pixelwise_model)]
    well = CliRunner().invoke(cli, command)
    assert well.exit_code == 0
    for part in (
        "API: has the collection naip",
        "token: obtained",
        "m_3208601_nw_16_1_20170903.tif",
    ):
        assert part in well.output
    services.broken = 403
    broken = CliRunner().invoke(cli, command)
    assert "FAILED  pc  read" in broken.output
    assert "sig=" not in well.output + broken.output
