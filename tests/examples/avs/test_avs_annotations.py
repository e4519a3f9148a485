from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from avtasks.avs import Clip, read_annotations

OFFICIAL = Path(__file__).parents[3].parent / "shared" / "data" / "avsbench"
official = pytest.mark.skipif(not OFFICIAL.is_dir(), reason=f"the official lists are not in {OFFICIAL}")
CATEGORIES = {
    "baby_laughter", "female_singing", "male_speech", "dog_barking", "cat_meowing", "lions_roaring",
    "horse_clip-clop", "coyote_howling", "mynah_bird_singing", "playing_acoustic_guitar", "playing_tabla",
    "playing_violin", "playing_piano", "playing_ukulele", "playing_glockenspiel", "helicopter", "race_car",
    "driving_buses", "ambulance_siren", "typing_on_computer_keyboard", "chainsawing_trees", "cap_gun_shooting",
    "lawn_mowing",
}  # fmt: skip


def write(path: Path, *rows: str) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


def test_rows_of_both_subsets(tmp_path):
    s4 = write(tmp_path / "s4.csv", "name,start,category,split", "aa,5,dog_barking,val", "", "-b,0,cat_meowing,train")
    assert read_annotations(s4, "s4") == [Clip("aa", "val", "dog_barking", 5), Clip("-b", "train", "cat_meowing", 0)]
    ms3 = write(tmp_path / "ms3.csv", "video_id,split", "cc_36,test")
    assert read_annotations(ms3, "ms3") == [Clip("cc_36", "test")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("aa,5,dog,dev", "line 3: split is one of train, val, test, found 'dev'"),
        ("aa,five,dog,val", "start must be a whole second, found 'five'"),
        ("aa,5,val", "expected 4 fields name,start,category,split, found 3"),
        ("../aa,5,dog,val", r"'\.\./aa' cannot be the name of a file or folder"),
        ("aa,5,,val", "'' cannot be the name"),
        ("aa,5,..,val", r"'\.\.' cannot be the name"),
        ("bb,0,cat,train", "bb occurs twice"),
    ],
)
def test_a_damaged_row_is_named(tmp_path, row, message):
    path = write(tmp_path / "s4_meta_data.csv", "name,start,category,split", "bb,1,cat,val", row)
    with pytest.raises(ValueError, match=message) as caught:
        read_annotations(path, "s4")
    assert str(path) in str(caught.value)


def test_files_that_are_not_the_list(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such list of clips"):
        read_annotations(tmp_path / "s4_meta_data.csv", "s4")
    with pytest.raises(ValueError, match=r"the header is 'video_id,split'; s4 has name,start,category,split"):
        read_annotations(write(tmp_path / "a.csv", "video_id,split", "aa,val"), "s4")
    with pytest.raises(ValueError, match="holds no row"):
        read_annotations(write(tmp_path / "b.csv", "video_id,split"), "ms3")
    with pytest.raises(ValueError, match="subset is one of s4, ms3, got 'avss'"):
        read_annotations(tmp_path / "b.csv", "avss")


@official
def test_the_official_list_of_s4():
    clips = read_annotations(OFFICIAL / "s4_meta_data.csv", "s4")
    assert len(clips) == 4932
    assert Counter(clip.split for clip in clips) == {"train": 3452, "val": 740, "test": 740}
    assert {clip.category for clip in clips} == CATEGORIES
    assert clips[0] == Clip("-_wznbUu3DY", "train", "helicopter", 0)
    assert max(clip.start for clip in clips) == 6


@official
def test_the_official_list_of_ms3():
    clips = read_annotations(OFFICIAL / "ms3_meta_data.csv", "ms3")
    assert len(clips) == 424
    assert Counter(clip.split for clip in clips) == {"train": 296, "val": 64, "test": 64}
