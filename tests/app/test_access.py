"""Who may do what: jobs by their address, lists by key, quotas of an address and of a key."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.access import Clients, Quota
from app.errors import ConfigurationError, QuotaExceeded
from app.jobs.job import Order, Spec
from app.jobs.store import Store
from tests.app.conftest import Serve
from tests.app.running import area_of, until
from tests.world.world import World

OPERATOR, PLANNER = "operator-key-of-the-tests", "planners-key-of-the-tests"
ASYNC = {"prefer": "respond-async"}
EXECUTE = "/processes/classify-area/execution"
QUOTA = Quota(2, 1000)
SPEC = Spec(
    "classify-area", {"type": "Polygon", "coordinates": []}, "s", "m", ("latest",), ("cog",)
)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def keys_file(folder: Path, text: str = "") -> Path:
    path = folder / "keys.toml"
    path.write_text(
        text or f'[[keys]]\nname = "planners"\nsha256 = "{digest(PLANNER)}"\njobs = 3\n'
    )
    return path


def request_of(world: World) -> dict[str, Any]:
    return {"inputs": {"area": area_of(world, shrink=350)}}


@pytest.fixture(scope="module")
def jobs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def client(
    serve: Serve, two_quads: World, pixelwise_model: Path, jobs_dir: Path
) -> Iterator[TestClient]:
    settings = {"operator_key": OPERATOR, "keys": keys_file(jobs_dir), "jobs_dir": jobs_dir}
    with serve(two_quads.directory, pixelwise_model, trusted_proxies=["*"], **settings) as running:
        yield running


def submitted(client: TestClient, world: World, **headers: str) -> str:
    answer = client.post(EXECUTE, json=request_of(world), headers={**ASYNC, **headers})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["jobID"])


# Addresses of jobs


def test_the_address_of_a_job_cannot_be_guessed(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs.sqlite")
    ids = {store.add(SPEC, 1, 1000).id for _ in range(50)}
    assert len(ids) == 50
    assert all(len(bytes.fromhex(each)) >= 16 for each in ids)
    # No position of the ids is the same in all, as a version or a clock would be.
    assert all(len(set(column)) > 4 for column in zip(*ids, strict=True))


def test_who_knows_a_jobs_address_reads_and_deletes_it(
    client: TestClient, two_quads: World
) -> None:
    job = submitted(client, two_quads, **bearer(PLANNER))
    until(lambda: client.get(f"/jobs/{job}").json()["status"] == "successful")
    answer = client.get(f"/jobs/{job}/results")
    assert answer.headers["cache-control"] == "no-store"
    file = client.get(answer.json()["cog"]["href"])
    assert file.status_code == 200
    assert "private" in file.headers["cache-control"]
    assert client.delete(f"/jobs/{job}").json()["status"] == "dismissed"


def test_without_a_key_the_list_says_how_to_set_one(
    serve: Serve, two_quads: World, pixelwise_model: Path
) -> None:
    with serve(two_quads.directory, pixelwise_model) as client:
        for headers in ({}, bearer("a-token-of-a-proxy-in-front")):
            answer = client.get("/jobs", headers=headers)
            assert answer.status_code == 403
            assert "LANDCOVER_OPERATOR_KEY" in answer.json()["detail"]
        # A job works without any key.
        assert client.get(f"/jobs/{submitted(client, two_quads)}").status_code == 200


def test_the_list_is_the_operators_and_a_clients_is_its_own(
    client: TestClient, two_quads: World
) -> None:
    ours = submitted(client, two_quads, **bearer(PLANNER))
    theirs = submitted(client, two_quads)
    answer = client.get("/jobs")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert ours not in answer.text
    for headers in (bearer(OPERATOR), {"x-api-key": OPERATOR}):
        listed = {job["jobID"]: job for job in client.get("/jobs", headers=headers).json()["jobs"]}
        assert {ours, theirs} <= set(listed)
        assert listed[ours]["client"] == "key planners"
        assert listed[theirs]["client"] == "address testclient"
    own = client.get("/jobs", headers=bearer(PLANNER)).json()["jobs"]
    assert ours in {job["jobID"] for job in own}
    assert theirs not in {job["jobID"] for job in own}
    assert client.delete(f"/jobs/{theirs}", headers=bearer(OPERATOR)).status_code == 200


@pytest.mark.parametrize("path", ["/jobs", "/legend", "/point/-97,33", "/healthz"])
def test_a_key_that_is_nobodys_is_refused(client: TestClient, path: str) -> None:
    for wrong in ("", OPERATOR[:-1], f"{OPERATOR}x", PLANNER.upper(), "é" * 30):
        answer = client.get(path, headers={b"authorization": f"Bearer {wrong}".encode()})
        assert answer.status_code == 401, wrong
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
        assert not wrong or wrong not in answer.text


def test_a_password_for_a_proxy_is_none_of_ours(client: TestClient) -> None:
    assert client.get("/legend", headers={"authorization": "Basic dTpw"}).status_code == 200


def test_no_key_is_kept(client: TestClient, two_quads: World, jobs_dir: Path) -> None:
    submitted(client, two_quads, **bearer(PLANNER))
    kept = [path.read_bytes() for path in jobs_dir.glob("jobs.sqlite*")]
    assert kept
    assert not any(key.encode() in content for key in (OPERATOR, PLANNER) for content in kept)
    assert OPERATOR not in repr(client.app.state.services.settings)  # type: ignore[attr-defined]


# Clients


def test_addresses_of_one_subscriber_are_one_client() -> None:
    clients = Clients(QUOTA)
    assert clients.of_address("2001:db8::1") == clients.of_address("2001:db8::ffff:2")
    assert clients.of_address("2001:db8::1") != clients.of_address("2001:db8:0:1::1")
    assert clients.of_address("::ffff:192.0.2.1") == clients.of_address("192.0.2.1")
    assert clients.of_address("192.0.2.1") != clients.of_address("192.0.2.2")
    assert clients.of_address("fe80::1%eth0").name == "address fe80::/64"


def test_keys_have_quotas_of_their_own(tmp_path: Path) -> None:
    text = "".join(
        f'[[keys]]\nname = "{name}"\nsha256 = "{digest(name * 20)}"\n{more}\n'
        for name, more in (("a", "jobs = 9\njob_mb = 2\nweight = 4"), ("b", "operator = true"))
    )
    clients = Clients(QUOTA, keys=keys_file(tmp_path, text))
    first, second = clients.of_key("a" * 20), clients.of_key("b" * 20)
    assert first
    assert second
    assert first.quota == Quota(9, 2_000_000, 4)
    assert (second.quota, second.operator, clients.has_operator) == (QUOTA, True, True)
    assert clients.of_key("c" * 20) is None


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("short", "", "at least 20"),
        ("sha256:abc", "", "64 hexadecimal digits"),
        ("", "[[keys]]\n", "keys.0.name"),
        ("", 'keys = "x"', "keys"),
        ("", "[[keys", "keys.toml"),
        ("", f'[[keys]]\nname = "a"\nsha256 = "{PLANNER}"', "sha256"),
        ("", f'[[keys]]\nname = "a"\nsha256 = "{"0" * 64}"\nkey = "x"', "key"),
        ("", f'[[keys]]\nname = "a"\nsha256 = "{"0" * 64}"\n' * 2, "same name"),
        ("", f'[[keys]]\nname = "a b"\nsha256 = "{"0" * 64}"\n', "name"),
    ],
)
def test_keys_that_cannot_be_used_are_named(tmp_path: Path, key: str, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        Clients(QUOTA, key or None, keys_file(tmp_path, text) if text else None)
    assert PLANNER not in str(caught.value)


def test_the_operators_key_may_be_given_as_its_digest() -> None:
    client = Clients(QUOTA, f"sha256:{digest(OPERATOR)}").of_key(OPERATOR)
    assert client
    assert client.operator


# Quotas


def test_a_client_has_so_many_jobs_and_others_still_theirs(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs.sqlite")
    jobs = [store.add(SPEC, 1, 99, Order("a"), QUOTA) for _ in range(2)]
    with pytest.raises(QuotaExceeded, match=r"jobs that wait or run: 2, the limit is 2"):
        store.add(SPEC, 1, 99, Order("a"), QUOTA)
    store.add(SPEC, 1, 99, Order("b"), QUOTA)
    store.claim("x")
    store.transition(jobs[0].id, "successful")
    store.add(SPEC, 1, 99, Order("a"), QUOTA)


def test_results_count_until_they_are_removed(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs.sqlite")
    job = store.add(SPEC, 1, 99, Order("a"), QUOTA, nbytes=900)
    with pytest.raises(QuotaExceeded, match="1100, the limit is 1000"):
        store.add(SPEC, 1, 99, Order("a"), QUOTA, nbytes=200)
    store.claim("x")
    store.transition(job.id, "successful", results={}, nbytes=700)  # less than was estimated
    second = store.add(SPEC, 1, 99, Order("a"), QUOTA, nbytes=200)
    store.transition(second.id, "dismissed")
    store.transition(job.id, "dismissed")
    store.add(SPEC, 1, 99, Order("a"), QUOTA, nbytes=1000)


def test_clients_take_turns_and_a_small_job_passes_a_large_one(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs.sqlite")
    many = [store.add(SPEC, 1000, 99, Order("a")).id for _ in range(3)]
    other = store.add(SPEC, 1000, 99, Order("b")).id
    small = store.add(SPEC, 4, 99, Order("a")).id
    order: list[str] = []
    while job := store.claim("x", 4 if len(order) == 1 else None):
        order.append(job.id)
        if len(order) != 1:
            store.transition(job.id, "successful")
    # The first runs on: its client comes last, but for the lane of what is small.
    assert order == [many[0], small, other, *many[1:]]


def test_a_client_above_its_quota_is_told_limit_value_and_when(
    serve: Serve, two_quads: World, slow_model: Path
) -> None:
    settings = {"jobs_per_client": 2, "trusted_proxies": ["*"]}
    with serve(two_quads.directory, slow_model, **settings) as client:

        def post(address: str) -> Any:  # noqa: ANN401
            headers = {**ASYNC, "x-forwarded-for": address}
            return client.post(EXECUTE, json=request_of(two_quads), headers=headers)

        answers = [post("192.0.2.1") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [201, 201, 429]
        refusal = answers[2]
        assert int(refusal.headers["retry-after"]) >= 1
        assert (refusal.json()["value"], refusal.json()["limit"]) == (2, 2)
        assert post("192.0.2.2").status_code == 201
        text = client.get("/metrics").text
        assert 'landcover_refused_total{share="jobs"}' in text
        # Who leaves takes nothing from the others.
        mine, theirs = (answers[i].json()["jobID"] for i in (0, 1))
        client.delete(f"/jobs/{mine}")
        assert client.get(f"/jobs/{theirs}").json()["status"] in ("accepted", "running")


def test_a_store_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    old = "3f2b8c1e-7d44-4a57-9a1c-0d5f6b7a8c9d"
    with sqlite3.connect(path) as db:
        db.execute(
            "CREATE TABLE jobs (id TEXT PRIMARY KEY, spec TEXT NOT NULL, status TEXT NOT NULL, "
            "message TEXT NOT NULL DEFAULT '', created REAL NOT NULL, started REAL, finished REAL, "
            "total INTEGER NOT NULL DEFAULT 0, seconds REAL NOT NULL DEFAULT 0, "
            "results TEXT NOT NULL DEFAULT '{}', owner TEXT, lease REAL)"
        )
        values = (old, SPEC.to_json(), "accepted", 1.0)
        db.execute("INSERT INTO jobs (id, spec, status, created) VALUES (?, ?, ?, ?)", values)
    db.close()
    store = Store(path)
    assert store.get(old).spec == SPEC
    store.add(SPEC, 1, 9, Order("a"), QUOTA)
    claimed = store.claim("x")
    assert claimed
    assert claimed.id == old
