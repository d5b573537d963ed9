"""The harness itself: what it must not overlook."""

from __future__ import annotations

import io
import math
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.legend import LEGEND, NODATA
from tests.chaos import report, soak
from tests.chaos.link import link_to
from tests.chaos.oracle import Tiles, blocks_of, digest_of, expected_tile, tile_at
from tests.chaos.prober import Judge, Seen
from tests.chaos.trial import Outcome, Trial
from tests.world.world import World


def png(classes: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    rgba = np.zeros((*classes.shape, 4), np.uint8)
    for value, color in LEGEND.colors().items():
        rgba[classes == value] = (*color, 255)
    file = io.BytesIO()
    Image.fromarray(rgba).save(file, "PNG")
    return file.getvalue()


def trial_of(seen: Sequence[Seen], began: float, ended: float, over: float) -> Outcome:
    """The outcome of a fault for which the prober saw these."""

    def between(first: float, last: float) -> list[Seen]:
        return [s for s in seen if s.at + s.took >= first and s.at <= last]

    bench: Any = SimpleNamespace(prober=SimpleNamespace(between=between))
    trial = Trial(bench, "fault", "group")
    trial._began, trial._ended, trial._over = began, ended, over
    trial.outcome.recovery = trial._recovery()
    return trial.close()


def calm(first: float, last: float) -> list[Seen]:
    """What is seen while all is well."""
    times = np.arange(first, last, 0.1).tolist()
    return [Seen(kind, at, 0.01, "200") for at in times for kind in ("health", "control", "warm")]


def test_one_wrong_pixel_of_a_tile_is_seen(two_quads: World) -> None:
    scene = two_quads.scenes[0]
    x, y = next(iter(blocks_of(scene)))
    classes = expected_tile(scene, *tile_at(scene, x, y, 18))
    digests = [digest_of(classes)]
    judge = Judge()
    assert not judge.is_wrong(png(classes), digests)
    for value in (classes[5, 7] % 6 + 1, NODATA):
        other = classes.copy()
        other[5, 7] = value
        assert judge.is_wrong(png(other), digests)
    foreign = np.array(Image.open(io.BytesIO(png(classes))))
    foreign[0, 0] = (1, 2, 3, 255)
    file = io.BytesIO()
    Image.fromarray(foreign).save(file, "PNG")
    assert judge.is_wrong(file.getvalue(), digests)
    assert judge.is_wrong(b"not an image", digests)
    assert judge.is_wrong(png(np.full_like(classes, NODATA)), digests)


def test_tiles_are_given_out_once_and_lie_in_the_scene(two_quads: World) -> None:
    tiles = Tiles(list(two_quads.scenes), "two_quads")
    count = len(tiles)
    taken = tiles.take(count)
    assert count > 10
    assert len({tile.path for tile in taken}) == count
    with pytest.raises(RuntimeError, match="1 tiles wanted, 0 are left"):
        tiles.take(1)


def test_a_calm_time_keeps_the_promise() -> None:
    seen = [*calm(0, 5), Seen("cold", 3.2, 0.3, "200")]
    outcome = trial_of(seen, 1, 3, 4)
    assert outcome.kept, outcome.problems
    assert outcome.recovery == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (Seen("warm", 2, 0.01, "200", wrong=True), "1 tiles with wrong pixels"),
        (Seen("cold", 2, 0.01, "500"), "answers 500"),
        (Seen("cold", 2, 0.01, "reset"), "answers reset"),
        (Seen("cold", 2, 0.01, "503", marks=("no-retry-after",)), "1 times 503 without"),
        (Seen("health", 2, 0.3, "200"), "/healthz took 300 ms"),
        (Seen("health", 2, 0.01, "503"), "/healthz answered 503"),
        (Seen("health", 2, 30, "timeout"), "/healthz answered timeout"),
        (Seen("warm", 2, 3.0, "200"), "p99 of warm tiles 3000 ms"),
        (Seen("cold", 9.5, 0.1, "502"), "recovery took inf s"),
    ],
)
def test_what_breaks_the_promise_is_named(more: Seen, problem: str) -> None:
    seen = [*calm(0, 5), Seen("cold", 3.2, 0.3, "200"), more]
    outcome = trial_of(seen, 1, 3, 10)
    assert any(each.startswith(problem) for each in outcome.problems), outcome.problems


def test_a_slow_machine_is_no_slow_server() -> None:
    slow = Seen("health", 2, 0.3, "200")
    beside = Seen("control", 2.1, 0.2, "200")
    assert trial_of([*calm(0, 5), Seen("cold", 3, 0.1, "200"), slow, beside], 1, 3, 4).kept
    later = Seen("control", 2.5, 0.3, "200")
    assert not trial_of([*calm(0, 5), Seen("cold", 3, 0.1, "200"), slow, later], 1, 3, 4).kept


def test_recovery_lasts_until_no_answer_fails() -> None:
    seen = [
        Seen("cold", 3.1, 0.1, "200"), Seen("cold", 4.0, 0.1, "502"), Seen("cold", 6.0, 0.2, "200"),
    ]  # fmt: skip
    assert trial_of(seen, 1, 3, 9).recovery == pytest.approx(3.2)
    assert trial_of(seen[:2], 1, 3, 9).recovery == math.inf


def _is_broken(connection: socket.socket) -> bool:
    time.sleep(0.1)
    try:
        connection.sendall(b"c")
        return not connection.recv(1)
    except ConnectionError:
        return True


def test_a_link_in_trouble() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    while data := connection.recv(100):
                        connection.sendall(data)

        threading.Thread(target=echo, daemon=True).start()
        with link_to(server.getsockname()[1]) as link:
            kept = socket.create_connection(("127.0.0.1", link.port), 2)
            kept.sendall(b"a")
            assert kept.recv(1) == b"a"
            link.set("cut")
            kept.settimeout(0.3)
            kept.sendall(b"b")
            with pytest.raises(TimeoutError):
                kept.recv(1)
            link.set("refuse")
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", link.port), 2)
            link.set("reset")
            with (
                suppress(ConnectionResetError),  # the reset may be here before the connection is
                socket.create_connection(("127.0.0.1", link.port), 2) as broken,
            ):
                assert _is_broken(broken)
            link.set("ok")
            with socket.create_connection(("127.0.0.1", link.port), 2) as again:
                again.sendall(b"d")
                assert again.recv(1) == b"d"
            kept.close()
        server.close()


def test_the_slope_of_memory_is_that_after_warming_up() -> None:
    grown = soak.Soak(1800)
    grown.memory = [(t / 60, 300 + min(t, 200) + 3 * t / 60) for t in range(1800)]
    grown.descriptors = grown.threads = [30] * 1800
    assert grown.slope == pytest.approx(3)
    assert grown.problems() == ["memory grows by 3.0 MB a minute"]
    grown.memory = [(t / 60, 300 + min(t, 200)) for t in range(1800)]
    assert grown.problems() == []


def test_the_page_has_the_table_between_its_markers(tmp_path: Any) -> None:  # noqa: ANN401
    page = tmp_path / "page.md"
    page.write_text("# A\n\n<!-- chaos -->\nold\n<!-- /chaos -->\n\nend\n")
    broken = Outcome("fault", recovery=math.inf, problems=["it broke"])
    report.write("chaos", report.row_of(broken), page)
    text = page.read_text()
    assert text.startswith("# A\n\n<!-- chaos -->\n| fault |")
    assert text.endswith("<!-- /chaos -->\n\nend\n")
    assert "old" not in text
    assert "never" in text
    assert "**broken**: it broke" in text
