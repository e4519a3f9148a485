from __future__ import annotations

from pathlib import Path

import pytest
import torch
from avtasks.avvp import CATEGORIES, Clip, Event, read_clips, read_events, read_split, read_truth, segment_labels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LLP = Path(__file__).parents[3].parent / "shared" / "data" / "llp"
official = pytest.mark.skipif(not LLP.is_dir(), reason=f"the official annotation files are not in {LLP}")
WEAK = "filename\tevent_labels"
DENSE = "filename\tonset\toffset\tevent_labels"
NAME = "BjCEufrlXm4_20_30"


def write(path: Path, *rows: str) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("header", [[WEAK], []])
def test_clips_with_and_without_a_header(tmp_path, header):
    rows = [f"{NAME}\tSpeech,Dog", "-9WBkdJq104_30_40\tSpeech, Frying_(food)", ""]
    clips = read_clips(write(tmp_path / "AVVP_train.csv", *header, *rows))
    assert clips == [
        Clip(NAME, "BjCEufrlXm4", ("Speech", "Dog")),
        Clip("-9WBkdJq104_30_40", "-9WBkdJq104", ("Speech", "Frying_(food)")),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"{NAME}\tUnicorn", "unknown event 'Unicorn', none of the 25 categories"),
        (f"{NAME}\tSpeech,", "unknown event ''"),
        (f"{NAME}\t", "unknown event ''"),
        (f"{NAME}\tSpeech\tDog", "expected 2 fields between tabs, filename event_labels, found 3"),
        (f"{NAME},Speech", "found 1"),
        ("short_20_30\tSpeech", "'short_20_30' is not the name of a clip"),
        ("../../../aaa_20_30\tSpeech", "is not the name of a clip"),
        ("BjCEufrlXm4\tSpeech", "'BjCEufrlXm4' is not the name of a clip"),
        ("GN3k_CvthEg_0_10\tSpeech", "has the video id of 'GN3k_CvthEg_80_90', an earlier row"),
    ],
)
def test_a_damaged_weak_row_is_named(tmp_path, row, message):
    path = write(tmp_path / "AVVP_train.csv", WEAK, "GN3k_CvthEg_80_90\tSpeech", row)
    with pytest.raises(ValueError, match=rf"AVVP_train\.csv, line 3: .*{message}"):
        read_clips(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"{NAME}\t0\t4\tUnicorn", "unknown event 'Unicorn'"),
        (f"{NAME}\t0\t4\tSpeech,Dog", "unknown event 'Speech,Dog'"),
        (f"{NAME}\t0\tSpeech", "expected 4 fields .*, found 3"),
        (f"{NAME}\t0.5\t4\tSpeech", "whole seconds from 0 to 10, found '0.5'"),
        (f"{NAME}\t-1\t4\tSpeech", "found '-1'"),
        (f"{NAME}\t0\t11\tSpeech", "found '11'"),
        ("\t0\t4\tSpeech", "the name of the clip is empty"),
    ],
)
def test_a_damaged_dense_row_is_named(tmp_path, row, message):
    path = write(tmp_path / "AVVP_eval_audio.csv", DENSE, f"{NAME}\t9\t9\tSpeech", row)
    with pytest.raises(ValueError, match=rf"AVVP_eval_audio\.csv, line 3: .*{message}"):
        read_events(path)


def test_files_that_hold_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"AVVP_val_pd\.csv: no such annotation file"):
        read_split(tmp_path, "val")
    with pytest.raises(ValueError, match="holds no annotation row"):
        read_clips(write(tmp_path / "AVVP_train.csv", WEAK))
    with pytest.raises(ValueError, match="split must be one of train, val, test, got 'valid'"):
        read_split(tmp_path, "valid")
    (tmp_path / "AVVP_test_pd.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"AVVP_test_pd\.csv: is not UTF-8 text"):
        read_split(tmp_path, "test")


def test_events_that_end_before_they_start_stand_for_nothing():
    events = [Event(NAME, 9, 0, "Dog"), Event(NAME, 4, 4, "Dog"), Event(NAME, 0, 2, "Car"), Event(NAME, 1, 3, "Car")]
    assert segment_labels(events).nonzero().tolist() == [[0, 1], [1, 1], [2, 1]]


def read_or_name(read, path: Path) -> list:
    """The rows; none where the error says which file is to blame."""
    try:
        return read(path)
    except ValueError as error:
        blamed = str(error).startswith(str(path))
    assert blamed
    return []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=30), min_size=1, max_size=4), st.booleans())
