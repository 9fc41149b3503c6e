"""The method that learns where from drawn films: what is drawn, what counts, and that it learns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import contract
import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from cxrlocus.data.cache import open_films
from cxrlocus.data.loader import Loader
from cxrlocus.data.phantom.film import generate_film
from cxrlocus.data.phantom.parameters import Parameters
from cxrlocus.data.records import Index
from cxrlocus.data.transforms import Augmentation
from cxrlocus.errors import ConfigError
from cxrlocus.functional.losses import cell_bce, masked_bce
from cxrlocus.methods import METHODS, load_run
from cxrlocus.methods.classification import Part
from cxrlocus.methods.drawn.config import DrawnConfig
from cxrlocus.methods.drawn.films import HELD_OUT, Beside, Draughtsman, DrawnBatch, drawable, held_out
from cxrlocus.methods.drawn.model import DrawnNet, build, joined, levelled
from cxrlocus.methods.drawn.objective import DrawnObjective, noisy
from cxrlocus.methods.drawn.recipe import _validator, normal_films
from cxrlocus.metrics.ranking import auroc
from cxrlocus.types import BOXED8, Batch, Findings

TINY = DrawnConfig(backbone="test_resnet", size=64, width=8, head=8, drawn=3, planted=2, noise=0.0)


class Squares(Draughtsman):
    """Draws white squares on grey noise for the finding Mass, and where they are."""

    def draw(
        self, rng: np.random.Generator, normal: Sequence[np.ndarray], first: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        films = rng.integers(20, 60, (8, 64, 64)).astype(np.uint8)
        masks = np.zeros((8, len(self.findings), 16, 16), np.float32)
        for film, mask in zip(films, masks[:, self.findings.index("Mass")], strict=True):
            x, y = (int(v) for v in rng.integers(0, 10, 2))
            film[4 * y : 4 * y + 24, 4 * x : 4 * x + 24] = 230
            mask[y : y + 6, x : x + 6] = 1.0
        return films, masks


@pytest.fixture(scope="module")
def normal() -> np.ndarray:
    """A normal film of 128 px."""
    return generate_film(0, 5, 128, Parameters(normal_share=1.0)).pixels


def loader_of(index: Index, cache: Path, augmentation: Augmentation | None = None) -> Loader:
    return Loader(index, open_films(index, size=64, folder=cache), 4, shuffle=True, seed=3, augmentation=augmentation)


def test_planted_lesions_lie_where_their_mask_says(normal: np.ndarray) -> None:
    config = replace(TINY, size=128, drawn=0)
    draughtsman = Draughtsman(BOXED8.names, config, seed=0)
    films, masks = draughtsman.draw(np.random.default_rng(1), [normal] * 8)
    changed = films != normal
    found = masks.max(axis=1)
    assert found.any(axis=(1, 2)).sum() >= 6, "in most films a place is found"
    for film, mask, where in zip(films, found, changed, strict=True):
        cells = where.reshape(32, 4, 32, 4).mean(axis=(1, 3))
        assert (cells[mask > 0] > 0).all()
        assert (film >= normal).all()
    drawn = {BOXED8.names[k] for k in np.flatnonzero(masks.any(axis=(0, 2, 3)))}
    assert drawn == {"Mass", "Nodule", "Pneumonia"}


def test_phantoms_have_the_masks_of_the_findings_asked_for() -> None:
    films, masks = Draughtsman(("Effusion",), replace(TINY, drawn=12), seed=0).draw(np.random.default_rng(0), [])
    assert films.shape == (12, 64, 64)
    assert masks.shape == (12, 1, 16, 16)
    assert len({film.tobytes() for film in films}) == 12
    share = masks.mean(axis=(1, 2, 3))
    assert (share == 0).any()
    assert (share > 0).any()
    assert masks.max() <= 1.0


def test_drawn_films_are_a_function_of_seed_epoch_and_step(planted: Index, cache: Path) -> None:
    loader = loader_of(planted.split("train"), cache, Augmentation())
    config = replace(TINY, planted=0)

    def drawn(seed: int, epoch: int, start: int = 0) -> list[torch.Tensor]:
        loader.beside = Beside(loader, Draughtsman(BOXED8.names, config, seed), np.zeros(0, np.int64))
        return [batch.drawn for batch in loader.batches(epoch, start)]

    once, again = drawn(0, 1), drawn(0, 1)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert torch.equal(drawn(0, 1, start=2)[0], once[2])
    assert not torch.equal(once[0], once[1])
    assert not torch.equal(drawn(0, 2)[0], once[0])
    assert not torch.equal(drawn(1, 1)[0], once[0])


def test_masks_move_with_their_films(planted: Index, cache: Path) -> None:
    strong = Augmentation(rotation=20.0, shift=0.15, zoom=0.3, brightness=0.0, contrast=0.0, gamma=0.0)
    loader = loader_of(planted.split("train"), cache, strong)
    beside = Beside(loader, Squares(("Mass",), TINY, 0), np.zeros(0, np.int64))
    plain = Batch(torch.zeros(1, 1, 64, 64), torch.zeros(1, 1), torch.ones(1, 1).bool(), torch.zeros(1).long())
    moved = []
    for step in range(12):
        batch = beside(plain, 0, step)
        seen = torch.nn.functional.avg_pool2d((batch.drawn > 0.5).float(), 4)
        assert (seen - batch.masks).abs().mean() < 0.03
        assert (seen * batch.masks).sum() / torch.maximum(seen, batch.masks).sum() > 0.7
        moved.append(batch.masks)
    assert torch.stack(moved).std(dim=0).max() > 0.3


def test_films_to_validate_by_are_drawn_once_and_never_learned(
    planted: Index, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers: list[int] = []

    def note(seed: int, number: int, size: int) -> object:
        numbers.append(number)
        return generate_film(seed, 0, size)

    monkeypatch.setattr("cxrlocus.methods.drawn.films.generate_film", note)
    loader, none = loader_of(planted.split("train"), cache), np.zeros(0, np.int64)
    draughtsman = Draughtsman(BOXED8.names, TINY, 0)
    films, masks = held_out(draughtsman, loader, none, 2)
    assert films.shape == (6, 1, 64, 64)
    assert masks.shape == (6, 8, 16, 16)
    assert min(numbers) >= HELD_OUT
    numbers.clear()
    Beside(loader, draughtsman, none)(next(loader.batches(0)), 0, 0)
    assert max(numbers) < HELD_OUT


def test_only_findings_that_are_drawn_can_be_taught() -> None:
    assert drawable(("Edema", "Nodule")) == ("Nodule",)
    with pytest.raises(ConfigError, match=r"none is a finding of this data set \(Lung Opacity\)"):
        drawable(("Lung Opacity",))


def test_lesions_are_planted_in_normal_films_alone(planted: Index, cache: Path) -> None:
    train = planted.split("train")
    part = Part(train, loader_of(train, cache))
    found = normal_films(part, TINY)
    assert len(normal_films(part, replace(TINY, planted=0))) == 0
    assert all(not train.records[i].positive for i in found)
    sick = train.subset([i for i, r in enumerate(train.records) if r.positive])
    with pytest.raises(ConfigError, match="Set planted=0"):
        normal_films(Part(sick, loader_of(sick, cache)), TINY)


def net_of(findings: int) -> DrawnNet:
    torch.manual_seed(0)
    return build(TINY, findings).eval()


def batch_of(target: torch.Tensor, known: torch.Tensor, masks: torch.Tensor) -> DrawnBatch:
    draw = torch.Generator().manual_seed(1)
    real, drawn = torch.rand(len(target), 1, 64, 64, generator=draw), torch.rand(len(masks), 1, 64, 64, generator=draw)
    return DrawnBatch(real, target, known, torch.arange(len(target)), drawn, masks)


def test_the_loss_is_labels_of_real_films_and_cells_of_drawn_and_normal_ones() -> None:
    net, columns = net_of(3), torch.tensor([2, 0])
    target = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 0]])
    known = torch.tensor([[True] * 3, [True] * 3, [True, True, False]])
    masks = torch.rand(2, 2, 16, 16, generator=torch.Generator().manual_seed(2))
    batch = batch_of(target, known, masks)
    losses = DrawnObjective(net, TINY, columns).eval()(batch)
    with torch.no_grad():
        real, drawn = net(batch.images), net(batch.drawn)
        bias = net.bias[:, None, None]
        labels = masked_bce(real.logits, target, known)
        # By hand: the normal film's three maps are empty, the drawn films' maps of findings 2 and 0 are their masks.
        logits = torch.stack([*(real.maps + bias)[1], *(drawn.maps + bias)[:, columns].flatten(0, 1)])[:, None]
        shares = torch.cat([torch.zeros(3, 4, 4), torch.nn.functional.avg_pool2d(masks, 4).flatten(0, 1)])[:, None]
        cells = cell_bce(logits, shares, torch.ones(7, 1, dtype=torch.bool), TINY.rare)
    torch.testing.assert_close(losses["labels"], labels)
    torch.testing.assert_close(losses["cells"], TINY.cell_weight * cells)
    assert sorted(DrawnObjective(net, replace(TINY, label_weight=0.0), columns)(batch)) == ["cells"]
    assert sorted(DrawnObjective(net, replace(TINY, cell_weight=0.0), columns)(batch)) == ["labels"]


def test_cells_and_film_have_biases_of_their_own() -> None:
    net, films = net_of(3), torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        before = net(films)
        net.odds += 1.0
        after = net(films)
    torch.testing.assert_close(after.logits, before.logits + 1.0)
    assert torch.equal(after.maps, before.maps)


def test_exposure_is_levelled_and_noise_stays_within_a_film() -> None:
    films = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(levelled(0.5 * films + 0.2), levelled(films), rtol=0.1, atol=0.03)
    assert torch.isfinite(levelled(torch.zeros(1, 1, 8, 8))).all()
    assert noisy(films, 0.0) is films
    torch.manual_seed(0)
    loud = noisy(films, 1.0)
    assert 0.0 <= loud.min() < loud.max() <= 1.0
    assert not torch.equal(loud, films)


def test_masks_teach_where(
    planted: Index, cache: Path, fabric: Fabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Squares drawn with their masks teach where the squares of real films lie, which labels of 32 films do not."""
    monkeypatch.setattr("cxrlocus.methods.drawn.recipe.Draughtsman", Squares)
    test = planted.split("test")
    pixels = open_films(test, size=64, folder=cache).pixels(np.arange(len(test)))
    covered = np.zeros((len(test), 64, 64), dtype=bool)
    for i, record in enumerate(test.records):
        for box in record.boxes:
            x0, y0, x1, y1 = (round(v) for v in box.xyxy)
            covered[i, y0:y1, x0:x1] |= box.finding == "Mass"
    share = covered.reshape(len(test), 4, 16, 4, 16).mean(axis=(2, 4)).ravel()
    ranked = {}
    for name, weight in (("masks", "8"), ("labels", "0")):
        folder = contract.train_tiny("drawn", planted, tmp_path / name, cache, fabric, cell_weight=weight, epochs="12")
        lines = (folder / "base" / "log.jsonl").read_text(encoding="utf-8").splitlines()
        best = json.loads((folder / "base" / "manifest.json").read_text(encoding="utf-8"))["progress"]["best"]
        assert best == pytest.approx(min(json.loads(line)["cell_loss"] for line in lines))
        said = load_run(folder)[0].explain(torch.from_numpy(pixels)[:, None] / 255, contract.frames(len(test)))
        cells = said.maps[:, planted.findings.names.index("Mass")].numpy().ravel()
        ranked[name] = auroc((share > 0.5).astype(np.uint8), cells, np.ones(share.shape, dtype=bool))
    assert ranked["masks"] > 0.9
    assert ranked["masks"] > ranked["labels"] + 0.1


