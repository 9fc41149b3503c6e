"""Masks on the page: which films, whose masks, cut where; every number is one that was measured."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from drawn import FINDINGS, SIDE, detections_of
from PIL import Image
from test_page import Page

from cxrlocus.data.records import TruthBox
from cxrlocus.prediction.panels import Panels
from cxrlocus.protocols.infomask2019 import infomask2019
from cxrlocus.protocols.masks import Masking, measure_masks
from cxrlocus.protocols.shared import RunLabel
from cxrlocus.regions.maps import to_film
from cxrlocus.report import Entry
from cxrlocus.report.masks import MOST_PANEL_ROWS, choose_films, masks_section
from cxrlocus.report.page import mask_headlines, render
from cxrlocus.report.pictures import MAP_COLOUR, RAMP

TRUTH = (40.0, 40.0, 120.0, 120.0)


def picture(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))))


def measured(found, index, name, policy="fixed", is_control=False, variant=""):
    """An entry as `report` makes it of maps or boxes measured on pixels alone."""
    sizes = np.full((len(index), 2), SIDE)
    masking = Masking(policy, raster=50)
    films = measure_masks(found, index, masking, sizes)
    label = RunLabel(name, variant, index.dataset, policy, "knows nothing" if is_control else "")
    rows = infomask2019(found, index, label=label, resamples=20, sizes=sizes, measures=films)
    boxes = found if hasattr(found, "xyxy") else None
    return Entry(None if boxes is not None else found, boxes, rows, is_control, films)


@pytest.fixture
def masked(predictions):
    """Masks that are the box's upper k/5 on film k, with a strip outside that is the wider the smaller k."""
    maps = np.zeros((7, 3, 50, 50), np.float16)
    for k in range(7):
        maps[k, 0, 10 : 10 + 4 * k, 10:30] = 0.5
        maps[k, 0, 40:, : 20 - 2 * k] = 0.25 * (k > 0)
    return replace(predictions, maps=maps, kind="mask", meta={**predictions.meta, "method": "info"})


@pytest.fixture
def whole(index, masked, found):
    """Two methods and two controls, measured on pixels alone."""
    middle = detections_of(index, [(k, (50, 50, 150, 150), 1.0) for k in range(7)])
    noise = replace(masked, maps=np.random.default_rng(0).random((7, 3, 8, 8)), kind="probability")
    return [
        measured(masked, index, "info_mask"),
        measured(found, index, "by hand"),
        measured(middle, index, "centre_box", is_control=True),
        replace(measured(noise, index, "random_map", is_control=True), predictions=None),
    ]


def test_films_are_those_of_best_median_and_worst_iop(index, masked):
    films = measured(masked, index, "m").films
    by_name = dict(zip(films.image, films.iop, strict=True))
    assert np.isnan(by_name["film0.png"])
    rated = sorted((f for f in by_name if f != "film0.png"), key=lambda f: -by_name[f])
    assert choose_films(films, 0, index) == [("best", rated[0]), ("median", rated[2]), ("worst", rated[-1])]
    assert rated[0] == "film5.png"


def test_equal_films_stand_by_name_and_empty_masks_fill_up(index, masked):
    films = measured(masked, index, "m").films
    same = replace(films, iop=np.full(6, 0.5))
    assert [image for _, image in choose_films(same, 0, index)] == ["film0.png", "film2.png", "film5.png"]
    turned = replace(
        same, **{k: getattr(same, k)[::-1] for k in ("image", "film", "finding", "seen", "level", "iop", "fpr", "fnr")}
    )
    assert choose_films(turned, 0, index) == choose_films(same, 0, index)
    one = replace(films, iop=np.array([np.nan, np.nan, 0.5, np.nan, np.nan, np.nan]))
    assert choose_films(one, 0, index) == [("best", "film2.png"), ("no IoP", "film0.png"), ("no IoP", "film1.png")]
    none = replace(films, iop=np.full(6, np.nan))
    assert [caption for caption, _ in choose_films(none, 0, index)] == ["no IoP"] * 3
    assert choose_films(films, 1, index) == []
    assert choose_films(films, 0, index.subset([6])) == []


def test_a_grid_has_a_column_a_method_and_what_was_measured_below_each(index, whole):
    section = masks_section(whole, index)
    (mass,) = section.findings
    assert (mass.finding, mass.columns) == ("Mass", ["info_mask", "by hand"])
    for row in mass.rows:
        assert row.drawn.truth.tolist() == [list(TRUTH)]
        assert (row.drawn.width, row.drawn.height) == (SIDE, SIDE)
        for tile, entry in zip(row.tiles, whole, strict=False):
            b = entry.films.image.index(row.drawn.image)
            want = [getattr(entry.films, name)[b] for name in ("iop", "fpr", "fnr")]
            assert [tile.iop, tile.fpr, tile.fnr] == pytest.approx(want, nan_ok=True)
    assert [t.said for t in mass.rows[0].tiles] == ["map > 0", "boxes filled"]


