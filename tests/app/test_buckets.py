"""s3://, gs:// and az:// sources: signed as each cloud documents, and every law of a read holds."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import TypeAdapter
from starlette.testclient import TestClient

from app.errors import SourceUnavailable
from app.grid.pixel_grid import PixelGrid
from app.imagery import gdal
from app.imagery.catalog.files import UrlListCatalog
from app.imagery.config import AnyConfig, store_of
from app.imagery.reader import Reader, RemoteFiles
from app.imagery.scene import ReadOptions, Scene, inspect
from app.imagery.store.buckets import Bucket, BucketAuthenticator
from app.imagery.store.object_store import FileChanged, ObjectStore
from app.main import create_app
from app.settings import Settings
from model.windows import Window
from tests.app.conftest import Serve, classes_in, tiles_around
from tests.world.clouds import (
    AWS_KEY,
    AWS_SECRET,
    AZURE_ACCOUNT,
    AZURE_KEY,
    Check,
    google_account,
    is_signed_for_azure,
    is_signed_for_s3,
)
from tests.world.range_server import Mode, RangeServer, range_server
from tests.world.scenes import SyntheticScene, write_scene
from tests.world.world import World

GRID = PixelGrid("EPSG:26916")
NAME = "m_3208601_nw_16_1_20170903.tif"
ODD_NAME = "m_3208601 nw+16é_1_20170903.tif"
"""What encodings differ in."""
CONFIG: TypeAdapter[Any] = TypeAdapter(AnyConfig)
GOOGLE = google_account()
CHECKS: dict[str, Check] = {
    "s3": is_signed_for_s3,
    "gs": GOOGLE.is_signed,
    "az": is_signed_for_azure,
    "abfss": is_signed_for_azure,
}


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gdal.configure()
    for name in [each for each in os.environ if each.startswith(("AWS_", "GOOGLE_", "AZURE_"))]:
        monkeypatch.delenv(name)
    key_file = tmp_path / "account.json"
    key_file.write_text(GOOGLE.key_file)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", AWS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", AWS_SECRET)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", AZURE_ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SyntheticScene:
    """root/naip/al/NAME; the account's folder is the same."""
    root = tmp_path_factory.mktemp("cloud")
    (root / AZURE_ACCOUNT).symlink_to(root)
    folder = root / "naip" / "al"
    folder.mkdir(parents=True)
    made = write_scene(folder / NAME, cols=900, rows=700)
    (folder / ODD_NAME).hardlink_to(made.path)
    return made


@pytest.fixture(params=list(CHECKS))
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(made: SyntheticScene, scheme: str) -> Iterator[RangeServer]:
    with range_server(made.path.parents[2], allows=CHECKS[scheme]) as running:
        yield running


Open = Callable[..., ObjectStore]


@pytest.fixture
def opened(server: RangeServer, scheme: str) -> Iterator[Open]:
    """opened(**settings): the store of a source that is configured like this."""
    endpoint = endpoint_of(scheme, server)
    stores: list[ObjectStore] = []

    def build(**settings: object) -> ObjectStore:
        given = {"id": "far", "type": "cogs", "urls": ["s3://naip/a.tif"], "endpoint": endpoint}
        bucket = href_of(scheme, Path("naip/al/a.tif")).removesuffix("/al/a.tif")
        limits = {"read_s": 3, "request_s": 1, "retries": 2, "hosts": [bucket]}
        stores.append(store_of(CONFIG.validate_python({**given, **limits, **settings})))
        return stores[-1]

    yield build
    for each in stores:
        each.close()


def endpoint_of(scheme: str, server: RangeServer) -> str:
    """Return the address of the cloud: an emulator of Azure has the account in its path."""
    return (
        f"{server.base}/{AZURE_ACCOUNT}" if CHECKS[scheme] is is_signed_for_azure else server.base
    )


def href_of(scheme: str, path: Path) -> str:
    container, folder = path.parts[-3:-1]
    at = f"@{AZURE_ACCOUNT}.dfs.core.windows.net" if scheme == "abfss" else ""
    return f"{scheme}://{container}{at}/{folder}/{path.name}"


def scene_at(scheme: str, made: SyntheticScene) -> Scene:
    local = inspect(made.path, ReadOptions())
    return replace(local, href=href_of(scheme, made.path), identity="1", store="far")


def window_at(scene: Scene, col: int, row: int, cols: int, rows: int) -> Window:
    extent = scene.extent(GRID)
    assert extent is not None
    return Window(extent.col + col, extent.row + row, cols, rows)


def test_signed_reads_have_the_pixels_on_disk_and_unsigned_ones_are_refused(
    server: RangeServer, scheme: str, made: SyntheticScene, opened: Open
) -> None:
    scene = scene_at(scheme, made)
    window = window_at(scene, 100, 50, 600, 500)
    found = Reader({"far": opened()}).read(scene, GRID, window)
    expected = Reader().read(inspect(made.path, ReadOptions()), GRID, window)
    assert (found.image == expected.image).all()
    assert all("?" in each.path for each in server.requested)
    requested = len(server.requested)
    public = Reader({"far": opened(anonymous=True)})
    with pytest.raises(SourceUnavailable, match="other credentials"):
        public.read(scene, GRID, window)
    assert all("?" not in each.path for each in server.requested[requested:])
    server.allows = lambda path, _: "?" not in path
    assert (public.read(scene, GRID, window).image == expected.image).all()


