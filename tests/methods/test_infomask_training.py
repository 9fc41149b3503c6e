"""InfoMask trained: loss and warm-ups, rivals, dead masks, maps, one finding of several."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import contract
import pytest
import torch
from contract import frames
from lightning_fabric import Fabric
from safetensors.torch import load_file, save_file

from cxrlocus.data.loader import Loader
from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError, RunError
from cxrlocus.functional.losses import masked_bce
from cxrlocus.functional.variational import kl_standard_normal, l1_norm
from cxrlocus.methods import METHODS, load_run
from cxrlocus.methods.baselines.gradcam import GradCamLocalizer
from cxrlocus.methods.infomask2019 import DeadMaskWarning, InfoMaskConfig, InfoMaskLocalizer
from cxrlocus.methods.infomask2019.localizer import BaselineLocalizer, CheXCamLocalizer
from cxrlocus.methods.infomask2019.model import InfoMaskNet, build_infomask
from cxrlocus.methods.infomask2019.objective import InfoMaskObjective
from cxrlocus.methods.infomask2019.recipe import Watched
from cxrlocus.models.backbones import Backbone
from cxrlocus.types import Batch

SMALL = InfoMaskConfig(width=0.25)
BATCH = Batch(
    torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0)),
    torch.tensor([[1.0], [0.0], [1.0]]),
    torch.tensor([[True], [True], [False]]),
    torch.arange(3),
)


def objective(config: InfoMaskConfig, steps: int = 10) -> InfoMaskObjective:
    torch.manual_seed(0)
    net = build_infomask(config, 1)
    net.open_up(BATCH.images)
    return InfoMaskObjective(net, config, steps)


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "base" / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("penalty", ["kl", "l1"])
def test_the_loss_is_cross_entropy_and_alpha_times_the_penalty(penalty: str, reduction: str) -> None:
    one = objective(replace(SMALL, penalty=penalty, reduction=reduction, alpha=0.3, sample=False))
    losses, out = one(BATCH), one.net(BATCH.images)
    torch.testing.assert_close(losses["bce"], masked_bce(out.logits, BATCH.target, BATCH.known))
    kl = kl_standard_normal(out.latents.mu, out.latents.sigma, reduction)  # type: ignore[arg-type]
    expected = kl if penalty == "kl" else l1_norm(out.mask, reduction)  # type: ignore[arg-type]
    torch.testing.assert_close(losses[penalty], 0.3 * expected)
    assert len(losses) == 2


def test_z_is_drawn_in_training_anew_each_time_unless_told_otherwise() -> None:
    drawn, mean = objective(SMALL), objective(replace(SMALL, sample=False))
    torch.manual_seed(5)
    first, second = drawn(BATCH)["bce"], drawn(BATCH)["bce"]
    torch.manual_seed(5)
    assert torch.equal(drawn(BATCH)["bce"], first)
    assert not torch.equal(first, second)
    assert torch.equal(mean(BATCH)["bce"], mean(BATCH)["bce"])


def test_alpha_and_tau_warm_up_over_their_share_of_the_steps() -> None:
    one = objective(replace(SMALL, sample=False, alpha=0.5, alpha_warmup=0.4, tau_warmup=0.2), steps=10)
    latents = one.net.latents(BATCH.images)
    kl = kl_standard_normal(latents.mu, latents.sigma)
    shares, zero = [], []
    for _ in range(6):
        shares.append(float((one(BATCH)["kl"] / (0.5 * kl)).detach()))
        zero.append(one.tallied()["train_mask_zero"])
    assert shares == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0, 1.0], abs=1e-5)
    assert zero[0] == 0.0, "with tau = 0 every pixel is open"
    assert zero[0] < zero[1] < zero[2] == zero[3]


def test_a_warm_up_goes_on_where_a_stopped_stage_was() -> None:
    one = objective(replace(SMALL, alpha=0.5, alpha_warmup=1.0, sample=False))
    for _ in range(4):
        one(BATCH)
    other = objective(replace(SMALL, alpha=0.5, alpha_warmup=1.0, sample=False))
    assert float(other(BATCH)["kl"].detach()) == 0.0
    other.load_state_dict(one.state_dict())
    assert torch.equal(other(BATCH)["kl"], one(BATCH)["kl"])
    assert other.tallied() == one.tallied()


def test_prediction_in_parts_is_prediction_at_once(
    runs: dict[str, Path], films: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    localizer, _ = load_run(runs["infomask2019"])
    whole = localizer.explain(films, frames(12))
    monkeypatch.setattr("cxrlocus.methods.infomask2019.localizer.AT_ONCE", 5 * 64 * 64)
    parts = localizer.explain(films, frames(12))
    torch.testing.assert_close(parts.maps, whole.maps, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(parts.prob, whole.prob, rtol=1e-4, atol=1e-5)


def test_training_masks_are_counted() -> None:
    one = objective(replace(SMALL, sample=False))
    mask = one.net(BATCH.images).mask.detach()
    one(BATCH)
    assert one.tallied() == pytest.approx(
        {"train_mask_empty": 0.0, "train_mask_zero": float((mask == 0).float().mean())}
    )
    one.net.to_mu.bias.data.fill_(-50.0)
    one(BATCH)
    assert one.tallied() == {"train_mask_empty": 1.0, "train_mask_zero": 1.0}
    one.eval()
    one(BATCH)
    assert one.tallied() == {"train_mask_empty": 0.0, "train_mask_zero": 0.0}


def test_masks_shown_in_validation_are_counted(fabric: Fabric) -> None:
    one = objective(SMALL)
    watched = Watched(one.net.eval(), samples=0)
    out = one.net(BATCH.images)
    with torch.no_grad():
        watched.classify(BATCH.images[:2])
        watched.classify(BATCH.images[2:])
    figures = watched.figures(fabric)
    mask = out.mask.detach()
    assert figures["mask_flat"] == figures["mask_empty"] == 0
    assert figures["mask_open"] == pytest.approx(float((mask > 0).float().mean()))
    assert figures["mask_mean"] == pytest.approx(float(mask.mean()))
    kl = kl_standard_normal(out.latents.mu, out.latents.sigma).detach()
    assert figures["val_kl"] == pytest.approx(float(kl), rel=1e-5)


@pytest.fixture(scope="module")
def trained(planted: Index, cache: Path, fabric: Fabric, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every variant, trained for two steps on one finding."""
    root = tmp_path_factory.mktemp("infomask")
    few = replace(planted, records=tuple(r for r in planted.records if r.split == "train")[:20])
    tiny = {"finding": "Mass", "epochs": "1", "batch_size": "9", "size": "32"}
    options = {
        "all": {"finding": "all"},
        "timm": {"backbone": "test_convnext", "size": "64"},
        "chexcam": {"backbone": "test_resnet"},
    }
    return {
        v: contract.train_tiny("infomask2019", few, root / f"run-{v}", cache, fabric, variant=v,
                               **{**tiny, **options.get(v, {})})
        for v in METHODS["infomask2019"].variants
    }  # fmt: skip


