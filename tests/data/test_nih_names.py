from __future__ import annotations

import csv
import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from miniature import Film, write_lines, write_nih
from miniature_rsna import MAP, RSNA_FILMS, write_rsna

from cxrlocus.data.nih import load_nih
from cxrlocus.data.nih_names import MAP_FILES, LeakWarning, check_disjoint, check_unseen, nih_patients, seen_films
from cxrlocus.data.records import Dropped, Index, Record
from cxrlocus.data.rsna import load_rsna
from cxrlocus.errors import DataError, LeakError
from cxrlocus.types import BOXED8

MINI = Path(__file__).parents[3] / "shared" / "nih14-mini"
SAME = (Film("00000001_007.png", "1", "test", ("Mass",)), Film("00000099_000.png", "99", "test"))
OTHERS = (Film("00000098_000.png", "98", "train"), Film("00000099_000.png", "99", "test"))


def patients(root: Path, *films: str) -> tuple[dict[str, str], list[Dropped]]:
    dropped: list[Dropped] = []
    return nih_patients(root, films, {}, dropped), dropped


def test_both_forms_of_the_map(tmp_path: Path) -> None:
    entries = [{"subset_img_id": "c0ffee", "img_id": "00012345_006.png", "orig_labels": ["Mass"]}]
    (tmp_path / MAP_FILES[0]).write_text(json.dumps(entries))
    assert patients(tmp_path, "c0ffee") == ({"c0ffee": "12345"}, [])
    write_lines(tmp_path / MAP_FILES[1], ["Image Index,patientId,x", "00000007_000,c0ffee,1", "00000007_000,c0ffee,2"])
    assert patients(tmp_path, "c0ffee")[0] == {"c0ffee": "12345"}
    assert [d.item for d in patients(tmp_path, "c0ffee")[1]] == [MAP_FILES[1]]
    (tmp_path / MAP_FILES[0]).unlink()
    assert patients(tmp_path, "c0ffee") == ({"c0ffee": "7"}, [])


def test_films_that_the_map_lacks_are_their_own_patients_and_listed(tmp_path: Path) -> None:
    write_lines(tmp_path / MAP_FILES[1], ["subset_img_id,img_id", "a,00000007_000.png"])
    told, (listed,) = patients(tmp_path, "a", "b", "c")
    assert told == {"a": "7", "b": "b", "c": "c"}
    assert listed.item == "patients of 2 films, b first"
    assert "each is its own patient" in listed.reason


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not the map that RSNA published"),
        ("{}", "must be a list of objects"),
        ("[1]", "must be a list of objects"),
        ("[" * 100_000, "not the map"),
        ('[{"subset_img_id": "a"}]', "entry 1: must give a patientId of RSNA and a film of NIH .* got 'a', None"),
        ('[{"subset_img_id": "", "img_id": "00000001_000.png"}]', "entry 1: must give"),
        ('[{"subset_img_id": "a", "img_id": "1.png"}]', "got 'a', '1.png'"),
        (
            '[{"subset_img_id": "a", "img_id": "00000001_000.png"},'
            ' {"subset_img_id": "a", "img_id": "00000002_000.png"}]',
            "entry 2: a film has one name; 'a' is 00000001_000.png and 00000002_000.png",
        ),
    ],
)
def test_maps_that_are_not(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / MAP_FILES[0]).write_text(text)
    with pytest.raises(DataError, match=complaint):
        patients(tmp_path, "a")


def test_a_table_that_is_not_a_map(tmp_path: Path) -> None:
    write_lines(tmp_path / MAP_FILES[1], ["patientId,class", "a,Normal"])
    with pytest.raises(DataError, match="must have a column 'Image Index'"):
        patients(tmp_path, "a")
    write_lines(tmp_path / MAP_FILES[1], ["patientId,img_id", "a,"])
    with pytest.raises(DataError, match=r"rsna_to_nih\.csv line 2: must give"):
        patients(tmp_path, "a")


def test_a_map_takes_names_of_films_that_are_elsewhere(tmp_path: Path) -> None:
    """RSNA's map has 30,000 films, of which 26,684 are labelled: nothing to complain of."""
    write_rsna(tmp_path)
    entries = json.loads((tmp_path / MAP).read_text())
    (tmp_path / MAP).write_text(json.dumps([*entries, {"subset_img_id": "z", "img_id": "00000500_000.png"}]))
    assert load_rsna(tmp_path).dropped == ()


