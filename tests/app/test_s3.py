"""S3: who pays is said per source, reads are signed, and no source has another's settings."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from starlette.testclient import TestClient

from app.errors import ConfigurationError, SourceUnavailable
from app.grid.pixel_grid import PixelGrid
from app.imagery import gdal
from app.imagery.catalog.stac_items import scene_of_item
from app.imagery.reader import Reader
from app.imagery.scene import ReadOptions
from app.imagery.store import ByScheme, SignedRequest
from app.imagery.store.buckets import Bucket, BucketAuthenticator
from app.imagery.store.object_store import ObjectStore
from app.imagery.store.reach import Reach
from app.main import create_app
from app.settings import Settings
from model.legend import NODATA
from model.windows import Window
from tests.app.conftest import Serve, classes_in, tiles_around
from tests.world.clouds import AWS_KEY, AWS_SECRET, is_signed_for_s3
from tests.world.doubles import doubles
from tests.world.stac import item_of
from tests.world.world import World

HREF = "s3://naip-analytic/va/2018/60cm/rgbir_cog/37077/m_3707763_se_18_060_20180825.tif"


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", AWS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", AWS_SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


def get(address: SignedRequest) -> tuple[int, bytes]:
    request = urllib.request.Request(address.url, headers=dict(address.headers))  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return int(answer.status), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@contextmanager
def logging_stub() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that answers everything and remembers the headers it was sent."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            headers = {k.lower(): v for k, v in self.headers.items()}
            query = {k.lower(): v for k, v in parse_qsl(parts.query)}
            seen.append(headers | query | {"path": parts.path, "raw": self.path})
            self.send_response(206)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_payer_header_is_sent_and_signed_where_the_source_says_so_and_nowhere_else() -> None:
    with logging_stub() as (endpoint, seen):
        payer = BucketAuthenticator(Bucket("us-west-2", requester_pays=True, endpoint=endpoint))
        other = BucketAuthenticator(Bucket("eu-central-1", endpoint=endpoint))
        nobody = BucketAuthenticator(Bucket(endpoint=endpoint, anonymous=True))
        for access in (payer, other, payer, nobody, other, payer):
            assert get(access.address(HREF, {"range": "bytes=0-1"}))[0] == 206
    assert [headers.get("x-amz-request-payer") for headers in seen] == [
        "requester",
        None,
        "requester",
        None,
        None,
        "requester",
    ]
    regions = [re.search(r"/\d{8}/([^/]+)/s3/", h.get("x-amz-credential", "")) for h in seen]
    assert [match and match[1] for match in regions] == [
        "us-west-2",
        "eu-central-1",
        "us-west-2",
        None,
        "eu-central-1",
        "us-west-2",
    ]
    assert [is_signed_for_s3(each["raw"], each) for each in seen] == [True] * 3 + [False] + [
        True
    ] * 2
    # The payer is part of what is signed.
    without = seen[0]["raw"].replace("&x-amz-request-payer=requester", "")
    assert without != seen[0]["raw"]
    assert not is_signed_for_s3(without, seen[0])
    assert {headers["range"] for headers in seen} == {"bytes=0-1"}
    assert {headers["path"] for headers in seen} == {HREF.removeprefix("s3:/")}


def test_nobody_pays_unless_the_source_says_so() -> None:
    assert "request-payer" not in BucketAuthenticator(Bucket()).address(HREF, {}).url.lower()


def test_nothing_is_put_into_the_environment() -> None:
    before = dict(os.environ)
    BucketAuthenticator(Bucket("us-west-2", requester_pays=True)).address(HREF, {}, renew=True)
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("bucket", "href", "url"),
    [
        (
            Bucket("us-west-2"),
            "s3://b/k/a b.tif",
            "https://b.s3.us-west-2.amazonaws.com/k/a%20b.tif",
        ),
        (Bucket("us-west-2"), "s3://a.b/k.tif", "https://s3.us-west-2.amazonaws.com/a.b/k.tif"),
        (Bucket(endpoint="http://h:1/"), "s3://b/k+é.tif", "http://h:1/b/k%2B%C3%A9.tif"),
    ],
)
def test_an_object_has_one_address(bucket: Bucket, href: str, url: str) -> None:
    access = BucketAuthenticator(bucket)
    public = BucketAuthenticator(replace(bucket, anonymous=True))
    assert public.address(href, {}).url == url
    assert access.address(href, {}).url.startswith(url + "?X-Amz-Algorithm=")


def test_secrets_are_in_no_representation_and_in_no_address() -> None:
    address = BucketAuthenticator(Bucket("us-west-2", requester_pays=True)).address(HREF, {})
    assert "X-Amz-Signature=" in address.url
    assert "Signature" not in repr(address)
    assert "not-a-secret" not in address.url + str(address.headers)


def test_without_credentials_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    access = BucketAuthenticator(Bucket("us-west-2"))
    with pytest.raises(SourceUnavailable, match="AWS_ACCESS_KEY_ID"):
        access.address(HREF, {})
    assert "AWS_ACCESS_KEY_ID" in str(access.check(HREF))
    assert "Signature" not in BucketAuthenticator(Bucket(anonymous=True)).address(HREF, {}).url


def test_a_profile_that_does_not_exist_is_named() -> None:
    assert "nobody" in str(BucketAuthenticator(Bucket(profile="nobody")).check(HREF))


def test_keys_of_a_profile_are_read_and_never_mixed_with_the_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-the-environment")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    (tmp_path / "config").write_text(
        "[profile role]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = other\n"
        "[profile both]\nregion = eu-west-1\naws_access_key_id = AKIACONFIG\n"
    )
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = a%b\n"
        "[both]\naws_access_key_id = AKIABOTH\naws_secret_access_key = x\n"
        "aws_session_token = of-the-profile\n"
    )
    both = BucketAuthenticator(Bucket(profile="both")).address(HREF, {}).url
    assert "AKIABOTH" in both
    assert "of-the-profile" in both
    assert "of-the-environment" in BucketAuthenticator(Bucket()).address(HREF, {}).url
    assert "export-credentials" in str(BucketAuthenticator(Bucket(profile="role")).check(HREF))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    default = BucketAuthenticator(Bucket()).address(HREF, {}).url
    assert "AKIADEFAULT" in default
    assert "of-the-environment" not in default


def test_the_environments_settings_are_no_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    before = BucketAuthenticator(Bucket("us-west-2", anonymous=True)).address(HREF, {}).url
    for name, value in (
        ("AWS_ENDPOINT", "https://evil.example"),
        ("AWS_ENDPOINT_URL", "https://evil.example"),
        ("AWS_ENDPOINT_URL_S3", "https://evil.example"),
        ("AWS_REQUEST_PAYER", "requester"),
        ("AWS_SKIP_SIGNATURE", "true"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "false"),
    ):
        monkeypatch.setenv(name, value)
    url = BucketAuthenticator(Bucket("us-west-2")).address(HREF, {}).url
    assert url.startswith(before + "?X-Amz-Algorithm=")
    assert "us-west-2" in url
    assert "request-payer" not in url.lower()


@pytest.mark.parametrize("key", ["a//b.tif", "../b.tif", "a/./b.tif", ""])
def test_a_key_that_cannot_be_signed_is_named(key: str) -> None:
    with pytest.raises(SourceUnavailable, match="empty or dotted part"):
        BucketAuthenticator(Bucket()).address(f"s3://bucket/{key}", {})


def test_new_credentials_are_found_when_a_read_was_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    access = BucketAuthenticator(Bucket())
    assert "AKIATEST" in access.address(HREF, {}).url
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOTHEROTHEROTHERO")
    assert "AKIATEST" in access.address(HREF, {}).url
    assert "AKIAOTHER" in access.address(HREF, {}, renew=True).url


def test_requester_pays_cannot_be_anonymous() -> None:
    with pytest.raises(ConfigurationError, match="cannot be anonymous"):
        BucketAuthenticator(Bucket(anonymous=True, requester_pays=True))


def test_other_addresses_of_the_source_are_left_as_they_are() -> None:
    access = ByScheme(BucketAuthenticator(Bucket("us-west-2", requester_pays=True)))
    address = access.address("https://a.org/a.tif", {"range": "bytes=0-1"})
    assert (address.url, dict(address.headers)) == ("https://a.org/a.tif", {"range": "bytes=0-1"})


@pytest.mark.parametrize(
    ("bucket", "advice"),
    [
        (Bucket("us-west-2"), "requester_pays = true"),
        (Bucket(anonymous=True), "not public"),
        (Bucket("us-west-2", requester_pays=True), "us-west-2"),
    ],
)
def test_a_refusal_says_what_an_operator_can_do(bucket: Bucket, advice: str) -> None:
    assert advice in ByScheme(BucketAuthenticator(bucket)).advice(HREF, 403)


# ---- a real server -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 90
        while time.monotonic() < until and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            pytest.fail("the moto server did not start")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def put_objects(moto: str, world: World) -> None:
    objects = [
        (f"{moto}/naip/al/{made.path.name}", made.path.read_bytes()) for made in world.scenes
    ]
    for target, body in [(f"{moto}/naip", b""), *objects]:
        put = urllib.request.Request(target, body, method="PUT")  # noqa: S310
        put.add_header("Content-Type", "image/tiff")
        put.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/")
        with urllib.request.urlopen(put, timeout=20) as answer:  # noqa: S310
            assert answer.status == 200


def test_the_bytes_of_an_object_are_read_by_range(moto: str, two_quads: World) -> None:
    put_objects(moto, two_quads)
    path: Path = two_quads.scenes[0].path
    content = path.read_bytes()
    access = BucketAuthenticator(Bucket(endpoint=moto, requester_pays=True))
    href = f"s3://naip/al/{path.name}"
    for first, last in ((0, 99), (1000, len(content) - 1)):
        status, part = get(access.address(href, {"range": f"bytes={first}-{last}"}))
        assert status == 206
        assert part == content[first : last + 1]
    assert get(access.address("s3://naip/al/gone.tif", {}))[0] == 404


SOURCES = """
[[source]]
id = "payer"
type = "cogs"
region = "us-west-2"
requester_pays = true
endpoint = "{endpoint}"
urls = {urls}

