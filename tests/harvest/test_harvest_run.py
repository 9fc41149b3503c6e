"""A harvest ends with the same bytes, whatever happened to it on the way."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import signal
import time
import tracemalloc
from dataclasses import replace
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import pytest
import small_archive
from small_archive import FINDINGS, OPTIONS, UNREADABLE, harvest_slowly, localizer, outputs

from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError, CxrlocusError, DataError, ImageError
from cxrlocus.harvest.export import write_coco, write_csv, write_nih
from cxrlocus.harvest.journal import Journal
from cxrlocus.harvest.options import Options
from cxrlocus.harvest.run import Harvest, harvest
from cxrlocus.harvest.summary import summarize
from cxrlocus.prediction.boxing import find_boxes
from cxrlocus.prediction.predict import explain_files


def journal_of(out: Path) -> Journal:
    return Journal(out / "journal", len(list((out / "journal").glob("0*.json"))))


def test_boxes_are_those_of_the_maps_that_the_label_names(archive: Index, out: Path) -> None:
    readable = [r for i, r in enumerate(archive.records) if i not in UNREADABLE]
    said = explain_files(localizer(), [r.path for r in readable])
    found = find_boxes(said, OPTIONS.rule)
    expected = {
        (readable[i].image, FINDINGS.names[c], *xyxy, score, float(f"{said.prob[i, c]:.9g}"))
        for i, c, xyxy, score in zip(found.image, found.finding, found.xyxy.tolist(), found.score.tolist(), strict=True)
        if FINDINGS.names[c] in readable[i].positive
    }
    boxes = [box for shard in journal_of(out) for box in shard.boxes]
    assert {(*box[:7], box.prob) for box in boxes} == expected
    assert len(boxes) == len(expected) > 20
    assert {box.step for box in boxes} == {1}


def test_ranks_run_from_one_best_first(out: Path) -> None:
    scores: dict[tuple[str, str], list[float]] = {}
    for box in (box for shard in journal_of(out) for box in shard.boxes):
        scores.setdefault((box.image, box.finding), []).append(box.score)
        assert box.rank == len(scores[box.image, box.finding])
    assert any(len(s) == 2 for s in scores.values())
    assert all(s == sorted(s, reverse=True) for s in scores.values())


def test_unreadable_films_are_listed_and_the_rest_go_on(archive: Index, harvested: Harvest) -> None:
    lost = {Path(item).name: reason for item, reason in harvested.summary.unreadable}
    wanted = {archive.records[i].image for i in UNREADABLE if archive.records[i].positive}
    assert set(lost) == wanted
    assert "no such file" in lost.values()
    looked = sum(bool(r.positive) for r in archive.records)
    assert harvested.summary.readable == looked - len(wanted)
    assert harvested.summary.films == len(archive) > looked


def test_a_film_whose_label_names_nothing_is_not_opened(archive: Index, tmp_path: Path) -> None:
    bare = archive.subset([i for i, r in enumerate(archive.records) if not r.positive])
    with pytest.raises(DataError, match=r"no label of its \d+ films names Mass or Nodule or .*--unlabelled"):
        small_archive.run(bare, tmp_path / "out")
    some = archive.subset([0, 1])
    assert not some.records[0].positive
    told: list[tuple[int, int]] = []
    small_archive.run(some, tmp_path / "out", on_film=lambda done, total, words: told.append((done, total)))
    assert told == [(1, 1)]


def test_unlabelled_looks_for_everything_everywhere(archive: Index, tmp_path: Path) -> None:
    done = small_archive.run(archive, tmp_path, Options(OPTIONS.rule, unlabelled=True))
    readable = len(archive) - len(UNREADABLE)
    assert [one.asked for one in done.summary.findings] == [readable] * 3


def test_min_prob_gates_and_counts(archive: Index, tmp_path: Path) -> None:
    plain = small_archive.run(archive, tmp_path / "plain")
    every = [box for shard in journal_of(tmp_path / "plain") for box in shard.boxes]
    least = float(np.median([box.prob for box in every]))
    gated = small_archive.run(archive, tmp_path / "gated", Options(OPTIONS.rule, least, batch=3, shard=5))
    kept = [box for shard in journal_of(tmp_path / "gated") for box in shard.boxes]
    assert kept == [box for box in every if box.prob >= least]
    for one, other in zip(plain.summary.findings, gated.summary.findings, strict=True):
        assert (other.asked, other.found + other.gated) == (one.asked, one.found)


def test_shards_do_not_change_what_is_found_when_batches_stay(archive: Index, out: Path, tmp_path: Path) -> None:
    small_archive.run(archive, tmp_path, Options(OPTIONS.rule, batch=1, shard=100))
    assert [b for s in journal_of(tmp_path) for b in s.boxes] == [b for s in journal_of(out) for b in s.boxes]


def test_a_second_call_looks_at_no_film_and_writes_the_same(archive: Index, tmp_path: Path) -> None:
    small_archive.run(archive, tmp_path)
    before, looked = outputs(tmp_path), localizer()
    (tmp_path / "boxes.csv").unlink()
    harvest(looked, archive, tmp_path, OPTIONS, source=small_archive.SOURCE)
    assert looked.calls == 0
    assert outputs(tmp_path) == before


def test_a_film_that_can_be_read_by_now_is_looked_at(archive: Index, tmp_path: Path) -> None:
    root = tmp_path / "films"
    root.mkdir()
    index = small_archive.make_archive(root)
    before = small_archive.run(index, tmp_path / "out").summary
    whole = root / "004.png"
    (root / "003.png").write_bytes(whole.read_bytes())
    looked = localizer()
    after = harvest(looked, index, tmp_path / "out", OPTIONS, source=small_archive.SOURCE).summary
    assert after.readable == before.readable + 1
    assert len(after.unreadable) == len(before.unreadable) - 1
    # Its shard alone is harvested again.
    assert 0 < looked.calls <= -(-OPTIONS.shard // OPTIONS.batch)
    # Another of that shard is away when one more can be read: what was found on it stays.
    boxes = outputs(tmp_path / "out")
    (root / "011.png").write_bytes(whole.read_bytes())
    (root / "010.png").unlink()
    assert harvest(localizer(), index, tmp_path / "out", OPTIONS, source=small_archive.SOURCE).summary == after
    assert outputs(tmp_path / "out") == boxes


def shards_in(folder: Path) -> int:
    return len(list((folder / "journal").glob("0*.json")))


def kill_once(context: BaseContext, root: Path, out: Path, *, shards: int, delay: float) -> bool:
    """Harvest in a process of its own and kill -9 it ``delay`` after so many shards; True if it died of it."""
    child = context.Process(target=harvest_slowly, args=(root, out))  # type: ignore[attr-defined]  # typeshed's gap
    child.start()
    deadline = time.monotonic() + 60
    while child.is_alive() and shards_in(out) < shards and time.monotonic() < deadline:
        time.sleep(0.002)
    child.join(delay)
    os.kill(child.pid, signal.SIGKILL)
    child.join(60)
    return bool(child.exitcode == -signal.SIGKILL)


def test_kill_9_at_random_moments_ends_with_the_same_bytes(archive: Index, out: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["small_archive"])
    draw, there, died = random.Random(), [], 0
    for shards in (0, 1, 1, 2, 3, 3, 4, 5):
        died += kill_once(context, archive.root, tmp_path / "o", shards=shards, delay=draw.uniform(0, 0.06))
        there.append(shards_in(tmp_path / "o"))
    assert died >= 5
    assert there == sorted(there), "a kill must not undo what was done"
    assert len({n for n in there if 0 < n < len(list((out / "journal").glob("0*.json")))}) >= 2, there
    small_archive.run(archive, tmp_path / "o")
    assert outputs(tmp_path / "o") == outputs(out)


class Stopped(BaseException):
    """Not an Exception: nothing of ours may catch it."""


def stop_at(monkeypatch: pytest.MonkeyPatch, call: int, error: BaseException) -> list[int]:
    """Let the n-th fsync fail; the list counts the calls."""
    calls, real = [0], os.fsync

    def fsync(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] == call:
            raise error
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return calls


def test_a_stop_at_every_write_ends_with_the_same_bytes(archive: Index, out: Path, tmp_path: Path) -> None:
    expected, stops = outputs(out), 0
    for call in range(1, 200):
        folder = tmp_path / str(call)
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, call, Stopped())
            try:
                small_archive.run(archive, folder)
                break
            except Stopped:
                stops += 1
        if call % 3 == 0:
            small_archive.run(archive, folder)
            assert outputs(folder) == expected
    assert stops == 2 * len(expected), "each file is synced, and so is its folder"


@pytest.mark.parametrize("call", [1, 5, 16, 20])
def test_a_full_disk_is_one_line_and_nothing_is_lost(archive: Index, out: Path, tmp_path: Path, call: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, call, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(CxrlocusError, match=r"\(No space left on device\).*run the same command") as error:
            small_archive.run(archive, tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.part"))
    small_archive.run(archive, tmp_path)
    assert outputs(tmp_path) == outputs(out)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"options": Options(OPTIONS.rule, batch=4, shard=5)}, r"options.batch is 3 there and 4 here"),
        ({"options": Options(batch=3, shard=5)}, r"options.rule.name is 'several_thresholds' there and 'peak_comp"),
        ({"source": {"weights": "other"}}, r"source.weights is 'none' there and 'other' here"),
        ({"index": "fewer"}, r"data.films is 32 there and 31 here"),
    ],
)
def test_another_harvest_is_refused(archive: Index, out: Path, change: dict[str, object], named: str) -> None:
    before = outputs(out)
    index = archive.subset(list(range(31))) if "index" in change else archive
    options, source = change.get("options", OPTIONS), change.get("source", small_archive.SOURCE)
    with pytest.raises(ConfigError, match=named):
        harvest(localizer(), index, out, options, source=source)  # type: ignore[arg-type]  # a dict of objects
    assert outputs(out) == before


def test_a_damaged_shard_is_harvested_again(archive: Index, out: Path, tmp_path: Path) -> None:
    small_archive.run(archive, tmp_path)
    shard = tmp_path / "journal" / "00001.json"
    shard.write_bytes(shard.read_bytes()[:-20])
    small_archive.run(archive, tmp_path)
    assert outputs(tmp_path) == outputs(out)


def test_nothing_readable_is_an_error(archive: Index, tmp_path: Path) -> None:
    lost = archive.subset([i for i in UNREADABLE if archive.records[i].positive])
    with pytest.raises(ImageError, match="no film could be read"):
        small_archive.run(lost, tmp_path)
    assert not (tmp_path / "boxes.csv").exists()


def test_a_run_that_knows_none_of_the_findings_is_refused(archive: Index, tmp_path: Path) -> None:
    other = small_archive.SeesBrightness(32, 8, findings=("Hernia",))
    with pytest.raises(ConfigError, match=r"the run knows Hernia, and the labels of .* name none of them"):
        harvest(other, archive, tmp_path, OPTIONS, source={})
    done = harvest(other, archive, tmp_path, Options(unlabelled=True), source={})
    assert {one.finding for one in done.summary.findings} == {"Hernia"}
    assert done.summary.beyond == {f: sum(f in r.positive for r in archive.records) for f in FINDINGS}


def test_the_speed_is_told_and_adds_up_over_sittings(archive: Index, out: Path) -> None:
    raw = json.loads((out / "harvest.json").read_text(encoding="utf-8"))
    seconds = sum(shard.seconds for shard in journal_of(out))
    assert raw["seconds"] == pytest.approx(seconds, abs=1e-3)
    assert raw["images_per_second"] == pytest.approx(raw["looked_at"] / seconds, rel=1e-3)


def test_exports_and_counts_hold_one_shard_at_a_time(archive: Index, out: Path, tmp_path: Path) -> None:
    some = journal_of(out).read(0)
    one = replace(some, boxes=some.boxes * 20, unreadable=())

    def peak(copies: int) -> int:
        folder = tmp_path / str(copies)
        folder.mkdir()
        made = Journal(folder, copies)
        for number in range(copies):
            made.write(number, one)
        tracemalloc.start()
        summarize(made, archive, FINDINGS)
        for export in (write_csv, write_nih):
            export(folder / "file", made)
        write_coco(folder / "file", made, FINDINGS)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(1)
    assert peak(30) < 1.5 * peak(3)