def test_every_variant_is_what_it_says(trained: dict[str, Path], films: torch.Tensor) -> None:
    kinds: dict[str, type] = {"gradcam": BaselineLocalizer, "chexcam": CheXCamLocalizer}
    for variant, folder in trained.items():
        localizer, info = load_run(folder)
        assert type(localizer) is kinds.get(variant, InfoMaskLocalizer)
        assert localizer.findings.names == (("Mass", "Nodule") if variant == "all" else ("Mass",))
        assert info.findings == ["Mass", "Nodule"]
        said = localizer.explain(films, frames(12))
        assert said.kind == ("logit" if variant in kinds else "mask")
        assert said.maps.shape[:2] == (12, len(localizer.findings))
        assert said.maps.min() >= 0
        assert torch.isfinite(said.maps).all()
        assert said.prob.std() > 0
        if said.kind == "mask":
            assert said.maps.max() <= 0.5
            assert said.maps.shape[-2:] == (64, 64)


def test_without_alpha_infomask_is_featuremask_to_the_bit(
    trained: dict[str, Path], planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    few = replace(planted, records=tuple(r for r in planted.records if r.split == "train")[:20])
    tiny = {"finding": "Mass", "epochs": "1", "batch_size": "9", "size": "32"}
    folder = contract.train_tiny("infomask2019", few, tmp_path / "run", cache, fabric, alpha="0", **tiny)
    weights = [load_file(one / "base" / "weights.safetensors") for one in (folder, trained["featuremask"], trained[""])]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not all(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])
    assert [set(log_of(one)[0]) & {"bce", "kl"} for one in (folder, trained["featuremask"])] == [{"bce"}] * 2


def test_masks_are_logged_and_reported(trained: dict[str, Path]) -> None:
    report = json.loads((trained[""] / "network.json").read_text(encoding="utf-8"))
    last = log_of(trained[""])[-1]
    assert {"bce", "kl", "train_mask_empty", "train_mask_zero"} <= set(last)
    assert set(report["masks"]) == set(Watched.NAMES) <= set(last)
    assert report["parameters"] == sum(v.numel() for v in load_file(trained[""] / "base/weights.safetensors").values())
    assert "l1" in log_of(trained["regl1"])[-1]
    assert json.loads((trained["gradcam"] / "network.json").read_text(encoding="utf-8"))["masks"] == {}