def test_a_data_set_of_other_findings_is_refused(planted: Index, cache: Path, fabric: Fabric, tmp_path: Path) -> None:
    names = Findings(("Fracture", "Mass scar"))
    records = tuple(replace(r, positive=frozenset(), boxes=()) for r in planted.records)
    other = replace(planted, findings=names, records=records)
    with pytest.raises(ConfigError, match="method drawn knows the masks of Atelectasis"):
        contract.train_tiny("drawn", other, tmp_path / "run", cache, fabric)


def test_what_cannot_be_planted_or_chosen_by_is_refused_before_the_first_step(
    planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    names = Findings(("Effusion", "Cardiomegaly"))
    no_lesions = replace(
        planted, findings=names, records=tuple(replace(r, positive=frozenset(), boxes=()) for r in planted.records)
    )
    with pytest.raises(ConfigError, match=r"of Mass, Nodule, Pneumonia at least one must be a finding here.*planted=0"):
        contract.train_tiny("drawn", no_lesions, tmp_path / "a", cache, fabric, planted="2")
    sick = planted.subset([i for i, r in enumerate(planted.records) if r.positive])
    recipe = SimpleNamespace(config=replace(TINY, drawn=0), fabric=fabric, seed=0)
    objective, part = SimpleNamespace(net=None), Part(sick, loader_of(sick, cache))
    artist = Draughtsman(("Mass",), recipe.config, seed=0)
    with pytest.raises(ConfigError, match="select=cell_loss is measured on held-out films"):
        _validator(recipe, objective, artist, part)  # type: ignore[arg-type]  # as much of them as it needs
    with pytest.raises(ConfigError, match=r"select must be a figure of labels.*got 'cell_loss'"):
        DrawnConfig(drawn=0, planted=0)


@pytest.mark.parametrize(
    ("variant", "knows"), [("", True), ("no-labels", True), ("no-drawn", True), ("no-planted", True), ("labels", False)]
)
def test_a_run_says_that_it_knows_masks(planted: Index, variant: str, knows: bool) -> None:
    config = METHODS["drawn"].configure(variant=variant, preset="small-data")
    assert contract.info_of("drawn", planted, vars(config), variant).knows == (
        "masks of drawn lesions" if knows else ""
    )


def test_networks_that_are_joined_say_the_mean_of_what_their_cells_say() -> None:
    torch.manual_seed(1)
    nets, films = [build(TINY, 3).eval() for _ in range(3)], torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        for k, net in enumerate(nets):
            net.bias += 0.1 * k
            net.odds += torch.tensor([0.0, 1.0, 2.0]) * k
        said, one = joined(nets, TINY.lse_r).eval()(films), [net(films) for net in nets]
        cells = torch.stack([o.maps + n.bias[:, None, None] for o, n in zip(one, nets, strict=True)]).mean(dim=0)
        r, odds = TINY.lse_r, torch.stack([net.odds for net in nets]).mean(dim=0)
    torch.testing.assert_close(said.maps, torch.stack([o.maps for o in one]).mean(dim=0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(said.logits, (torch.exp(r * cells).mean(dim=(2, 3)).log() / r) + odds)
    alone = joined(nets[:1], TINY.lse_r).eval()
    torch.testing.assert_close(alone(films).logits, one[0].logits)


def test_networks_are_trained_from_seeds_of_their_own_on_the_same_films(
    planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    told: list[str] = []
    both = contract.train_tiny(
        "drawn", planted, tmp_path / "both", cache, fabric, networks="2", on_step=lambda *words: told.append(words[2])
    )
    seeds = [json.loads((both / s / "manifest.json").read_text(encoding="utf-8"))["seed"] for s in ("base", "base2")]
    assert seeds == [0, 1]
    assert {words.split()[0] for words in told} == {"base", "base2"}
    # The first is the network of a run that has one alone, and a second call trains nothing.
    one = contract.train_tiny("drawn", planted, tmp_path / "one", cache, fabric)
    weights = [(folder / "base" / "weights.safetensors").read_bytes() for folder in (both, one)]
    assert weights[0] == weights[1]
    told.clear()
    contract.train_tiny(
        "drawn", planted, tmp_path / "both", cache, fabric, networks="2", on_step=lambda *words: told.append(words[2])
    )
    assert told == []
    films = open_films(planted.split("test"), size=64, folder=cache).pixels(np.arange(4))
    images, frames = torch.from_numpy(films)[:, None] / 255, contract.frames(4)
    said = [load_run(folder)[0].explain(images, frames).maps for folder in (both, one)]
    assert said[0].shape == said[1].shape
    assert not torch.allclose(said[0], said[1], atol=1e-3)
    with pytest.raises(ConfigError, match="networks must be at least 1"):
        DrawnConfig(networks=0)