@pytest.mark.parametrize("mode", ["503", "404", "403", "redirect"])
def test_a_fault_is_an_error_in_time_without_address_or_signature(
    server: RangeServer,
    scheme: str,
    made: SyntheticScene,
    opened: Open,
    mode: Mode,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = opened()
    scene, reader = scene_at(scheme, made), Reader({"far": store})
    server.fault(mode)
    with caplog.at_level("DEBUG"), pytest.raises(SourceUnavailable) as refusal:
        reader.read(scene, GRID, window_at(scene, 0, 0, 50, 50))
    assert len(server.requested) == {"503": 3, "403": 2}.get(mode, 1)
    for text in (str(refusal.value), caplog.text, str(store.unavailable)):
        assert "sig" not in text.lower().replace("signature_", "")
        assert server.base not in text
    server.repair()
    assert reader.read(scene, GRID, window_at(scene, 0, 0, 50, 50)).valid.all()


def test_if_match_and_retry_after_are_those_of_https(
    server: RangeServer, scheme: str, made: SyntheticScene, opened: Open
) -> None:
    scene, reader = scene_at(scheme, made), Reader({"far": opened()})
    server.fault("503", times=1, retry_after="50")
    with pytest.raises(SourceUnavailable) as refusal:
        reader.read(scene, GRID, window_at(scene, 0, 0, 20, 20))
    assert refusal.value.retry_after == 50
    assert len(server.requested) == 1
    reader.read(scene, GRID, window_at(scene, 0, 0, 20, 20))
    _, _, *ranged = server.requested
    server.claimed_etag = '"another"'
    with pytest.raises(FileChanged):
        reader.read(scene, GRID, window_at(scene, 300, 300, 500, 300))
    assert all(
        "if-match" in {name.lower() for name in each.headers} for each in server.requested[3:]
    )
    assert len(ranged) < len(server.requested)


def test_names_that_addresses_escape_are_signed_or_refused(
    scheme: str, made: SyntheticScene, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    href = href_of(scheme, made.path.with_name(ODD_NAME))
    if CHECKS[scheme] is not is_signed_for_azure:
        assert opened().stat(href, "odd").length == made.path.stat().st_size
        return
    with pytest.raises(SourceUnavailable, match="AZURE_STORAGE_SAS_KEY"):
        opened().stat(href, "odd")
    monkeypatch.setenv("AZURE_STORAGE_SAS_KEY", "sig=x")
    url = opened().access.address(href, {}).url
    assert url.endswith("/m_3208601%20nw%2B16%C3%A9_1_20170903.tif?sig=x")


def test_a_list_of_objects_is_a_source(
    server: RangeServer, scheme: str, made: SyntheticScene, opened: Open
) -> None:
    files = RemoteFiles(opened(), ReadOptions())
    catalog = UrlListCatalog(lambda: [href_of(scheme, made.path)], files, ReadOptions())
    (scene,) = catalog.scenes
    assert scene.id == Path(NAME).stem
    assert "?" not in scene.href + scene.key


SOURCE = """
[[source]]
id = "{scheme}"
type = "cogs"
urls = ["{url}"]
endpoint = "{endpoint}"
"""


def test_a_tile_from_a_bucket_is_the_tile_from_a_directory_of_the_same_file(
    serve: Serve, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    made = two_quads.scenes[0]
    folder = tmp_path / "naip" / "al"
    folder.parent.mkdir()
    folder.symlink_to(made.path.parent)
    (tmp_path / AZURE_ACCOUNT).symlink_to(tmp_path)
    config = tmp_path / "sources.toml"
    z, x, y = tiles_around(*made.lonlat, 17, 0)[0]
    path = f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy"
    with ExitStack() as stack:
        servers = []
        for scheme, check in CHECKS.items():
            server = stack.enter_context(range_server(tmp_path, allows=check))
            servers.append(server)
            url, endpoint = href_of(scheme, folder / made.path.name), endpoint_of(scheme, server)
            with config.open("a") as file:
                file.write(SOURCE.format(scheme=scheme, url=url, endpoint=endpoint))
        given = {"sources": config, "model": pixelwise_model, "refresh_s": 0}
        remote = stack.enter_context(TestClient(create_app(Settings.model_validate(given))))
        local = stack.enter_context(serve(made.path.parent, pixelwise_model))
        expected = classes_in(local.get(path).content, "npy")
        for scheme in CHECKS:
            found = classes_in(remote.get(f"{path}?source={scheme}").content, "npy")
            assert (found == expected).all()
        assert all(len(server.requested) > 1 for server in servers)


# ---- addresses and credentials -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("href", "url"),
    [
        ("gs://b/k/a b.tif", "https://storage.googleapis.com/b/k/a%20b.tif"),
        ("az://c/k.tif", "https://naipaccount.blob.core.windows.net/c/k.tif"),
        (
            "abfs://c@naipaccount.dfs.core.windows.net/k.tif",
            "https://naipaccount.blob.core.windows.net/c/k.tif",
        ),
    ],
)
def test_an_object_has_one_address(href: str, url: str) -> None:
    access, public = BucketAuthenticator(Bucket()), BucketAuthenticator(Bucket(anonymous=True))
    assert public.address(href, {}).url == url
    assert access.address(href, {}) == access.address(href, {})
    parts = urlsplit(access.address(href, {}).url)
    assert parts._replace(query="").geturl() == url
    check = CHECKS[href.partition("://")[0].replace("abfs", "abfss")]
    assert check(f"{parts.path}?{parts.query}", {"Host": parts.netloc})
    assert not check(f"{parts.path}x?{parts.query}", {"Host": parts.netloc})


def test_keys_of_one_storage_account_sign_for_no_other() -> None:
    href = "abfss://c@another.dfs.core.windows.net/k.tif"
    for anonymous in (False, True):
        access = BucketAuthenticator(Bucket(anonymous=anonymous))
        with pytest.raises(SourceUnavailable, match="storage account another"):
            access.address(href, {})
    named = BucketAuthenticator(Bucket(account="another"))
    assert named.address(href, {}).url.startswith("https://another.blob.core.windows.net/c/k.tif?")


def test_a_sas_token_of_the_environment_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "?sv=1&sig=a%2Bb%3D")
    url = BucketAuthenticator(Bucket()).address("az://c/k.tif", {}).url
    assert url == "https://naipaccount.blob.core.windows.net/c/k.tif?sv=1&sig=a%2Bb%3D"


@pytest.mark.parametrize(
    ("scheme", "variable", "advice"),
    [
        ("gs", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("az", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_KEY"),
        ("az", "AZURE_STORAGE_ACCOUNT_NAME", "no storage account"),
    ],
)
def test_without_credentials_it_is_said_what_to_do(
    scheme: str, variable: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable)
    if variable.startswith("GOOGLE"):  # a file that is none: no machine's account is looked for
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", os.devnull)
    if variable.endswith("KEY"):
        monkeypatch.setenv("AZURE_MSI_ENDPOINT", "http://127.0.0.1:1")
    access = BucketAuthenticator(Bucket())
    with pytest.raises(SourceUnavailable, match=advice):
        access.address(f"{scheme}://c/k.tif", {})
    assert advice in str(access.check(f"{scheme}://c/k.tif"))


@contextmanager
def metadata_service() -> Iterator[tuple[str, list[str]]]:
    """A machine's metadata service of AWS and of Azure, and Azure's user delegation keys."""
    paths: list[str] = []
    role = {
        "AccessKeyId": "ASIAROLE",
        "SecretAccessKey": "x",
        "Token": "session",
        "Code": "Success",
    }
    answers = {
        "/latest/api/token": "token",
        "/latest/meta-data/iam/security-credentials/": "role",
        "/latest/meta-data/iam/security-credentials/role": json.dumps(
            {**role, "Expiration": "2100-01-01T00:00:00Z"}
        ),
        "/identity": json.dumps(
            {"access_token": "a", "expires_in": "3600", "expires_on": "4000000000"}
        ),
        f"/{AZURE_ACCOUNT}": "<UserDelegationKey><SignedOid>o</SignedOid><SignedTid>t</SignedTid>"
        "<SignedStart>2020-01-01T00:00:00Z</SignedStart><SignedVersion>2023-11-03</SignedVersion>"
        "<SignedExpiry>2100-01-01T00:00:00Z</SignedExpiry><SignedService>b</SignedService>"
        "<Value>a2V5</Value></UserDelegationKey>",
    }

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            paths.append(self.path.partition("?")[0])
            body = answers[paths[-1]].encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_POST = do_GET  # noqa: N815 - http.server's names

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", paths
        finally:
            server.shutdown()
            thread.join()


def test_the_identity_of_a_machine_signs_and_is_asked_for_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    with metadata_service() as (url, paths):
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", url)
        monkeypatch.setenv("AZURE_MSI_ENDPOINT", f"{url}/identity")
        access = BucketAuthenticator(Bucket(endpoint=f"{url}/{AZURE_ACCOUNT}"))
        for number in (1, 2, 1):
            assert "ASIAROLE" in access.address(f"s3://b/{number}.tif", {}).url
            assert "&skoid=o&" in access.address(f"az://c/{number}.tif", {}).url.replace("?", "&")
        assert len(paths) == 3 + 2
        access.address("s3://b/1.tif", {}, renew=True)
        assert len(paths) == 3 + 2 + 3


def test_environment_settings_of_other_servers_are_not_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GOOGLE_BASE_URL", "https://evil.example")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "https://evil.example")
    monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
    monkeypatch.setenv("AZURE_SKIP_SIGNATURE", "true")
    access, public = BucketAuthenticator(Bucket()), BucketAuthenticator(Bucket(anonymous=True))
    for href in ("gs://b/k.tif", "az://c/k.tif"):
        assert access.address(href, {}).url.startswith(f"{public.address(href, {}).url}?")
