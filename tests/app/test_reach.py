"""A source reaches the hosts and buckets that its operator points at, and no other."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpcore2
import httpx2
import pytest
from pydantic import TypeAdapter, ValidationError
from starlette.testclient import TestClient
from typer.testing import CliRunner

from app.cli import cli
from app.imagery.catalog.stac_static import StaticStacCatalog
from app.imagery.config import AnyConfig, json_api_of, reach_of, store_of
from app.imagery.scene import ReadOptions
from app.imagery.store.reach import Reach, ReachTransport, rule_of
from app.main import create_app
from app.resilience import OutOfReach
from app.settings import Settings
from tests.app.conftest import classes_in, tiles_around
from tests.world.doubles import Doubles, doubles
from tests.world.range_server import RangeServer, range_server
from tests.world.stac import item_of
from tests.world.world import World

CONFIG: TypeAdapter[Any] = TypeAdapter(AnyConfig)
Names = Callable[..., None]


def reach_from(**given: object) -> Reach:
    return reach_of(CONFIG.validate_python({"id": "a", **given}))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """names(**{"a.org": ["127.0.0.1", …]}): what names stand for, one list after the other."""
    known: dict[str, list[list[str]]] = {}
    resolve = socket.getaddrinfo

    def resolved(host: str, port: int, *args: Any, **options: Any) -> list[Any]:  # noqa: ANN401
        if host not in known:
            return resolve(host, port, *args, **options)
        answers = known[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "",
             (each, port))
            for each in addresses
        ]  # fmt: skip

    connect = httpcore2.SyncBackend.connect_tcp

    def here_only(self: httpcore2.SyncBackend, host: str, *args: Any) -> Any:  # noqa: ANN401
        if not ipaddress.ip_address(host).is_loopback:
            raise httpcore2.ConnectError("not from a test")
        return connect(self, host, *args)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setattr(httpcore2.SyncBackend, "connect_tcp", here_only)

    def give(host: str, *answers: list[str]) -> None:
        known[host] = list(answers)

    return give


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://imagery.example.org/other/b.tif", "http://imagery.example.org/b.tif",
        "https://IMAGERY.example.org.:443/b.tif", "https://tiles.example.net/a.tif",
        "https://a.cdn.example.com/a.tif", "https://a.b.cdn.example.com/a.tif",
        "https://10.1.2.3/a.tif", "http://10.1.9.9:8080/a.tif", "http://[fd00::5]:9000/a.tif",
        "http://127.0.0.1:9000/a.tif", "http://[::ffff:127.0.0.1]:9000/a.tif", "s3://mine/a/b.tif",
        "gs://theirs/a.tif", "az://naip/a.tif",
        "abfss://naip@account.dfs.core.windows.net/a.tif",
    ],
)  # fmt: skip
def test_what_the_operator_names_may_be_requested(url: str) -> None:
    reach = reach_from(
        type="cogs",
        urls=["https://imagery.example.org/a.tif", "s3://mine/a.tif"],
        hosts=[
            "tiles.example.net", "*.cdn.example.com", "10.1.0.0/16", "[fd00::5]:9000",
            "127.0.0.1:9000", "gs://theirs", "az://naip",
        ],
        account="account",
    )  # fmt: skip
    assert reach.refusal(url) is None


OTHERS = [
    "https://example.org/a.tif", "https://a.imagery.example.org/a.tif",
    "https://imagery.example.org.evil.net/a.tif", "https://imagery.example.org@evil.net/a.tif",
    "https://evil.net\\@imagery.example.org:9/a.tif", "https://imagery.example.org:8443/a.tif",
    "https://cdn.example.com/a.tif", "https://evilcdn.example.com/a.tif",
    "http://127.0.0.1/a.tif", "http://127.0.0.1:6379/a.tif", "http://localhost/a.tif",
    "http://LOCALHOST./a.tif", "http://2130706433/a.tif", "http://0x7f000001/a.tif",
    "http://0177.0.0.1/a.tif", "http://127.1/a.tif", "http://0/a.tif", "http://[::1]/a.tif",
    "http://[::ffff:127.0.0.1]/a.tif", "http://[64:ff9b::7f00:1]/a.tif", "http://１２７.0.0.1/a.tif",
    "http://169.254.169.254/latest/meta-data/a.tif", "http://[fd00:ec2::254]/a.tif",
    "http://10.0.0.1/a.tif", "s3://other/a.tif", "gs://mine/a.tif", "az://mine/a.tif",
    "abfss://mine@evil.dfs.core.windows.net/a.tif", "file:///etc/passwd", "ftp://example.org/a.tif",
    "http://[::1/a.tif", "https:///a.tif", "",
]  # fmt: skip


@pytest.mark.parametrize("url", OTHERS)
def test_everything_else_is_refused_with_what_allows_it(url: str) -> None:
    reach = reach_from(
        type="cogs",
        urls=["https://imagery.example.org/a.tif", "s3://mine/a.tif"],
        hosts=["*.cdn.example.com"],
    )
    reason = reach.refusal(url)
    assert reason is not None
    assert "hosts = [" in reason or "not valid" in reason
    with (
        httpx2.Client(transport=ReachTransport(reach)) as client,
        pytest.raises((OutOfReach, httpx2.InvalidURL, httpx2.UnsupportedProtocol)),
    ):
        client.get(url)


def test_what_a_refusal_advises_is_what_allows_it() -> None:
    for url in OTHERS:
        reason = Reach().refusal(url) or ""
        if "hosts = " not in reason:
            continue
        advised = json.loads(reason.partition("hosts = ")[2].partition(" in sources")[0])
        assert Reach(hosts=advised).refusal(url) is None, url


def test_a_bucket_of_another_account_is_another_bucket() -> None:
    reach = Reach(["az://naip/a.tif"], account="ours")
    assert reach.refusal("abfss://naip@ours.dfs.core.windows.net/a.tif") is None
    assert "az://naip@theirs" in str(reach.refusal("abfss://naip@theirs.dfs.core.windows.net/a"))


@pytest.mark.parametrize(
    "host",
    ["", "a b", "https://a.org", "a.org/x", "*", "*.*.a.org", "a.*.org", "a.org:0", "a.org:x",
     "a.org:99999", "10.0.0.0/33", ".a.org", "a..org", "user@a.org"],
)  # fmt: skip
def test_a_host_that_is_none_is_named(host: str) -> None:
    if host == "*":
        assert Reach(hosts=["*"]).refusal("https://any.example.org/a.tif") is None
        return
    with pytest.raises(ValueError, match="is no host: write"):
        rule_of(host)
    with pytest.raises(ValidationError, match="is no host: write"):
        reach_from(type="cogs", urls=["https://b.org/a.tif"], hosts=[host])


@pytest.mark.parametrize(
    ("preset", "url"),
    [
        ("planetary-computer", "https://naipeuwest.blob.core.windows.net/naip/v002/a.tif"),
        ("earth-search", "s3://naip-analytic/al/2021/60cm/rgbir_cog/32086/a.tif"),
    ],
)
def test_a_preset_lists_what_it_needs_and_more_may_be_added(preset: str, url: str) -> None:
    reach = reach_from(type="stac-api", preset=preset, hosts=["more.example.org"])
    assert reach.refusal(url) is None
    assert reach.refusal("https://more.example.org/a.tif") is None
    for other in ("https://other.blob.core.windows.net/naip/a.tif", "s3://naip-source/a.tif"):
        assert reach.refusal(other)


def test_servers_of_buckets_are_connected_to_and_named_by_no_address() -> None:
    reach = reach_from(type="cogs", urls=["s3://mine/a.tif"], region="us-west-2")
    for host in ("mine.s3.us-west-2.amazonaws.com", "s3.us-west-2.amazonaws.com"):
        assert reach.accepts(host, 443)
        assert reach.refusal(f"https://{host}/mine/a.tif")
    assert not reach.accepts("mine.s3.eu-west-1.amazonaws.com", 443)


# ---- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "by_name", "by_wildcard"),
    [
        ("93.184.215.14", True, True), ("2606:2800:21f::1", True, True),
        ("10.0.0.1", True, False), ("192.168.1.1", True, False), ("172.16.3.4", True, False),
        ("100.64.0.1", True, False), ("fd12::1", True, False), ("::ffff:10.0.0.1", True, False),
        ("127.0.0.1", False, False), ("127.9.9.9", False, False), ("::1", False, False),
        ("::ffff:127.0.0.1", False, False), ("64:ff9b::7f00:1", False, False),
        ("2002:7f00:1::", False, False), ("169.254.169.254", False, False),
        ("fe80::1", False, False), ("fd00:ec2::254", False, False),
        ("100.100.100.200", False, False), ("168.63.129.16", False, False),
        ("0.0.0.0", False, False), ("::", False, False), ("224.0.0.1", False, False),
        ("255.255.255.255", False, False),
    ],
)  # fmt: skip
def test_where_a_name_may_lead(
    address: str, by_name: bool, by_wildcard: bool, names: Names
) -> None:
    names("a.example.org", [address])
    for hosts, may in ((["a.example.org"], by_name), (["*.example.org"], by_wildcard)):
        reason = reason_of(Reach(hosts=hosts), "http://a.example.org/")
        assert (reason is None) == may, reason
        if reason is not None:
            advised = json.loads(reason.partition("hosts = ")[2].partition(" allows")[0])
            assert reason_of(Reach(hosts=[*hosts, *advised]), "http://a.example.org/") is None


def reason_of(reach: Reach, url: str) -> str | None:
    """Return why a request is refused; None when a connection is tried, which tests forbid."""
    with httpx2.Client(transport=ReachTransport(reach), timeout=0.2) as client:
        try:
            client.get(url)
        except OutOfReach as error:
            return error.reason
        except httpx2.HTTPError:
            return None
    return None


def test_a_name_of_this_machine_may_be_pointed_at(names: Names) -> None:
    names("localhost", ["127.0.0.1"])
    names("minio", ["127.0.1.1"])
    assert reason_of(Reach(["http://localhost:9/a"]), "http://localhost:9/b") is None
    assert reason_of(Reach(["http://minio:9/a"]), "http://minio:9/b") is None


def test_the_address_that_was_checked_is_the_one_connected_to(names: Names, tmp_path: Path) -> None:
    """DNS rebinding: a name that is public when it is looked at and this machine when connected."""
    (tmp_path / "a.txt").write_text("secret")
    with range_server(tmp_path) as server:
        port = int(server.base.rpartition(":")[2])
        reach = Reach(hosts=["evil.example.org"])
        url = f"http://evil.example.org:{port}/a.txt"
        for answers in (
            [["127.0.0.1"]],
            [["93.184.215.14"], ["127.0.0.1"]],
            [["93.184.215.14", "127.0.0.1"]],
            [["127.0.0.1", "93.184.215.14"]],
        ):
            names("evil.example.org", *answers)
            for _ in range(3):
                reason_of(reach, url)
        assert server.requested == []
        allowed = Reach(hosts=["evil.example.org", f"127.0.0.1:{port}"])
        names("evil.example.org", ["127.0.0.1"])
        assert reason_of(allowed, url) is None
        assert len(server.requested) == 1


def test_a_proxy_of_the_environment_is_used_for_what_is_within_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with range_server(tmp_path) as proxy:
        monkeypatch.setenv("http_proxy", proxy.base)
        reach = Reach(hosts=["a.example.org"])
        with httpx2.Client(transport=ReachTransport(reach)) as client:
            assert client.get("http://a.example.org/x").status_code == 404
            assert [each.path for each in proxy.requested] == ["http://a.example.org/x"]
            with pytest.raises(OutOfReach):
                client.get("http://b.example.org/x")
        assert len(proxy.requested) == 1


# ---- sources -------------------------------------------------------------------------------------


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[RangeServer]:
    """A server on this machine that no operator points at."""
    (tmp_path / "victim").mkdir()
    with range_server(tmp_path / "victim") as running:
        yield running


@pytest.fixture
def services(two_quads: World) -> Iterator[Doubles]:
    with doubles() as running:
        running.items = [
            item_of(made, running.add(made.path), projection="proj:code")
            for made in two_quads.scenes
        ]
        yield running


def ways_to(victim: RangeServer) -> list[str]:
    """Return hrefs that lead to a server in as many ways."""
    port = victim.base.rpartition(":")[2]
    hosts = ("127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1", "[::ffff:127.0.0.1]")
    return [*(f"http://{host}:{port}/m_1.tif" for host in hosts), "s3://other/a.tif"]


def api_toml(services: Doubles, more: str = "") -> str:
    return (
        f'[[source]]\nid = "pc"\ntype = "stac-api"\nurl = "{services.stac_url}"\n'
        f'collection = "naip"\n{more}\n'
    )


def served(tmp_path: Path, toml: str, model: Path) -> TestClient:
    (tmp_path / "sources.toml").write_text(toml)
    options = {"sources": tmp_path / "sources.toml", "model": model, "refresh_s": 0, "probe_s": 0}
    app = create_app(Settings.model_validate(options))
    return TestClient(app, raise_server_exceptions=False)


def test_items_that_lead_elsewhere_are_skipped_by_name_and_the_rest_is_served(
    services: Doubles, victim: RangeServer, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    odd = []
    for number, href in enumerate(ways_to(victim)):
        item = item_of(two_quads.scenes[0], href)
        odd.append({**item, "id": f"odd_{number}"})
    services.items += odd
    z, x, y = tiles_around(*two_quads.scenes[0].lonlat, 17, 0)[0]
    with served(tmp_path, api_toml(services), pixelwise_model) as client:
        answer = client.get(f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy")
        assert answer.status_code == 200
        assert (classes_in(answer.content, "npy") != 255).all()
        source = client.app.state.services.sources.get("pc")  # type: ignore[attr-defined]
        skipped = {each.path: each.reason for each in source.catalog.skipped}
    assert skipped.keys() == {item["id"] for item in odd}
    assert all("hosts = [" in reason for reason in skipped.values())
    assert victim.requested == []


def test_what_the_operator_lists_is_read(
    services: Doubles, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    with range_server(two_quads.directory) as elsewhere:
        services.items = [item_of(made, elsewhere.url(made.path.name)) for made in two_quads.scenes]
        z, x, y = tiles_around(*two_quads.scenes[0].lonlat, 17, 0)[0]
        path = f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy"
        for listed, shown in (("", 0), ('hosts = ["127.0.0.1"]', 65_536)):
            with served(tmp_path, api_toml(services, listed), pixelwise_model) as client:
                classes = classes_in(client.get(path).content, "npy")
                assert (classes != 255).sum() == shown
                assert bool(elsewhere.requested) == bool(listed)


def test_links_of_a_static_catalog_are_followed_within_reach_only(
    services: Doubles, victim: RangeServer, two_quads: World, tmp_path: Path
) -> None:
    links = [{"rel": "child", "href": href} for href in ways_to(victim)]
    links += [
        {"rel": "child", "href": "file:///etc/passwd"},
        {"rel": "item", "href": "http://[::1"},
    ]
    links += [{"rel": "item", "href": "gone.json"}, {"rel": "item", "href": "item.json"}]
    (tmp_path / "item.json").write_text(json.dumps(services.items[0]))
    (tmp_path / "root.json").write_text(json.dumps({"type": "Catalog", "links": links}))
    services.add(tmp_path / "item.json")
    config = CONFIG.validate_python(
        {"id": "a", "type": "stac", "url": services.add(tmp_path / "root.json")}
    )
    api = json_api_of(config, reach_of(config))
    catalog = StaticStacCatalog("a", config.url, ReadOptions(), api)
    assert [scene.id for scene in catalog.scenes] == [services.items[0]["id"]]
    assert len(catalog.skipped) == len(links) - 1
    assert sum("hosts = [" in each.reason for each in catalog.skipped) == len(ways_to(victim)) - 1
    assert victim.requested == []
    api.close()


def test_assets_of_a_mosaicjson_are_read_within_reach_only(
    victim: RangeServer, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    with range_server(two_quads.directory) as server:
        assets = [server.url(made.path.name) for made in two_quads.scenes]
        mosaic = tmp_path / "mosaic.json"
        mosaic.write_text(json.dumps({"tiles": {"0": [*assets, *ways_to(victim)]}}))
        toml = (
            f'[[source]]\nid = "m"\ntype = "mosaicjson"\nurl = "{mosaic}"\n'
            f'hosts = ["{server.base.removeprefix("http://")}"]\n'
        )
        with served(tmp_path, toml, pixelwise_model) as client:
            (listed,) = client.get("/sources").json()["sources"]
            assert listed["scenes"] == len(assets)
            assert listed["skipped"] == len(ways_to(victim))
    assert victim.requested == []


def test_a_store_that_is_pointed_nowhere_requests_nothing(victim: RangeServer) -> None:
    config = CONFIG.validate_python({"id": "a", "type": "cogs", "urls": ["https://a.org/a.tif"]})
    store = store_of(config)
    for href in ways_to(victim):
        with pytest.raises(Exception, match=r"hosts = \["):
            store.stat(href, "a")
        assert store.unavailable is None
    assert victim.requested == []
    store.close()


def test_doctor_says_which_items_lead_elsewhere_and_what_allows_them(
    services: Doubles, victim: RangeServer, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    services.items = [item_of(two_quads.scenes[0], ways_to(victim)[0])]
    (tmp_path / "sources.toml").write_text(api_toml(services))
    command = ["doctor", "--sources", str(tmp_path / "sources.toml"), "--model"]
    result = CliRunner().invoke(cli, [*command, str(pixelwise_model)])
    assert result.exit_code == 1
    assert f"ok  pc  hosts: {services.host}" in result.output
    place = victim.base.removeprefix("http://")
    assert f'hosts = ["{place}"] in sources.toml allows it' in result.output
    assert victim.requested == []
