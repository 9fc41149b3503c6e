import base64
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from drawn import result, results_of

from cxrlocus.data.records import Dropped
from cxrlocus.errors import ConfigError
from cxrlocus.report import Entry, write_report
from cxrlocus.report.page import headlines, render
from cxrlocus.report.tables import accuracy_table, number

ABOUT = {"seed": "7", "machine": "two cores"}
VOID = {"meta", "img", "input", "image", "rect", "br", "use"}


class Page(HTMLParser):
    """Tags with their attributes, text, and whether every tag is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text, self.cells = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th", "p", "li", "h4", "dd"):
            self.cells.append("")

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.cells:
            self.cells[-1] += data


@pytest.fixture
def text(index, entries):
    return render(index, entries, ABOUT)


def test_page_is_written_whole_and_well_formed(tmp_path, index, entries, text):
    page = write_report(tmp_path / "deep" / "down", index=index, entries=entries, about=ABOUT)
    assert page == tmp_path / "deep" / "down" / "report.html"
    assert page.read_text(encoding="utf-8") == text
    assert [p.name for p in page.parent.iterdir()] == ["report.html"]
    assert Page(text).open == []
    assert len(text) < 1_000_000


def test_nothing_outside_the_page_is_referenced(text):
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed")
        for name in ("src", "href", "srcset", "poster", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/", "#")), (tag, value)
    assert "url(" not in text
    assert "@import" not in text
    for uri in re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", text):
        drawn = base64.b64decode(uri).decode()
        assert not re.search(r"""(href|src)\s*=\s*["']\s*(https?:)?//""", drawn)


def test_every_link_within_the_page_leads_somewhere(text):
    page = Page(text)
    ids = {a["id"] for _, a in page.tags if "id" in a}
    links = {a["href"][1:] for tag, a in page.tags if tag == "a"}
    assert links
    assert links <= ids
    assert {a["for"] for tag, a in page.tags if tag == "label"} <= ids


def test_each_result_stands_in_the_page_with_all_its_digits(text, entries):
    titles = [a["title"] for tag, a in Page(text).tags if tag == "td" and "title" in a]
    for r in (r for e in entries for r in e.results if not math.isnan(r.value)):
        assert any(t.startswith(f"{r.value}, 95 % interval [") and t.endswith(f"n = {r.n}") for t in titles), r


def test_the_first_table_shows_the_results_at_three_tenths(text, entries):
    first = text[text.index('id="numbers"') : text.index("Average false positives at")]
    shown = re.findall(r'<td class="num(?: best)?" title="([0-9.]+), [^"]*">([0-9.]+)', first)
    made = [r.value for e in entries for r in e.results if r.quantity == "accuracy_iou" and r.threshold == 0.3]
    assert [float(v) for v, _ in shown] == made
    assert [v for _, v in shown] == [number(v) for v in made]


def test_the_headline_compares_with_the_best_control_that_is_no_oracle(text, entries):
    results = [r for e in entries for r in e.results]
    [headline] = headlines(accuracy_table(results, 0.3, {"centre_box", "oracle_box"}))
    assert headline.control is not None
    assert headline.control[0].method == "centre_box"
    assert headline.ahead
    top = text[: text.index('id="numbers"')]
    assert number(headline.cell.value) in top
    assert "centre box: " + number(headline.control[1].value) in top


def test_a_method_below_its_control_is_said_to_be(index, entries):
    worse = replace(entries[0], results=results_of("cam", 0.2))
    assert "Not above" in render(index, [worse, *entries[1:]], ABOUT)
    assert "No control was measured" in render(index, [worse], ABOUT)


def test_undefined_is_a_dash_with_its_n_and_never_nan(text):
    assert '<td class="num" title="undefined, n = 0">–</td>' in text  # noqa: RUF001 (the dash that is shown)
    seen = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"\bnan\b", seen, flags=re.IGNORECASE)


