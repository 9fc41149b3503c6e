"""Tiny data sets on disk, in every layout that there is a loader for, written from one description of their films."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
NIH_BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
FOLDER_FINDINGS = ("Mass", "Nodule", "Effusion")


@dataclass(frozen=True)
class Film:
    """One film of a miniature; ``boxes`` are (finding, x, y, w, h) as the files give them."""

    image: str
    patient: str
    split: str | None = None
    positive: tuple[str, ...] = ()
    unknown: bool = False
    boxes: tuple[tuple[str, float, float, float, float], ...] = ()


FILMS = (
    Film("a_0.png", "1", "train", ("Mass", "Nodule")),
    Film("a_1.png", "1", "train"),
    Film("b_0.png", "2", "test", ("Effusion",), boxes=(("Effusion", 2.5, 3.0, 4.0, 5.5),)),
    Film("c_0.png", "3", "test", ("Mass",), boxes=(("Mass", 1, 1, 8, 8), ("Mass", 2, 2, 3, 3))),
    Film("d_0.png", "4", None, unknown=True),
)


def png(size: tuple[int, int] = (16, 16)) -> bytes:
    """A grey ramp."""
    file = io.BytesIO()
    ramp = np.linspace(0, 255, size[0] * size[1]).reshape(size[1], size[0]).astype(np.uint8)
    Image.fromarray(ramp).save(file, "PNG")
    return file.getvalue()


PNG = png()


def nih_row(film: Film) -> str:
    label = "" if film.unknown else "|".join(film.positive) or "No Finding"
    return f"{film.image},{label},0,{film.patient},58,M,PA,2682,2749,0.143,0.143"


def write_nih(root: Path, films: Sequence[Film] = FILMS, *, labels: str = "Data_Entry_2017_v2020.csv") -> Path:
    (root / "images").mkdir(parents=True, exist_ok=True)
    write_lines(root / labels, [NIH_HEADER, *(nih_row(f) for f in films)])
    for split, name in (("train", "train_val_list.txt"), ("test", "test_list.txt")):
        if listed := [f.image for f in films if f.split == split]:
            write_lines(root / name, listed)
    boxes = [f"{f.image},{b[0]},{b[1]},{b[2]},{b[3]},{b[4]}" for f in films for b in f.boxes]
    write_lines(root / "BBox_List_2017.csv", [NIH_BOX_HEADER, *boxes])
    for film in films:
        (root / "images" / film.image).write_bytes(PNG)
    return root


def folder_row(film: Film) -> str:
    states = ["" if film.unknown else str(int(name in film.positive)) for name in FOLDER_FINDINGS]
    return ",".join((film.image, film.patient, film.split or "", *states))


def write_folder(root: Path, films: Sequence[Film] = FILMS) -> Path:
    (root / "images").mkdir(parents=True, exist_ok=True)
    header = ",".join(("image", "patient", "split", *FOLDER_FINDINGS))
    write_lines(root / "labels.csv", [header, *map(folder_row, films)])
    boxes = [f"{f.image},{b[0]},{b[1]},{b[2]},{b[3]},{b[4]}" for f in films for b in f.boxes]
    write_lines(root / "boxes.csv", ["image,finding,x,y,w,h", *boxes])
    for film in films:
        (root / "images" / film.image).write_bytes(PNG)
    return root


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def add_line(path: Path, line: str) -> int:
    """Append a line, and return its number."""
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    return path.read_text(encoding="utf-8").count("\n")


@dataclass(frozen=True)
class Layout:
    """How a loader's layout is written, the names of its files, and the films of its miniature.

    ``box`` makes a line of the box file of a film's name and its corners; ``folder`` holds each film as its name and
    ``suffix``.
    """

    write: Callable[..., Path]
    row: Callable[[Film], str]
    label_file: str
    box_file: str
    hashed: tuple[str, ...]
    films: tuple[Film, ...] = FILMS
    box: Callable[[str, str], str] = "{},Effusion,{}".format
    folder: str = "images"
    suffix: str = ""
    content: bytes = PNG


def nih_layout(labels: str) -> Layout:
    boxes, lists = "BBox_List_2017.csv", ("train_val_list.txt", "test_list.txt")
    return Layout(partial(write_nih, labels=labels), nih_row, labels, boxes, (labels, boxes, *lists))


LAYOUTS = {
    "nih": nih_layout("Data_Entry_2017_v2020.csv"),
    "nih-2017": nih_layout("Data_Entry_2017.csv"),
    "nih-v2020": nih_layout("Data_Entry_2017_v2020.csv"),
    "folder": Layout(write_folder, folder_row, "labels.csv", "boxes.csv", ("labels.csv", "boxes.csv")),
}