def test_one_patient_of_nih_in_two_splits_of_rsna(tmp_path: Path) -> None:
    """Two of RSNA's ids, one person: without the map nobody could know."""
    write_rsna(tmp_path, (*RSNA_FILMS, Film("e_0", "40", "train")))
    with pytest.raises(LeakError, match=r"40 \(train, val\)"):
        load_rsna(tmp_path)
    (tmp_path / MAP).unlink()
    index = load_rsna(tmp_path)
    assert index.records[5].split == "train"
    assert "each film is its own patient" in index.dropped[0].reason


@pytest.mark.parametrize("swap", [False, True])
def test_nih_and_rsna_share_patients(swap: bool, tmp_path: Path) -> None:
    rsna = load_rsna(write_rsna(tmp_path / "rsna"))
    nih = load_nih(write_nih(tmp_path / "nih", SAME))
    pair = (nih, rsna) if swap else (rsna, nih)
    films = r"1 \(00000001_007.png, a_0\)" if swap else r"1 \(a_0, 00000001_007.png\)"
    with pytest.raises(LeakError, match=rf"1 patient on both sides: {films}"):
        check_disjoint(*pair)
    with pytest.raises(LeakError, match="1 patient on both sides"):
        check_disjoint(*(index.split("train" if index is rsna else "test") for index in pair))
    check_disjoint(*(index.split("test") for index in pair))
    check_disjoint(rsna, load_nih(write_nih(tmp_path / "others", OTHERS)))


def test_rsna_without_a_map_is_never_mixed_with_nih(tmp_path: Path) -> None:
    write_rsna(tmp_path / "rsna")
    (tmp_path / "rsna" / MAP).unlink()
    rsna, nih = load_rsna(tmp_path / "rsna"), load_nih(write_nih(tmp_path / "nih", OTHERS))
    for pair in ((rsna, nih), (nih, rsna)):
        with pytest.raises(LeakError, match=rf"5 of them, a_0 first, are in no map to NIH's names\. Put {MAP}"):
            check_disjoint(*pair)
    check_disjoint(rsna.split("train"), rsna.split("test"))


def test_a_map_that_lacks_one_film_is_not_enough(tmp_path: Path) -> None:
    write_rsna(tmp_path / "rsna")
    entries = json.loads((tmp_path / "rsna" / MAP).read_text())
    (tmp_path / "rsna" / MAP).write_text(json.dumps(entries[1:]))
    with pytest.raises(LeakError, match="1 of them, a_0 first"):
        check_disjoint(load_rsna(tmp_path / "rsna"), load_nih(write_nih(tmp_path / "nih", OTHERS)))


def index_of(dataset: str, root: str, patients: set[int]) -> Index:
    films = tuple(Record(f"{dataset}{p}", Path(), str(p)) for p in sorted(patients))
    return Index(dataset, Path(root), BOXED8, films)


SETS = st.sets(st.integers(1, 30), min_size=1, max_size=8)


@given(SETS, SETS, st.sampled_from(["nih", "rsna", "rsna-normal"]), st.sampled_from(["nih", "rsna", "rsna-normal"]))
def test_refused_exactly_when_a_patient_is_shared(a: set[int], b: set[int], one: str, two: str) -> None:
    first, second = index_of(one, "a", a), index_of(two, "b", b)
    if not a & b:
        check_disjoint(first, second)
        return
    with pytest.raises(LeakError) as caught:
        check_disjoint(first, second)
    assert f"{len(a & b)} patient" in str(caught.value)
    named = sorted(map(str, a & b))[:5]
    assert all(f"{p} ({one}{p}, {two}{p})" in str(caught.value) for p in named)


def test_leading_zeros_hide_no_patient() -> None:
    padded = index_of("nih", "a", {7})
    padded = replace(padded, records=(replace(padded.records[0], patient="00000007"),))
    with pytest.raises(LeakError, match="7"):
        check_disjoint(padded, index_of("rsna", "b", {7}))