def test_hostile_rows_are_read_or_named(tmp_path, rows, dense):
    path = tmp_path / "hostile.csv"
    path.write_bytes("\n".join([DENSE if dense else WEAK, *rows]).encode("utf-8", "surrogatepass"))
    assert all(row.name for row in read_or_name(read_events if dense else read_clips, path))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_one_damaged_field_is_read_or_named(tmp_path, data):
    fields = [NAME, "0", "4", "Speech"]
    fields[data.draw(st.integers(0, 3))] = data.draw(st.text(alphabet="\t ٣²_-+.,09aSpech\u2028", max_size=6))
    path = write(tmp_path / "damaged.csv", DENSE, "\t".join(fields))
    for event in read_or_name(read_events, path):
        assert 0 <= event.start <= 10
        assert 0 <= event.end <= 10
        assert event.category in CATEGORIES


@official
def test_official_splits():
    splits = {split: read_split(LLP, split) for split in ("train", "val", "test")}
    assert {split: len(clips) for split, clips in splits.items()} == {"train": 10000, "val": 649, "test": 1200}
    everything = [clip for clips in splits.values() for clip in clips]
    assert len({clip.video_id for clip in everything}) == 11849
    assert {event for clip in everything for event in clip.events} == set(CATEGORIES)
    whole = read_clips(LLP / "AVVP_dataset_full.csv")
    assert sorted(whole) == sorted(everything)


@official
def test_official_dense_annotations():
    events = {part: read_events(LLP / f"AVVP_eval_{part}.csv") for part in ("audio", "visual")}
    assert {part: len(rows) for part, rows in events.items()} == {"audio": 4131, "visual": 2495}
    assert {event.category for rows in events.values() for event in rows} == set(CATEGORIES)
    assert sum(event.end <= event.start for event in events["audio"]) == 6
    names = {clip.name for split in ("val", "test") for clip in read_split(LLP, split)}
    found = {part: {event.name for event in rows} for part, rows in events.items()}
    assert {part: len(names - those) for part, those in found.items()} == {"audio": 9, "visual": 191}
    assert {part: len(those - names) for part, those in found.items()} == {"audio": 8, "visual": 7}


@official
def test_the_damaged_rows_of_the_shipped_file_are_repaired_unless_asked():
    shipped, fixed = LLP / "AVVP_eval_audio.csv", LLP / "AVVP_eval_audio.fixed.csv"
    assert read_events(shipped) == read_events(fixed) == read_events(fixed, repair=False)
    both = zip(read_events(shipped, repair=False), read_events(fixed), strict=True)
    damaged = [row for row, mended in both if row != mended]
    assert [row.name for row in damaged] == ["Baby_cry_infant_cry", "Baby_cry_infant_cry", "KvIjsmANkxI_10_20`"]
    clips = read_split(LLP, "test")
    mended, dropped = (read_truth(LLP, clips, repair=repair) for repair in (True, False))
    assert torch.equal(mended.visual, dropped.visual)
    differ = (mended.audio != dropped.audio).any(-1).any(-1).nonzero().flatten()
    assert sorted(clips[index].video_id for index in differ) == ["JfZEqeLZqWk", "KvIjsmANkxI"]


@official
@pytest.mark.parametrize(("repair", "differing"), [(True, 81), (False, 82)])
def test_weak_labels_are_not_always_the_union_of_the_dense_ones(repair, differing):
    dense: dict[str, set[str]] = {}
    for part in ("audio", "visual"):
        for event in read_events(LLP / f"AVVP_eval_{part}.csv", repair=repair):
            dense.setdefault(event.name, set()).add(event.category)
    clips = [clip for split in ("val", "test") for clip in read_split(LLP, split)]
    assert sum(set(clip.events) != dense.get(clip.name, set()) for clip in clips) == differing
