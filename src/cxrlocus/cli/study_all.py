"""``cxrlocus study all``: the methods side by side, as one page."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cxrlocus.cli.common import list_dropped, load_index, progress_bars, say
from cxrlocus.errors import ConfigError

if TYPE_CHECKING:
    from cxrlocus.data.records import Index
    from cxrlocus.protocols.result import Result
    from cxrlocus.study.compare import Comparison
    from cxrlocus.study.setup import Setup

KNOWN = {
    "fixed": (
        "Heights and levels were chosen before anything was measured: nobody's boxes. *Acc* cuts a map at two "
        "levels and keeps every region, so more boxes hit more: read the false boxes beside it."
    ),
    "validation": (
        "Heights and levels are chosen by the boxes of the other half of the patients. *Acc* has one box a map, "
        "around its peak, and *one box* is the same box."
    ),
    "oracle": (
        "The same choices by the very boxes that are measured: a bound for what is chosen by (hits at IoU > .3) "
        "under these rules of boxes, not a result."
    ),
}

PAIRS = (
    ("accuracy_iou", 0.3, "Accuracy at IoU > .3 (wang2017)"),
    ("accuracy_iou", 0.5, "Accuracy at IoU > .5 (wang2017)"),
    ("mask_dice", math.nan, "DICE of masks (cut as infomask2019 cuts them)"),
)
"""In what methods are compared pair by pair: quantity, threshold, heading."""

PRINTED = "As printed by the papers, with networks, sizes and heights of their own"

FIGURE = "policies.svg"


def run_all(args: argparse.Namespace) -> int:
    """Compare, then write page, rows and figure."""
    from cxrlocus.cli.study import UNREAD, setup_of, tell_unfinished
    from cxrlocus.files import write_text_whole
    from cxrlocus.protocols.result import write_results
    from cxrlocus.report.compare import dots_figure
    from cxrlocus.study.cells import unreadable
    from cxrlocus.study.compare import compare, compared_setup, with_consensus
    from cxrlocus.study.rows import COMPARED

    if args.policy:
        raise ConfigError("--policy: `study all` measures under each of them; leave it out.")
    setup = compared_setup(setup_of(args), COMPARED)
    index = load_index(args)
    with progress_bars() as bars:
        found = compare(index, setup, bars, COMPARED)
    list_dropped(unreadable(COMPARED, setup), UNREAD)
    # A page of another criterion stands beside the first.
    mark = setup.measure.told.removeprefix(setup.measure.policy)
    written = {"tables": setup.out / f"tables{mark}.md", "rows": setup.out / f"results{mark}.json"}
    write_results(written["rows"], [*found.results, *(d.as_result() for d in found.differences)])
    if picture := dots_figure({str(policy): rows for policy, rows in found.blocks.items()}, found.controls):
        written["figure"] = setup.out / FIGURE
        written["figure"].write_bytes(picture)
    write_text_whole(written["tables"], page(found, index, setup))
    print("\n".join(summaries(found)))
    say("; ".join(f"{what}: {path}" for what, path in written.items()))
    tell_waiting(found.missing, setup)
    tell_unfinished([cell for cell, _ in found.missing], len(with_consensus(COMPARED)) * len(setup.seeds), setup)
    return 0


def tell_waiting(missing: Sequence[tuple[str, str]], setup: Setup) -> None:
    """Say why a cell that --rows names was not begun: it waits for others, which the same command never begins."""
    from cxrlocus.study.compare import WAITS

    asked = {f"{row}-seed{seed}" for row in setup.rows for seed in setup.seeds}
    for cell, reason in missing:
        if cell in asked and reason.startswith(WAITS):
            say(f"{cell} {reason}: name these in --rows, too")


def page(found: Comparison, index: Index, setup: Setup) -> str:
    """The whole page: summary, pairs, every protocol, what papers printed, what is missing."""
    parts = [head(found, index, setup)]
    if found.blocks:
        parts += ["## The main numbers\n", *summaries(found), *_legend(), f"![methods and policies]({FIGURE})\n"]
        parts += ["## Policy against method\n", *effects_text(found)]
        parts += ["## Who is better than whom\n", *standing_text(found, setup)]
        parts += _by_protocol(found)
        parts += _printed()
    parts += ["## Missing\n", _missing(found)]
    return "\n".join(parts)


def head(found: Comparison, index: Index, setup: Setup) -> str:
    """What was trained and measured, and how to read the numbers."""
    from cxrlocus.cli.study import measured_films, spread_of, trained_line
    from cxrlocus.study.cells import learned_from
    from cxrlocus.study.rows import COMPARED

    films = " or ".join(f"{train} films, {val} more choose the epoch" for train, val in learned_from(COMPARED, setup))
    one = " (of a row that has one so far: over patients)" if len(setup.seeds) > 1 else ""
    lines = (
        f"- measured: {measured_films(index, setup)}; every row on the same films, of {setup.options['size']} px",
        f"- learned from: {films or 'nothing yet'}",
        trained_line(setup),
        "- every row is trained and predicted once a seed; the policies cut the same maps, and levels of masks "
        f"(IoP, FNR, their DICE) are chosen under validation and oracle by {setup.measure.criterion}",
        f"- intervals: 95 %; of methods {spread_of(setup)}{one}; of controls (in italics) over patients",
        "- bold: the best of the methods that have not seen the measured boxes; controls look at no film"
        f"{'; their maps have the cells of ' + found.cells if found.cells else ''}",
    )
    return "\n".join(("# Study all: the methods side by side\n", *lines, ""))


def summaries(found: Comparison) -> list[str]:
    """A table a policy: a line a method."""
    from cxrlocus.methods.baselines.controls import CONTROLS
    from cxrlocus.report.compare import summary_table

    beside = {(m.method, m.variant): (str(len(m.seeds)), m.knows) for m in found.methods}
    beside |= {(name, ""): ("", CONTROLS[name].knows) for name in found.controls}
    # What chooses nothing is measured once, under "fixed".
    once = found.blocks.get("fixed", [])
    out = []
    for policy, results in found.blocks.items():
        table = summary_table(
            [*results, *once], found.controls, beside, ("seeds", "knows beyond labels"), bold=policy != "oracle"
        )
        out += [f"### Policy {policy}\n", f"{KNOWN[policy]}\n", f"{table}\n"]
    return out


def _legend() -> list[str]:
    return [
        "Means over the findings that have boxes. *Acc*: true boxes that a box of the map overlaps by so much "
        "(wang2017), with the *false boxes* of a finding for each true box of any; *capped*: three boxes a film read "
        "until Wang et al.'s false positives are reached (cai2018); *one box*: around the peak (kim2021). *DICE* of "
        "maps as probabilities, logits through a sigmoid (yao2018; no policy acts on it, and size alone earns it: see "
        "the controls). *IoP* and *FNR* of masks (infomask2019) are read together. *MaxBoxAccV2*, any box of the "
        "map, *pointing* game, *nothing found*: boxed films without a box that meets a true one, less is better "
        "(modern). *AUROC* of the labels on the measured films: where none of them is normal, of one finding "
        "among others.\n"
    ]


def effects_text(found: Comparison) -> list[str]:
    """By how much numbers move with method, policy and seed: among all rows, and among those that localize."""
    from cxrlocus.report.effects import above_controls, effects_table

    out = [
        "Mean absolute differences: of two methods under one policy, each its mean over seeds; of one method under two "
        "policies; of two seeds of one method under one policy. Then Spearman's correlation of the methods' orders, "
        "the best first: under two policies, and of this quantity with the first, under validation. Where no policy "
        "acts on a quantity stands .000 or a dash.\n"
    ]
    first = found.methods[0]
    controls = [r for r in found.blocks["validation"] if r.method in found.controls]
    above = above_controls(found.seeds["validation"], controls)
    localizing = [m.name for m in found.methods if m.name in above and m.knows == first.knows]
    as_much = (
        f"Rows that know no more than {first.name} and are above every control but the oracle's under validation, "
        "with each seed"
    )
    groups = {"All rows": [m.name for m in found.methods], as_much: localizing}
    for title, names in groups.items():
        out += [f"### {title} ({len(names)})\n"]
        out += [f"{effects_table(found.seeds, names)}\n"] if len(names) > 1 else [f"{', '.join(names) or 'None'}.\n"]
    return out


def standing_text(found: Comparison, setup: Setup) -> list[str]:
    """Pairs in words: what "better" means, then a table a quantity."""
    from cxrlocus.study.compare import PAIRED_UNDER
    from cxrlocus.study.standing import of_mean, standing_table, standings

    seeds = sorted({len(m.seeds) for m in found.methods})
    many = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    out = [
        f"Means over findings under policy {PAIRED_UNDER}, each method over its {many} "
        f"{'seed' if seeds[-1] == 1 else 'seeds'}. *Better* means that the 95 % interval of the difference, over "
        f"{setup.measure.resamples} resamples of the patients drawn for both alike, excludes 0: other films of this "
        "kind would very likely agree. It says nothing of trainings with other seeds, nor of other data, and nothing "
        "is corrected for the number of pairs.\n"
    ]
    for quantity, threshold, title in PAIRS:
        pairs = of_mean(found.differences, quantity, threshold)
        if pairs:
            table = standing_table(standings(pairs, quantity, threshold, found.controls), found.controls)
            decided = sum(bool(d.verdict) for d in pairs)
            chance = f"if none differed, about {len(pairs) / 20:.0f} would be by chance"
            told = f"{decided} of {len(pairs)} pairs are decided; {chance}."
            out += [f"### {title}\n", f"{table}\n", f"{told}\n"]
    return out


def _by_protocol(found: Comparison) -> list[str]:
    """Every protocol's tables, a section a policy; what chooses nothing stands once."""
    from cxrlocus.cli.evaluate import tables
    from cxrlocus.study.compare import ALL_PROTOCOLS

    out = []
    for protocol in ALL_PROTOCOLS:
        out.append(f"## Protocol {protocol}\n")
        for policy, results in found.blocks.items():
            rows = [r for r in results if r.protocol == protocol and _stands(r, protocol, policy)]
            if any(r.method not in found.controls for r in rows):
                drawn = tables(rows, found.controls, markdown=True)
                out += [f"### {protocol}, policy {policy}\n", *(t.replace("### ", "#### ", 1) for t in drawn)]
    return out


def _stands(r: Result, protocol: str, policy: str) -> bool:
    """Whether the page shows a row here: labels once, and of yao2018's nine taus the middle one."""
    if r.quantity in ("auroc", "accuracy"):
        return policy == "fixed" and protocol == ("wang2017" if r.quantity == "auroc" else "infomask2019")
    if protocol == "yao2018" and r.detail.startswith("tau="):
        return r.detail == "tau=0.5"
    # Of pixels and peaks nothing is chosen; their rows are the same in every block.
    return policy == "fixed" or r.quantity not in ("pxap", "pointing")


def _printed() -> list[str]:
    from cxrlocus.cli.evaluate import tables
    from cxrlocus.report.published import published_results

    drawn = tables(published_results(), frozenset(), markdown=True)
    return [f"## {PRINTED}\n", *drawn]


def _missing(found: Comparison) -> str:
    if not found.missing:
        return "Nothing: every row has every seed.\n"
    return "\n".join([*(f"- {cell}: {reason}" for cell, reason in found.missing), ""])