def test_a_tile_is_the_mask_that_was_measured(index, whole):
    for row in masks_section(whole, index).findings[0].rows:
        for tile, entry in zip(row.tiles, whole, strict=False):
            drawn = picture(tile.mask)[..., 3] > 0
            assert drawn.shape == (50, 50)
            assert (picture(tile.mask)[0, 0, :3] == MAP_COLOUR).all()
            true = np.zeros((50, 50), bool)
            true[10:30, 10:30] = True
            b = entry.films.image.index(row.drawn.image)
            assert (drawn & true).sum() / drawn.sum() == pytest.approx(entry.films.iop[b])
            assert 1 - (drawn & true).sum() / true.sum() == pytest.approx(entry.films.fnr[b])


def first_films(predictions, n):
    arrays = {name: getattr(predictions, name)[:n] for name in ("images", "prob", "maps", "frames", "sizes")}
    return replace(predictions, **arrays)


def test_what_has_no_mask_says_why(index, masked):
    late = measured(first_films(masked, 3), index, "late")
    other = measured(first_films(masked, 4), index.subset([0, 1, 2, 3]), "other")

    def tiles(**films):
        first = replace(late, films=replace(late.films, **films))
        return {r.drawn.image: r.tiles for r in masks_section([first, other], index).findings[0].rows}

    assert (tiles()["film0.png"][0].said, tiles()["film0.png"][0].mask) == ("map > 0: an empty mask", "")
    last = tiles(iop=np.arange(6) / 10)["film5.png"]
    assert last[0].said == "not predicted: an empty mask"
    assert (last[1].said, last[1].is_measured) == ("not measured on this film", False)
    unchosen = tiles(level=np.full(6, np.nan))
    assert unchosen["film0.png"][0].said == "no level: no boxes of other patients to choose it by"
    boxes = measured(detections_of(index, []), index, "hand")
    assert masks_section([boxes], index).findings[0].rows[0].tiles[0].said == "no box"


def test_a_page_of_pixels_alone_stands_and_holds_every_number(index, whole):
    text = render(index, whole, {})
    page = Page(text)
    assert page.open == []
    assert "There are no Results of this quantity." not in text
    assert "No method here has a mean accuracy" not in text
    assert "Boxes of maps were not asked for" in render(index, [whole[0], *whole[2:]], {})
    titles = [a["title"] for tag, a in page.tags if tag == "td" and "title" in a]
    for r in (r for e in whole for r in e.results if not np.isnan(r.value)):
        assert any(t.startswith(f"{r.value}, 95 % interval [") for t in titles), r
    spans = {a["title"] for tag, a in page.tags if tag == "span" and "title" in a}
    shown = {str(v) for e in whole[:2] for k in ("iop", "fpr", "fnr") for v in getattr(e.films, k)} | {"undefined"}
    assert spans
    assert spans <= shown
    assert text.count("info mask (IoP n = 5, 1 undefined; FPR FNR n = 6)") == 0  # it stands in the picture
    drawn = "".join(base64.b64decode(u).decode() for u in re.findall(r"svg\+xml;base64,([A-Za-z0-9+/=]+)", text))
    assert "info mask (IoP n = 5, 1 undefined; FPR FNR n = 6)" in drawn
    assert "random map (n = 6)" in drawn
    assert 'href="#masks"' in text


def test_a_films_pixels_stand_once_in_each_row(index, whole):
    text = render(index, whole, {})
    section = text[text.index('id="masks"') : text.index('id="films"')]
    pictures, again = (
        re.findall(r'id="(masks-[\d-]+)"', section),
        re.findall(r'<use class="film" href="#([^"]+)"', section),
    )
    assert len(set(pictures)) == len(pictures)
    assert set(again) <= set(pictures)
    assert len(again) >= 1
    assert "This film cannot be read: " in section or all("film1.png" not in t for t in section.split("</h4>"))


def test_headlines_of_masks_stand_beside_the_best_control(index, whole):
    results = [r for e in whole for r in e.results]
    controls = {"centre_box", "random_map"}
    one, other = mask_headlines(results, frozenset(controls))
    assert (one.row.method, other.row.method) == ("info_mask", "by hand")
    assert [c.quantity for c in one.cells] == ["iop", "fpr", "fnr", "mask_area"]
    assert {c.finding for c in one.cells} == {"mean"}
    means = {r.method: r.value for r in results if r.quantity == "iop" and r.finding == "mean"}
    assert one.control is not None
    assert one.control[0].method == max(controls, key=means.get)
    assert mask_headlines([], frozenset()) == []


