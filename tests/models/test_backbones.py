"""Backbones: a grid at the stride that was asked for, weights from a file, and clear words where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from cxrlocus.errors import ConfigError
from cxrlocus.models.backbones import Backbone

# One of each family; timm's `test_*` are the same architectures in miniature, "test_mambaout" gives NHWC.
AT_32 = ("resnet10t", "mobilenetv2_100", "densenet121", "convnext_atto", "test_mambaout", "test_efficientnet")
AT_16 = ("resnet10t", "mobilenetv2_100", "convnext_atto")
MOBILENET = Path(__file__).parents[3] / "shared" / "weights" / "mobilenetv2_100.imagenet.safetensors"


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a whole timm model, classifier and all, as one finds them."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "resnet.safetensors"
    net = timm.create_model("test_resnet", num_classes=10)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
    save_file(net.state_dict(), path)
    return path


def films(side: int = 64) -> torch.Tensor:
    return torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "stride"), [*((n, 32) for n in AT_32), *((n, 16) for n in AT_16)])
def test_features_lie_on_the_grid_of_the_stride(name: str, stride: int) -> None:
    backbone = Backbone(name, stride=stride).eval()
    with torch.no_grad():
        features = backbone(torch.rand(1, 1, 64, 96))
    assert features.shape == (1, backbone.channels, 64 // stride, 96 // stride)


@pytest.mark.parametrize("name", ["test_resnet", "test_mambaout"])
def test_a_cell_sees_its_own_quarter(name: str) -> None:
    torch.manual_seed(0)
    backbone = Backbone(name).eval()
    dark = torch.zeros(1, 1, 128, 128)
    lit = dark.clone()
    lit[..., 96:112, 16:32] = 1.0
    with torch.no_grad():
        change = (backbone(lit) - backbone(dark)).abs().sum(1)[0]
    row, column = divmod(int(change.argmax()), 4)
    assert row >= 2
    assert column <= 1


def test_stride_16_keeps_the_weights_of_stride_32() -> None:
    coarse, fine = Backbone("resnet10t", stride=32), Backbone("resnet10t", stride=16)
    shapes = {k: v.shape for k, v in coarse.net.state_dict().items()}
    assert {k: v.shape for k, v in fine.net.state_dict().items()} == shapes


def test_the_first_layer_normalizes() -> None:
    torch.manual_seed(0)
    backbone = Backbone("test_resnet", mean=0.25, std=0.5).eval()
    three = ((films() - 0.25) / 0.5).repeat(1, 3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(backbone(films()), backbone.net.forward_features(three))


def test_an_adapted_stem_gives_what_the_repeated_channel_gives(resnet_file: Path) -> None:
    repeat, adapt = Backbone("test_resnet", stem="repeat").eval(), Backbone("test_resnet", stem="adapt").eval()
    repeat.load(resnet_file)
    adapt.load(resnet_file)
    first = next(v for v in adapt.net.state_dict().values() if v.ndim == 4)
    assert first.shape[1] == 1
    with torch.no_grad():
        a, b = adapt(films()), repeat(films())
    assert a.std() > 0
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_load_fills_every_weight(resnet_file: Path) -> None:
    backbone = Backbone("test_resnet")
    backbone.load(resnet_file)
    given = load_file(resnet_file)
    for name, value in backbone.net.state_dict().items():
        assert torch.equal(value, given[name]), name


def test_making_a_backbone_leaves_the_random_numbers_and_the_mode_alone() -> None:
    torch.manual_seed(5)
    one = Backbone("test_resnet")
    torch.manual_seed(5)
    other = timm.create_model("test_resnet", num_classes=0, global_pool="")
    assert one.training
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in one.net.state_dict().items())


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "test_vit"])
def test_tokens_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"backbone '{name}'"):
        Backbone(name)


def test_a_name_that_timm_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"backbone 'resnet5000' .*list_models"):
        Backbone("resnet5000")


def test_a_stride_that_the_network_does_not_offer_is_refused() -> None:
    with pytest.raises(ConfigError, match="at stride 16"):
        Backbone("densenet121", stride=16)


@pytest.mark.parametrize(("option", "message"), [({"stride": 8}, "stride must be"), ({"std": 0.0}, "std must be")])
def test_options_out_of_range_are_refused(option: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Backbone("test_resnet", **option)  # type: ignore[arg-type]  # wrong on purpose


def wrong_files(folder: Path, good: Path) -> dict[str, Path]:
    """Everything that a person may give for weights by mistake."""
    state = load_file(good)
    first = next(k for k, v in state.items() if v.ndim == 4)
    files = {name: folder / f"{name}.safetensors" for name in ("text", "empty", "torch", "lacking", "misshapen", "cut")}
    files["text"].write_text("not weights, whatever the name says", encoding="utf-8")
    files["empty"].touch()
    torch.save(state, files["torch"])
    save_file(
        {k: v for k, v in state.items() if "layer4" not in k and "stages.3" not in k and k != first}, files["lacking"]
    )
    save_file({**state, first: torch.zeros(7, 3, 3, 3)}, files["misshapen"])
    files["cut"].write_bytes(good.read_bytes()[:-100])
    return {**files, "absent": folder / "absent.safetensors", "folder": folder}


@pytest.mark.parametrize("which", ["text", "empty", "torch", "lacking", "misshapen", "cut", "absent", "folder"])
def test_a_wrong_file_of_weights_is_named_and_changes_nothing(which: str, tmp_path: Path, resnet_file: Path) -> None:
    path = wrong_files(tmp_path, resnet_file)[which]
    backbone = Backbone("test_resnet")
    before = {k: v.clone() for k, v in backbone.net.state_dict().items()}
    with pytest.raises(ConfigError) as caught:
        backbone.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in backbone.net.state_dict().items())


def test_weights_of_another_network_are_refused(resnet_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"not the weights of resnet10t: [0-9]+ missing"):
        Backbone("resnet10t").load(resnet_file)


@pytest.mark.skipif(not MOBILENET.is_file(), reason="needs the ImageNet MobileNetV2 beside the checkout")
def test_imagenet_weights_load_and_both_stems_agree() -> None:
    features = []
    for stem in ("repeat", "adapt"):
        backbone = Backbone("mobilenetv2_100", stem=stem, mean=0.5, std=0.5).eval()  # type: ignore[arg-type]  # a Literal
        backbone.load(MOBILENET)
        with torch.no_grad():
            features.append(backbone(films(96)))
    assert features[0].std() > 0.05
    torch.testing.assert_close(features[0], features[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["convnext_atto", "test_mambaout", "resnet10t"])
def test_only_what_a_gradient_reaches_may_learn(name: str) -> None:
    # DDP waits for the gradient of every parameter that may learn; a head's norm never gets one here.
    backbone = Backbone(name).train()
    assert all(p.grad is None for p in backbone.parameters())
    backbone(torch.rand(2, 1, 64, 64)).sum().backward()
    reached = [p.grad is not None for p in backbone.parameters()]
    assert reached == [p.requires_grad for p in backbone.parameters()]
    assert any(reached)
