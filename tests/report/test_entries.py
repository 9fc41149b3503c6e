"""Names on the page: what tells entries apart, and what does not."""

from dataclasses import replace

from drawn import result, results_of

from cxrlocus.report.entries import Entry, column_names, distinct


def trained(entry, base=0.5, **meta):
    predictions = replace(entry.predictions, meta={**entry.predictions.meta, **meta})
    return replace(entry, predictions=predictions, results=results_of("cam", base))


def labels(*entries):
    return [e.label for e in distinct(entries)]


def test_seeds_tell_trainings_apart_even_where_their_numbers_do_not(entries):
    zero, one = (trained(entries[0], seed=k) for k in (0, 1))
    assert labels(zero, one) == ["cam (seed 0)", "cam (seed 1)"]
    assert labels(one, zero, *entries[1:]) == ["cam (seed 1)", "cam (seed 0)", "centre_box", "oracle_box"]
    assert labels(zero) == ["cam"]


def test_options_tell_trainings_apart(entries):
    runs = [trained(entries[0], seed=0, config={"alpha": a, "lr": 0.1}) for a in (0.1, 0.2)]
    other = trained(entries[0], seed=1, config={"alpha": 0.1, "lr": 0.1})
    assert labels(*runs) == ["cam (alpha=0.1)", "cam (alpha=0.2)"]
    assert labels(*runs, other) == ["cam (alpha=0.1, seed 0)", "cam (alpha=0.2, seed 0)", "cam (alpha=0.1, seed 1)"]


def test_runs_that_differ_in_much_are_called_by_their_preset(entries):
    config = dict.fromkeys("abcdefg", 1)
    cpu = trained(entries[0], seed=0, preset="cpu", config=config)
    paper = trained(entries[0], seed=0, preset="paper", config=dict.fromkeys(config, 2))
    assert labels(cpu, paper) == ["cam (preset=cpu)", "cam (preset=paper)"]


def test_what_nothing_tells_apart_is_numbered(entries):
    one, same, third = entries[0], replace(entries[0], results=results_of("cam", 0.4)), trained(entries[0], seed=9)
    assert labels(one, same) == ["cam", "cam (run 2)"]
    assert labels(one, third, same) == ["cam (seed 7)", "cam (seed 9)", "cam (seed 7 run 2)"]
    boxes = replace(one, predictions=None)
    assert labels(boxes, boxes, boxes) == ["cam", "cam (run 2)", "cam (run 3)"]


def test_another_policy_or_protocol_is_the_same_method(entries):
    rows = [result("cam", "mean", 0.5, policy=k) for k in ("fixed", "oracle")]
    other = result("cam", "mean", 0.5, protocol="infomask2019", quantity="iop", policy="oracle")
    three = [replace(entries[0], results=[r]) for r in (*rows, other)]
    assert labels(*three) == ["cam"] * 3
    assert column_names(three) == ["cam, fixed", "cam, oracle, 1", "cam, oracle, 2"]


def test_telling_apart_twice_changes_nothing(entries):
    once = distinct([trained(entries[0], seed=k) for k in (0, 1, 1)] + entries[1:])
    assert distinct(once) == once
    names = column_names(once)
    assert len(set(names)) == len(names)


def test_the_rows_carry_the_names(entries):
    zero, one = distinct([trained(entries[0], seed=0), trained(entries[0], seed=1, variant="v")])
    assert {r.variant for r in zero.results} == {"seed 0"}
    bare = [[repr(replace(r, variant="")) for r in e.results] for e in (zero, one)]
    assert bare[0] == bare[1] == [repr(r) for r in results_of("cam", 0.5)]


def test_films_looked_at_are_those_of_boxes_else_of_maps_else_unknown(entries, found):
    few = replace(found, images=found.images[:1], image=[], finding=[], xyxy=[], score=[])
    assert replace(entries[0], detections=few).looked_at == ("film0.png",)
    assert replace(entries[0], detections=None).looked_at == entries[0].predictions.images
    assert Entry(None, None, [], is_control=True).looked_at is None