def test_two_seeds_are_two_columns(index, masked):
    seeds = [measured(replace(masked, meta={**masked.meta, "seed": k}), index, "info") for k in (0, 1)]
    text = render(index, seeds, {})
    section = text[text.index('id="masks"') :]
    for name in ("info (seed 0)", "info (seed 1)"):
        assert f"<figcaption><b>{name}</b>" in section
        assert f'<th scope="row">{name}' in text
        assert f'<p class="what">{name}' in text


def test_findings_that_no_method_knows_are_told_and_have_no_column(index, masked):
    more = replace(index.records[0], boxes=(*index.records[0].boxes, TruthBox("Nodule", (0, 0, 9, 9))))
    wider = replace(index, records=(more, *index.records[1:]))
    alone = replace(masked, findings=type(FINDINGS)(("Mass",)), prob=masked.prob[:, :1], maps=masked.maps[:, :1])
    text = render(wider, [measured(alone, wider, "info")], {})
    assert "No mask of Nodule was measured" in text
    assert 'title="Nodule"' not in text[text.index('id="numbers"') : text.index('id="curves"')]
    assert "No mask of" not in render(index, [measured(masked, index, "info")], {})


def panels_of(masked, pairs):
    values = np.random.default_rng(0).normal(size=(len(pairs), 2, 20, 20)).astype(np.float16)
    return Panels(tuple(p[0] for p in pairs), tuple(p[1] for p in pairs), ("attention A", "mean mu"), values)


def test_panels_are_drawn_with_their_raw_range_and_the_map_beside_them(index, masked):
    panels = panels_of(masked, [("film2.png", "Mass"), ("film1.png", "Mass"), ("gone.png", "Mass")])
    entry = replace(measured(masked, index, "info"), panels=panels)
    (shown,) = masks_section([entry], index).panels
    assert (shown.label, shown.kept, [d.image for d, _ in shown.rows]) == ("info", 3, ["film2.png", "film1.png"])
    (drawn, three), (broken, _) = shown.rows
    assert [p.name for p in three] == ["attention A", "mean mu", "mask M"]
    assert (three[2].low, three[2].high) == (0.0, 0.5)
    assert drawn.truth.tolist() == [list(TRUTH)]
    assert broken.film == ""
    assert broken.reason
    grid, _ = to_film(panels.values[0, 0].astype(np.float32), masked.frames[2], (SIDE, SIDE), 96)
    assert (three[0].low, three[0].high) == pytest.approx((grid.min(), grid.max()))
    pixels = picture(three[0].picture)
    assert tuple(pixels[np.unravel_index(grid.argmin(), grid.shape)][:3]) == RAMP[0]
    assert tuple(pixels[np.unravel_index(grid.argmax(), grid.shape)][:3]) == RAMP[-1]
    text = render(index, [entry], {})
    assert Page(text).open == []
    section = text[text.index("What stands behind the masks") :]
    assert f"<span>{three[1].low:.3g}</span><i></i><span>{three[1].high:.3g}</span>" in section
    assert "2 of the 3 films kept" in section


def test_a_constant_and_a_broken_panel_say_so(index, masked):
    panels = panels_of(masked, [("film2.png", "Mass")])
    panels.values[0, 0], panels.values[0, 1, 3, 3] = 1.5, np.inf
    entry = replace(measured(masked, index, "info"), panels=panels)
    (_, three) = masks_section([entry], index).panels[0].rows[0]
    assert [(bool(p.picture), p.low) for p in three[:2]] == [(True, 1.5), (False, pytest.approx(np.nan, nan_ok=True))]
    section = render(index, [entry], {})
    assert "1.5 throughout" in section
    assert "not finite" in section


def test_panels_of_many_films_are_shown_in_turns_of_findings(index, masked):
    pairs = [(f"film{k}.png", f) for f in FINDINGS for k in range(7)]
    entry = replace(measured(masked, index, "info"), panels=panels_of(masked, pairs))
    rows = masks_section([entry], index).panels[0].rows
    assert len(rows) == MOST_PANEL_ROWS
    assert {f: sum(d.finding == f for d, _ in rows) for f in FINDINGS} == dict.fromkeys(FINDINGS, MOST_PANEL_ROWS // 3)


def test_the_colour_bar_has_the_colours_of_the_panels(index, whole):
    text = render(index, whole, {})
    assert ", ".join(f"rgb{colour}" for colour in RAMP) in text


def test_without_masks_there_is_no_section(index, entries):
    text = render(index, entries, {})
    assert 'id="masks"' not in text
    assert "#masks" not in text