[[source]]
id = "other"
type = "cogs"
region = "eu-central-1"
endpoint = "{endpoint}"
urls = {urls}
"""


@contextmanager
def served(folder: Path, endpoint: str, urls: list[str], model: Path) -> Iterator[TestClient]:
    config = folder / "sources.toml"
    config.write_text(SOURCES.format(endpoint=endpoint, urls=json.dumps(urls)))
    settings = Settings.model_validate({"sources": config, "model": model, "refresh_s": 0})
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.mark.slow
def test_a_tile_from_s3_is_the_tile_from_a_directory_of_the_same_files(
    moto: str, serve: Serve, two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    put_objects(moto, two_quads)
    urls = [f"s3://naip/al/{made.path.name}" for made in two_quads.scenes]
    paths = [
        f"/tiles/WebMercatorQuad/{z}/{x}/{y}.npy"
        for made in two_quads.scenes
        for z, x, y in tiles_around(*made.lonlat, 16, 0)
    ]
    with (
        serve(two_quads.directory, pixelwise_model) as local,
        served(tmp_path, moto, urls, pixelwise_model) as remote,
    ):
        for path in paths:
            answer = remote.get(path)
            assert answer.status_code == 200
            found = classes_in(answer.content, "npy")
            assert (found != classes_in(local.get(path).content, "npy")).sum() == 0
            assert (found != NODATA).sum() > 10_000


def test_two_sources_of_one_file_keep_their_payer_and_region_apart(
    two_quads: World, pixelwise_model: Path, tmp_path: Path
) -> None:
    with doubles() as services:
        made = two_quads.scenes[0]
        url = "s3:/" + services.add(made.path).removeprefix(services.url)
        with served(tmp_path, services.url, [url], pixelwise_model) as client:
            for z, x, y in tiles_around(*made.lonlat, 17)[::2]:
                for source in ("payer", "other", "payer"):
                    path = f"/imagery/tiles/WebMercatorQuad/{z}/{x}/{y}.png?source={source}"
                    assert client.get(path).status_code == 200
        payers = {"us-west-2": 0, "eu-central-1": 0}
        for _, path in services.requests:
            query = dict(parse_qsl(urlsplit(path).query))
            region = query["X-Amz-Credential"].split("/")[2]
            payers[region] += 1
            assert query.get("x-amz-request-payer") == (
                "requester" if region == "us-west-2" else None
            )
        assert min(payers.values()) > 1


def test_a_reader_that_serves_two_sources_reads_each_in_its_own_way(two_quads: World) -> None:
    made = two_quads.scenes[0]
    with doubles() as services:
        href = "s3:/" + services.add(made.path).removeprefix(services.url)
        gdal.configure()
        stores: dict[str, ObjectStore] = {}
        reader, remotes, reach = Reader(stores), [], Reach([href, services.url])
        for bucket in (
            Bucket("us-west-2", requester_pays=True, endpoint=services.url),
            Bucket("eu-central-1", endpoint=services.url),
        ):
            remote = ObjectStore(bucket.region, BucketAuthenticator(bucket), reach=reach)
            stores[bucket.region] = remote
            item = item_of(made, href)
            scene = scene_of_item(item, ReadOptions(), bucket.region, refusal=reach.refusal)
            extent = scene.extent(PixelGrid("EPSG:26916"))
            assert extent is not None
            before = len(services.requests)
            reader.read(scene, PixelGrid("EPSG:26916"), Window(extent.col, extent.row, 600, 600))
            sent = services.requests[before:]
            assert sent
            assert all(bucket.region in path for _, path in sent)
            remotes.append(remote)
        for remote in remotes:
            remote.close()