def test_ids_of_unrelated_data_sets_mean_nothing_to_each_other() -> None:
    check_disjoint(index_of("mine", "a", {1}), index_of("nih", "b", {1}))
    check_disjoint(index_of("phantom", "a", {1}), index_of("phantom", "b", {1}))
    with pytest.raises(LeakError, match="1 patient on both sides"):
        check_disjoint(index_of("mine", "a", {1}), index_of("mine", "a", {1}))


@pytest.mark.skipif(not MINI.is_dir(), reason="the sample of real NIH films (nih14-mini) is not here")
def test_real_names(tmp_path: Path) -> None:
    """The second annotators' boxes of the real sample, as RSNA's label file: every film is NIH's test film."""
    with (MINI / "rsna_boxes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (tmp_path / MAP_FILES[1]).write_bytes((MINI / "rsna_boxes.csv").read_bytes())
    (tmp_path / "stage_2_train_images").mkdir()
    opacity = [r for r in rows if r["cls"] == "Lung Opacity"]
    labels = [",".join((*(r[k] for k in ("patientId", "x", "y", "width", "height")), "1")) for r in opacity]
    write_lines(tmp_path / "stage_2_train_labels.csv", ["patientId,x,y,width,height,Target", *labels])
    for row in opacity:
        (tmp_path / "stage_2_train_images" / f"{row['patientId']}.dcm").touch()
    rsna, nih = load_rsna(tmp_path), load_nih(MINI)
    assert rsna.box_count == len(opacity)
    assert set(rsna.patients) <= set(nih.split("test").patients)
    with pytest.raises(LeakError, match="patients on both sides"):
        check_disjoint(rsna, nih)
    check_disjoint(rsna, nih.split("train"))


NIH_RUN = (("00000001_000.png", "1", "train"), ("00000002_000.png", "2", "val"))
RSNA_RUN = (("a_0", "1", "train"), ("d_0", "40", "val"))
UNMAPPED = (("a_0", "a_0", "train"), ("d_0", "d_0", "val"))


def learned_from(dataset: str, films: tuple[tuple[str, str, str], ...], **hashes: str) -> Index:
    records = tuple(Record(image, Path(), patient, part) for image, patient, part in films)
    return Index(dataset, Path("run"), BOXED8, records, hashes={k.replace("_", "."): v for k, v in hashes.items()})


@pytest.mark.parametrize("split", ["train", "val", "test", "all", ""])
def test_a_run_of_one_is_refused_films_of_the_other(split: str, tmp_path: Path) -> None:
    nih, rsna = load_nih(write_nih(tmp_path / "nih", SAME)), load_rsna(write_rsna(tmp_path / "rsna"))
    with pytest.raises(
        LeakError, match=r"run and .*nih: 1 patient on both sides: 1 \(a_0, 00000001_007.png\).*--unseen"
    ):
        check_unseen(learned_from("rsna", RSNA_RUN), nih, split=split)
    with pytest.raises(LeakError, match="1 patient on both sides"):
        check_unseen(learned_from("rsna-normal", RSNA_RUN), nih, split=split)
    with pytest.raises(LeakError, match=r"2 patients on both sides: 1 \(00000001_000.png, a_0\); 2 "):
        check_unseen(learned_from("nih", NIH_RUN), rsna, split=split)
    others = load_nih(write_nih(tmp_path / "others", OTHERS))
    assert check_unseen(learned_from("rsna", RSNA_RUN), others, split=split) == ""


def test_films_that_chose_the_checkpoint_count_between_the_two(tmp_path: Path) -> None:
    films = load_nih(write_nih(tmp_path / "nih", (Film("00000040_000.png", "40", "test"),)))
    with pytest.raises(LeakError, match=r"40 \(d_0, 00000040_000.png\)"):
        check_unseen(learned_from("rsna", RSNA_RUN), films, split="test")


def test_without_a_map_it_is_told_and_a_map_elsewhere_settles_it(tmp_path: Path) -> None:
    nih, run = load_nih(write_nih(tmp_path / "nih", SAME)), learned_from("rsna", UNMAPPED)
    with pytest.warns(LeakWarning, match=rf"not checked for leakage: .*2 of them .*Give RSNA's {MAP} with --rsna-map"):
        told = check_unseen(run, nih, split="test")
    assert told.startswith("not checked for leakage")
    write_rsna(tmp_path / "rsna")
    with pytest.raises(LeakError, match=r"1 \(a_0, 00000001_007.png\)"):
        check_unseen(run, nih, split="test", names=tmp_path / "rsna" / MAP)
    others = load_nih(write_nih(tmp_path / "others", OTHERS))
    assert check_unseen(run, others, split="test", names=tmp_path / "rsna" / MAP) == ""
    (tmp_path / "rsna" / MAP).unlink()
    with pytest.warns(LeakWarning, match="5 of them are in no map"):
        check_unseen(learned_from("nih", NIH_RUN), load_rsna(tmp_path / "rsna"), split="all")


def test_a_map_that_lacks_films_still_refuses_those_that_it_has(tmp_path: Path) -> None:
    half = learned_from("rsna", (*RSNA_RUN[:1], *UNMAPPED[1:]))
    with pytest.raises(LeakError, match="1 patient on both sides"):
        check_unseen(half, load_nih(write_nih(tmp_path / "nih", SAME)), split="test")
    with pytest.warns(LeakWarning, match="1 of them are in no map"):
        check_unseen(half, load_nih(write_nih(tmp_path / "others", OTHERS)), split="test")


def test_a_run_that_does_not_list_its_films_is_told_where_it_matters(tmp_path: Path) -> None:
    nih = load_nih(write_nih(tmp_path / "nih", SAME))
    with pytest.warns(LeakWarning, match=r"the run does not list its\. Train it again"):
        check_unseen(learned_from("rsna", ()), nih, split="test")
    assert check_unseen(learned_from("nih", ()), nih, split="test") == ""
    assert check_unseen(learned_from("nih", ()), nih, split="val") == ""
    assert not seen_films(learned_from("nih", ()), nih).any()


FIVE = index_of("nih", "a", {1, 2, 3, 4, 5})


@pytest.mark.parametrize(
    ("split", "count", "warned"),
    [("test", 2, True), ("val", 1, True), ("train", 2, False), ("all", 2, False), ("", 2, False)],
)
def test_the_same_data_set_is_a_warning_with_the_count(split: str, count: int, warned: bool) -> None:
    """Films that chose the checkpoint are val by right, and test films never are."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        told = check_unseen(learned_from("nih", NIH_RUN), FIVE, split=split)
    assert told == f"{count} of 5 films are of patients that the run learned from"
    assert [w.category for w in caught] == [LeakWarning] * warned
    assert not warned or "--unseen" in str(caught[0].message)


def test_rsnas_own_films_are_known_by_name_with_or_without_the_map(tmp_path: Path) -> None:
    rsna = load_rsna(write_rsna(tmp_path))
    assert seen_films(learned_from("rsna", UNMAPPED), rsna).tolist() == [True, False, False, False, True]
    # With the map the patient's other film is known too.
    assert seen_films(learned_from("rsna-normal", RSNA_RUN), rsna).tolist() == [True, True, False, False, True]


def test_phantoms_are_the_same_by_their_description_and_folders_by_name() -> None:
    run = (("phantom1", "1", "train"), ("phantom9", "9", "val"))
    films = index_of("phantom", "a", {1, 2})
    for mark, seen in (("same", [True, False]), ("other", [False, False])):
        here = replace(films, hashes={"phantom.json": "same"})
        assert seen_films(learned_from("phantom", run, phantom_json=mark), here).tolist() == seen
    assert seen_films(learned_from("mine", run), index_of("mine", "b", {1, 2})).tolist() == [True, False]
    assert not seen_films(learned_from("mine", run), index_of("yours", "b", {1, 2})).any()
    assert not seen_films(learned_from("phantom", run), FIVE).any()


@given(SETS, SETS)
def test_what_is_seen_is_exactly_the_shared_patients(a: set[int], b: set[int]) -> None:
    run = replace(index_of("nih", "run", a), root=Path("run"))
    films = index_of("rsna", "b", b)
    assert seen_films(run, films).tolist() == [p in a for p in sorted(b)]
    rest = films.subset([i for i, p in enumerate(sorted(b)) if p not in a])
    assert check_unseen(run, rest, split="test") == ""
