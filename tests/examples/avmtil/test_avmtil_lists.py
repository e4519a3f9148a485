"""Maps of classes, orders and the numbers of a stage matrix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from avtasks.ave.annotations import CATEGORIES as AVE_CLASSES
from avtasks.avmtil import (
    Settings,
    check_order,
    class_blocks,
    draw_selection,
    read_domains,
    selection_shares,
    stage_row,
)
from avtasks.avvp.annotations import CATEGORIES as LLP_CLASSES

DATA = Path(__file__).parents[3] / "../shared/data"
MAPS = DATA / "av_mtil"
real_maps = pytest.mark.skipif(not MAPS.is_dir(), reason="the real maps of domains are not here")


@real_maps
@pytest.mark.parametrize(
    ("name", "classes", "sizes"), [("ave", AVE_CLASSES, [5, 5, 8, 7, 3]), ("llp", LLP_CLASSES, [6, 3, 5, 5, 6])]
)
def test_the_real_maps_give_every_class_one_domain(name: str, classes: tuple[str, ...], sizes: list[int]) -> None:
    domains = read_domains(MAPS / f"{name}_domain_class.json", classes)
    assert [len(found) for found in domains.values()] == sizes
    assert sorted(index for found in domains.values() for index in found) == list(range(len(classes)))
    assert next(iter(domains)) == "human-activities"


@real_maps
def test_the_real_order_of_llps_classes_is_the_one_the_loader_has() -> None:
    assert (MAPS / "llp_categories.txt").read_text().split() == list(LLP_CLASSES)


@real_maps
def test_the_domains_in_aves_own_list_are_those_of_the_map() -> None:
    lines = (DATA / "ave/Annotations_with_domain.txt").read_text().splitlines()[1:]
    found = {(fields[0], fields[-1]) for fields in (line.split("&") for line in lines)}
    table = json.loads((MAPS / "ave_domain_class.json").read_text())
    assert found == {(name, domain) for domain, names in table.items() for name in names}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": ["Bark", "Bark"]}', "the class 'Bark' is in 'a' already"),
        ('{"a": ["Moo"]}', "domain 'a': there is no class 'Moo'"),
        ('{"a": []}', "the domain 'a' has no class"),
        ('["Bark"]', "not a map"),
        ("{", "not a map"),
    ],
)
def test_a_bad_map_of_domains_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "domains.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_domains(path, ["Bark"])
    assert str(path) in str(caught.value)


def test_blocks_of_classes_are_whole_and_as_equal_as_can_be() -> None:
    blocks = class_blocks([str(number) for number in range(28)], 5)
    assert [len(found) for found in blocks.values()] == [5, 6, 5, 6, 6]
    assert [index for found in blocks.values() for index in found] == list(range(28))
    with pytest.raises(ValueError, match="3 classes make no 5 groups"):
        class_blocks(["a", "b", "c"], 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(order=("ave", "moo")), "there is no task 'moo'; name some of ave, llp, avs, avqa"),
        (Settings(order=("ave", "avs", "ave")), "the task ave is named twice"),
        (Settings(order=()), "no task is named"),
        (Settings(methods=("php", "moo")), "there is no method 'moo'"),
        (Settings(scenario="class"), "learns the classes of one data set"),
        (Settings(scenario="domain", order=("avqa",)), "give --order ave or --order llp, got avqa"),
        (Settings(scenario="class", order=("ave",), groups=1), "at least 2 groups"),
    ],
)
def test_an_order_that_cannot_be_learned_is_refused(settings: Settings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_order(settings)


def test_a_stage_matrix_in_numbers() -> None:
    row = stage_row([[80.0], [70.0, 60.0], [75.0, 50.0, 40.0]])
    assert row["accuracy"] == 55
    assert row["forgetting"] == 7.5
    assert row["backward_transfer"] == -7.5
    assert row["matrix"][0] == [80, None, None]


def test_selection_is_drawn_where_any_task_chose(tmp_path: Path) -> None:
    counts = {"ave": {"a": [3, 1], "b": [0, 0, 2]}, "avs": {}, "llp": {"a": [1]}}
    assert selection_shares(counts, "a").tolist() == [[0.75, 0.25], [0, 0], [1, 0]]
    draw_selection(tmp_path / "selection.png", counts)
    assert (tmp_path / "selection.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="no task chooses"):
        draw_selection(tmp_path / "none.png", {"ave": {}})
