"""One image file, one encoder file: both frameworks normalise alike and see the same features."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from pretrain.files.encoder_file import write_encoder
from tests.identity import identity_of

ARCH, ARGS = "convnextv2_atto", {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 24]}
MEAN, STD = (0.3, 0.5, 0.6), (0.2, 0.25, 0.4)
CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def picture(tmp_path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    pixels[..., 0] //= 3  # so that the colour order matters
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def _encoder(folder: Path, order: str) -> tuple[Path, torch.nn.Module]:
    torch.manual_seed(0)
    net = timm.create_model(ARCH, num_classes=0, **ARGS).eval()
    identity = identity_of(
        ARCH, ARGS, method="fcmae", pixel_mean=MEAN, pixel_std=STD, color_order=order
    )
    write_encoder(folder / "encoder.safetensors", net.state_dict(), identity)
    return folder / "encoder.safetensors", net


def _by_hand(picture: Path, order: str) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(Image.open(picture))).permute(2, 0, 1).float() / 255
    pixels = pixels if order == "RGB" else pixels.flip(0)
    return ((pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None])[None]


def _in_detectron2(weights: Path, picture: Path) -> tuple[torch.Tensor, list[torch.Tensor]]:
    pytest.importorskip("transfer.detection")
    from detectron2.data.detection_utils import read_image

    from transfer.detection.build import build_detector
    from transfer.detection.config import load_config

    options = [f"weights={weights}", "features.norm_outputs=False"]
    config = load_config(CONFIGS / "detection" / "shapes_mask_rcnn.py", options)
    detector = build_detector(config, num_classes=2)
    pixels = read_image(str(picture), format=detector.image_format)
    image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    batch = detector.model.preprocess_image([{"image": image}]).tensor
    return batch, list(detector.features.eval()(batch).values())


def _in_mmsegmentation(weights: Path, picture: Path) -> tuple[torch.Tensor, list[torch.Tensor]]:
    pytest.importorskip("mmseg")
    from mmcv.transforms import LoadImageFromFile
    from mmseg.models import SegDataPreProcessor
    from mmseg.structures import SegDataSample

    from transfer.segmentation.backbone import TimmBackbone
    from transfer.segmentation.segmentor import set_pixels

    backbone = TimmBackbone(str(weights), norm_outputs=False).eval()
    loaded = LoadImageFromFile()({"img_path": str(picture)})["img"]
    image = torch.from_numpy(np.ascontiguousarray(loaded.transpose(2, 0, 1)))
    preprocessor = SegDataPreProcessor(
        mean=[0.0] * 3, std=[1.0] * 3, bgr_to_rgb=True, size=(64, 96)
    )
    set_pixels(preprocessor, backbone.pixels)
    batch = preprocessor({"inputs": [image], "data_samples": [SegDataSample()]}, training=False)
    return batch["inputs"], list(backbone(batch["inputs"]))


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@torch.no_grad()
def test_both_frameworks_see_the_same(order, picture, tmp_path):
    weights, net = _encoder(tmp_path, order)
    wanted = _by_hand(picture, order)
    maps = net.forward_intermediates(wanted, intermediates_only=True)
    for batch, features in (_in_detectron2(weights, picture), _in_mmsegmentation(weights, picture)):
        torch.testing.assert_close(batch, wanted, rtol=1e-5, atol=1e-5)
        for ours, theirs in zip(features, maps, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(_by_hand(picture, "RGB"), _by_hand(picture, "BGR"), atol=0.1)
