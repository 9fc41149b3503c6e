from dataclasses import replace

from cxrlocus.data.records import Dropped
from cxrlocus.report.remarks import remarks


def said(index, *detections):
    return " ".join(remarks(index, [d.images for d in detections], []))


def test_unlabelled_film_settles_whether_normals_are_measured(index):
    assert "free of all findings" not in said(index)
    assert "free of all findings" in said(index.subset(list(range(6))))


def test_labels_without_a_box_are_counted(index):
    bare = tuple(replace(r, boxes=()) if k < 2 else r for k, r in enumerate(index.records))
    assert "2 labels of boxed findings have no box" in said(replace(index, records=bare))
    assert "labels of boxed findings" not in said(index)


def test_films_that_were_not_looked_at_are_counted(index, found):
    fewer = replace(found, images=found.images[:5], image=[], finding=[], xyxy=[], score=[])
    assert "The method did not look at 2 of the 7 films" in said(index, fewer)
    assert "1 of 2 methods did not look at 2" in said(index, fewer, found)
    assert "did not look" not in said(index, found)


def test_strange_films_are_counted(index, found):
    assert "2 films were predicted on that this data set does not hold" in said(index.subset([0, 1, 2, 3, 4]), found)


def test_reasons_for_leaving_out_are_counted(index):
    dropped = (Dropped("a", "truncated"), Dropped("b", "missing"), Dropped("c", "truncated"))
    assert "3 items were left out of the data set: 2 × truncated; 1 × missing." in said(  # noqa: RUF001
        replace(index, dropped=dropped)
    )
