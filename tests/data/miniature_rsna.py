"""A tiny RSNA Pneumonia Detection Challenge on disk, with real DICOM films."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from miniature import Film, Layout, write_lines
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEGBaseline8Bit, SecondaryCaptureImageStorage

LABELS = "stage_2_train_labels.csv"
CLASSES = "stage_2_detailed_class_info.csv"
MAP = "pneumonia-challenge-dataset-mappings_2018.json"
FOLDER = "stage_2_train_images"
LISTS = {"train": "train_list.txt", "val": "val_list.txt", "test": "test_list.txt"}

RSNA_FILMS = (
    Film("a_0", "1", "train"),
    Film("a_1", "1", "train"),
    Film("b_0", "2", "test", ("Pneumonia",), boxes=(("Pneumonia", 2.5, 3.0, 4.0, 5.5),)),
    Film("c_0", "3", "test", ("Pneumonia",), boxes=(("Pneumonia", 1, 1, 8, 8), ("Pneumonia", 2, 2, 3, 3))),
    Film("d_0", "40", "val"),
)


def dicom(patient: str = "film", size: int = 32) -> bytes:
    """A film as RSNA stores it: 8 bits, JPEG baseline, a secondary capture whose PatientID is the film's own id.

    Grey grows from left to right and does not change from top to bottom.
    """
    jpeg = io.BytesIO()
    ramp = np.tile(np.linspace(0, 255, size).astype(np.uint8), (size, 1))
    Image.fromarray(ramp).save(jpeg, "JPEG", quality=95)
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = SecondaryCaptureImageStorage
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = UID("1.2.3.4")
    film.PatientID = film.PatientName = patient
    film.Modality, film.BodyPartExamined, film.ViewPosition = "CR", "CHEST", "PA"
    film.Rows = film.Columns = size
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
    film.BitsAllocated = film.BitsStored = 8
    film.HighBit, film.PixelRepresentation = 7, 0
    film.LossyImageCompression = "01"
    film.PixelData = encapsulate([jpeg.getvalue()])
    file = io.BytesIO()
    film.save_as(file, enforce_file_format=True)
    return file.getvalue()


DICOM = dicom()


def rows_of(film: Film) -> list[str]:
    if film.boxes:
        return [f"{film.image},{x},{y},{w},{h},1" for _, x, y, w, h in film.boxes]
    return [f"{film.image},,,,,{int(bool(film.positive))}"]


def nih_name(film: Film, follow_up: int = 0) -> str:
    return f"{int(film.patient.strip('p')):08d}_{follow_up:03d}.png"


def write_map(root: Path, films: Sequence[Film]) -> None:
    entries = [
        {"img_id": nih_name(f, i), "subset_img_id": f.image, "orig_labels": ["No Finding"], "SOPInstanceUID": f"1.{i}"}
        for i, f in enumerate(films)
    ]
    (root / MAP).write_text(json.dumps(entries))


def write_rsna(root: Path, films: Sequence[Film] = RSNA_FILMS, *, classes: Mapping[str, str] | None = None) -> Path:
    """Every file of the layout; a film without opacity is "Normal" where ``classes`` does not say otherwise."""
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    rows = [row for f in films for row in rows_of(f)]
    write_lines(root / LABELS, ["patientId,x,y,width,height,Target", *rows])
    told = {row.split(",")[0]: "Lung Opacity" for row in rows if row.endswith("1")} | dict(classes or {})
    write_lines(root / CLASSES, ["patientId,class", *(f"{r},{told.get(r, 'Normal')}" for r in map(id_of, rows))])
    write_map(root, films)
    for split, name in LISTS.items():
        if listed := [f.image for f in films if f.split == split]:
            write_lines(root / name, listed)
    for film in films:
        (root / FOLDER / f"{film.image}.dcm").write_bytes(DICOM)
    return root


def id_of(row: str) -> str:
    return row.split(",")[0]


RSNA_LAYOUT = Layout(
    write=write_rsna,
    row=lambda film: rows_of(film)[0],
    label_file=LABELS,
    box_file=LABELS,
    hashed=(LABELS, CLASSES, MAP, *LISTS.values()),
    films=RSNA_FILMS,
    box="{},{},1".format,
    folder=FOLDER,
    suffix=".dcm",
    content=DICOM,
)