def test_a_warm_start_is_the_baselines_encoder_and_looks_where_it_sees_the_finding(
    planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    few = replace(planted, records=tuple(r for r in planted.records if r.split == "train")[:20])
    tiny = {"finding": "Mass", "batch_size": "9", "size": "32", "start": "warm"}
    rival = contract.train_tiny(
        "infomask2019", few, tmp_path / "rival", cache, fabric, variant="gradcam", epochs="2", **tiny
    )
    masked = contract.train_tiny(
        "infomask2019", few, tmp_path / "masked", cache, fabric, epochs="1", warm_epochs="2", **tiny
    )
    assert sorted(p.name for p in rival.iterdir() if p.is_dir()) == ["baseline"]
    assert sorted(p.name for p in masked.iterdir() if p.is_dir()) == ["base", "baseline"]
    files = ("weights.safetensors", "manifest.json")
    assert all((rival / "baseline" / f).read_bytes() == (masked / "baseline" / f).read_bytes() for f in files)
    assert isinstance(load_run(masked)[0], InfoMaskLocalizer)
    assert isinstance(load_run(rival)[0], BaselineLocalizer)
    before = (masked / "baseline" / "weights.safetensors").stat().st_mtime_ns
    (masked / "base" / "manifest.json").unlink()
    contract.train_tiny("infomask2019", few, masked, cache, fabric, epochs="1", warm_epochs="2", **tiny)
    assert (masked / "base" / "manifest.json").is_file()
    assert (masked / "baseline" / "weights.safetensors").stat().st_mtime_ns == before
    # What it began with is not needed once it is trained.
    shutil.rmtree(masked / "baseline")
    told = (masked / "network.json").read_text(encoding="utf-8")
    contract.train_tiny("infomask2019", few, masked, cache, fabric, epochs="1", warm_epochs="2", **tiny)
    assert not (masked / "baseline").exists()
    assert (masked / "network.json").read_text(encoding="utf-8") == told


def test_a_run_stopped_before_its_report_is_reported_when_it_is_called_again(
    planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    few = replace(planted, records=tuple(r for r in planted.records if r.split == "train")[:20])
    tiny = {"finding": "Mass", "epochs": "1", "batch_size": "9", "size": "32"}
    folder = contract.train_tiny("infomask2019", few, tmp_path / "run", cache, fabric, **tiny)
    report, weights = folder / "network.json", folder / "base" / "weights.safetensors"
    told, trained_at = report.read_text(encoding="utf-8"), weights.stat().st_mtime_ns
    report.unlink()
    contract.train_tiny("infomask2019", few, folder, cache, fabric, **tiny)
    assert report.read_text(encoding="utf-8") == told
    assert weights.stat().st_mtime_ns == trained_at


def test_a_dead_mask_is_reported(planted: Index, cache: Path, fabric: Fabric, tmp_path: Path) -> None:
    # So high a threshold closes every mask.
    with pytest.warns(DeadMaskWarning, match="dead masks: the same value everywhere on every validation film"):
        folder = contract.train_tiny(
            "infomask2019", planted, tmp_path / "run", cache, fabric, finding="Mass", tau="0.999", epochs="1", size="32"
        )
    last = log_of(folder)[-1]
    assert last["mask_flat"] == last["mask_empty"] == last["train_mask_empty"] == 1.0
    assert last["mask_open"] == last["mask_mean"] == 0.0


def test_the_number_of_parameters_is_told_in_training(
    planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    words: list[str] = []
    contract.train_tiny(
        "infomask2019", planted.split("train").subset(list(range(6))), tmp_path / "run", cache, fabric,
        on_step=lambda done, total, said: words.append(said), finding="Mass", width="1", size="32", epochs="1",
    )  # fmt: skip
    assert words[-1].endswith("0.70 M parameters")


def test_batch_normalization_is_learned_and_kept(
    planted: Index, cache: Path, fabric: Fabric, tmp_path: Path, films: torch.Tensor
) -> None:
    folder = contract.train_tiny(
        "infomask2019", planted, tmp_path / "run", cache, fabric, finding="Mass", norm="batch", size="32", epochs="1"
    )
    kept = load_file(folder / "base" / "weights.safetensors")
    means = [value for name, value in kept.items() if name.endswith("running_mean")]
    assert len(means) == 9
    assert all(float(mean.abs().max()) > 0 for mean in means)
    localizer, _ = load_run(folder)
    alone = torch.cat([localizer.explain(film[None], frames(1)).maps for film in films[:3]])
    together = localizer.explain(films[:3], frames(3)).maps
    torch.testing.assert_close(alone, together)


def test_maps_may_be_averaged_over_blocks(runs: dict[str, Path], films: torch.Tensor) -> None:
    localizer, _ = load_run(runs["infomask2019"])
    assert isinstance(localizer, InfoMaskLocalizer)
    full = localizer.explain(films, frames(12)).maps
    assert full.shape[-2:] == (64, 64)
    localizer.config = replace(localizer.config, map_stride=4)
    blocks = localizer.explain(films, frames(12)).maps
    torch.testing.assert_close(blocks, full.unfold(2, 4, 4).unfold(3, 4, 4).mean((-2, -1)))


def test_latents_make_the_mask(runs: dict[str, Path], films: torch.Tensor) -> None:
    localizer, _ = load_run(runs["infomask2019"])
    assert isinstance(localizer, InfoMaskLocalizer)
    localizer.net.train()
    mu, sigma, attention = localizer.latents(films)
    assert localizer.net.training
    assert mu.shape == sigma.shape == attention.shape == (12, 2, 64, 64)
    assert sigma.min() > 0
    assert attention.min() >= 0
    expected = (torch.sigmoid(mu) - 0.5).clamp(min=0)
    torch.testing.assert_close(localizer.explain(films, frames(12)).maps, expected, rtol=1e-4, atol=1e-5)


def test_grad_cam_looks_at_the_layer_that_is_named(trained: dict[str, Path], films: torch.Tensor) -> None:
    baseline, _ = load_run(trained["gradcam"])
    assert isinstance(baseline, BaselineLocalizer)
    assert baseline.explain(films, frames(12)).maps.shape[-2:] == (16, 16)
    baseline.config = replace(baseline.config, cam_layer="classifier")
    assert isinstance(baseline.target_layer, torch.nn.ReLU)
    assert baseline.explain(films, frames(12)).maps.shape[-2:] == (8, 8)
    masked, _ = load_run(trained[""])
    assert GradCamLocalizer(masked).explain(films, frames(12)).maps.shape[-2:] == (16, 16)


def test_a_finding_that_the_data_do_not_have_is_refused(
    trained: dict[str, Path], planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="finding must be 'all' or different ones of Mass, Nodule; got 'Pneumonia'"):
        contract.train_tiny("infomask2019", planted, tmp_path / "run", cache, fabric, finding="Pneumonia")
    copy = tmp_path / "copy"
    copy.mkdir()
    raw = json.loads((trained[""] / "run.json").read_text(encoding="utf-8"))
    (copy / "run.json").write_text(json.dumps({**raw, "findings": ["Nodule"]}), encoding="utf-8")
    with pytest.raises(RunError, match="finding must be"):
        load_run(copy)


def test_weights_of_a_backbone_do_not_fit_the_papers_encoder(
    planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="the paper's encoder begins from scratch"):
        contract.train_tiny("infomask2019", planted, tmp_path / "run", cache, fabric, init=tmp_path / "w.safetensors")


def test_the_mask_begins_open_behind_the_weights_of_a_file(
    planted: Index, cache: Path, fabric: Fabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mask opened for random weights is open or shut everywhere once the file's are in their place."""
    torch.manual_seed(0)
    other = {name: value * 2 for name, value in Backbone("test_resnet").net.state_dict().items()}
    save_file(other, tmp_path / "w.safetensors")
    seen: list[torch.Tensor] = []

    def begin(_fabric: Fabric, _objective: object, net: InfoMaskNet, loader: Loader, *_: object, **__: object) -> None:
        assert torch.equal(
            dict(net.encoder.named_parameters())["net.layer1.0.conv1.weight"], other["layer1.0.conv1.weight"]
        )
        with torch.no_grad():
            seen.append(net.latents(next(iter(loader.batches(0))).images).mu)
        raise KeyboardInterrupt

    monkeypatch.setattr("cxrlocus.methods.infomask2019.recipe.fit", begin)
    options = {"finding": "Mass", "backbone": "test_resnet", "stride": "32", "stem": "adapt", "size": "64"}
    with pytest.raises(KeyboardInterrupt):
        contract.train_tiny(
            "infomask2019", planted, tmp_path / "run", cache, fabric, variant="timm", init=tmp_path / "w.safetensors",
            **options,
        )  # fmt: skip
    torch.testing.assert_close(torch.stack(torch.std_mean(seen[0])), torch.tensor([1.0, 0.0]), atol=1e-3, rtol=0)