def test_the_gallery_shows_best_median_and_worst_in_their_places(text):
    gallery = text[text.index('class="gallery"') :]
    shown = re.findall(r'aria-label="(\w[\w ]*): (film\d\.png), Mass"', gallery)
    assert shown == [
        ("best", "film0.png"), ("median", "film1.png"), ("worst", "film3.png"),
        ("nothing found", "film3.png"), ("nothing found", "film4.png"),
    ]  # fmt: skip
    assert "2 of 6 pairs" in gallery
    first = gallery[: gallery.index("</figure>")]
    assert 'viewBox="0 0 200.0 200.0"' in first
    assert first.count('class="truth" x="40.0" y="40.0" width="80.0" height="80.0"') == 1


def test_an_unreadable_film_is_a_tile_with_its_reason(text):
    median = text[text.index('aria-label="median') :]
    median = median[: median.index("</figure>")]
    assert "This film cannot be read: " in median
    assert '<image class="film"' not in median
    assert 'class="unreadable"' in median


def test_names_are_escaped_wherever_they_come_from(index, entries):
    bad = '<script>alert("x")</script>'
    records = tuple(replace(r, image=f"{bad}{k}") for k, r in enumerate(index.records))
    named = replace(index, records=records, dataset=bad, hashes={bad: bad}, dropped=(Dropped(bad, bad),))
    first = entries[0]
    renamed = replace(
        first,
        predictions=replace(first.predictions, images=named.images, meta={"method": bad, bad: bad}),
        detections=replace(first.detections, images=named.images),
        results=results_of(bad, 0.5, note=bad),
    )
    text = render(named, [renamed], {bad: bad})
    assert "<script" not in text
    assert text.count("&lt;script&gt;") > 10
    assert Page(text).open == []


def test_controls_say_what_they_know_and_oracles_are_marked(text):
    assert "knows nothing" in text
    row = text[text.index("oracle box") :]
    assert 'class="tag">oracle' in row[: row.index("</th>")]


def test_what_was_run_is_on_the_page(text, index):
    for said in ("two cores", index.hash, "c0ffee", "one: a, b", "7 films of 7 patients, 6 true boxes"):
        assert said in text
    assert str(index.root) not in text


def test_what_is_not_shown_is_said(index, entries):
    named = replace(index, dropped=(Dropped("gone.png", "the file is missing"),))
    page = " ".join(Page(render(named, entries, ABOUT)).cells)
    assert "1 × the file is missing" in page  # noqa: RUF001 (the sign that is shown)
    assert "gone.png the file is missing" in page
    assert "No box of Nodule or Pleural Thickening" in page
    assert "Nodule is either on all films or on none" in page


def test_published_numbers_stand_beside_results_on_nih_alone(index, entries, text):
    assert "wang2017" not in text
    nih = render(replace(index, dataset="nih"), entries, ABOUT)
    assert "arXiv:1705.02315" in nih
    assert "for orientation" in nih
    assert "0.2444" in nih


def test_boxes_alone_make_a_page(index, entries):
    text = render(index, [replace(entries[0], predictions=None)], {})
    assert "best" in text
    assert 'class="map"' not in text


def test_controls_alone_make_a_page(index, entries):
    text = render(index, entries[1:], {})
    assert "Films are shown for methods, and there is none here." in text


def test_an_entry_without_results_or_boxes_makes_a_page(index, found):
    nothing = replace(found, image=[], finding=[], xyxy=[], score=[])
    text = render(index, [Entry(None, nothing, [], is_control=False)], {})
    assert "There are no Results of this quantity." in text
    assert "6 of 6 pairs" in text


def test_a_missing_threshold_is_replaced_by_the_nearest_that_was_measured(index, entries):
    only = replace(entries[0], results=[result("cam", "mean", 0.5, threshold=0.25)])
    assert "Accuracy at IoU &gt; 0.25" in render(index, [only], {})


def test_no_entries_are_an_error(tmp_path, index):
    with pytest.raises(ConfigError, match="entries must hold a method or a control; got none"):
        write_report(tmp_path, index=index, entries=[], about={})
    assert not (tmp_path / "report.html").exists()


def test_a_folder_that_cannot_be_made_is_one_line_and_leaves_nothing(tmp_path, index, entries):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"report\.html: cannot be written .*Make room") as caught:
        write_report(tmp_path / "file", index=index, entries=entries, about={})
    assert "\n" not in str(caught.value)
