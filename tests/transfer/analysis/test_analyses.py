"""Each analysis writes its pictures and says what is true of known encoders."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from pretrain.config import FcmaeSettings, Recipe, RunSettings, Schedule
from pretrain.config.tokenizer import VAESizes
from pretrain.tokenizer.vae import DiscreteVAE, write_tokenizer
from pretrain.train import train
from tests.transfer.weights.cases_layouts import BEIT, CONVNEXT2, RESNET
from tools import analyze
from transfer.analysis.attention import attention_maps, distances, softmax_of
from transfer.analysis.codes import read_label_squares, told
from transfer.analysis.encoders import open_encoder, open_encoders
from transfer.analysis.images import normalised, read_squares
from transfer.analysis.shift import linear_cka
from transfer.weights import PixelStats, WeightsError


def analysed(kind: str, encoders: list[str], data: Path, out: Path, **more) -> dict:
    """Run the tool; return what OUT/KIND.json holds."""
    given = {"images": 4, "size": 64, **more}
    analyze.main(analyze.Arguments(kind, tuple(encoders), data, out, **given))
    return json.loads((out / f"{kind}.json").read_text())["numbers"]


def test_collapse_tells_several_encoders_apart(encoder, data, tmp_path):
    path = encoder("net", *CONVNEXT2)
    names = [f"a={path}", f"b=random:{path}", f"c=control:shuffled:{path}"]
    numbers = analysed("collapse", names, data, tmp_path / "out")
    assert set(numbers) == {"a", "b", "c"}
    assert [len(layers) for layers in numbers.values()] == [5, 5, 5]
    assert all(0 <= layer["cosine_distance"] <= 1 for layer in numbers["a"])
    assert numbers["a"] != numbers["c"]
    assert Image.open(tmp_path / "out/collapse.png").width > 500
    assert Image.open(tmp_path / "out/activations_a.png").height > 16 * 40


def test_attention_rows_are_those_of_the_heads(encoder, data, tmp_path):
    one = open_encoder(encoder("vit", *BEIT))
    images = read_squares(data, 2, 96)
    plain = one.features(normalised(images, one.pixels))["res5"]
    maps = attention_maps(one, images)
    assert [m.shape for m in maps] == 3 * [(2, 3, 36, 36)]
    totals = maps[0].sum(-1)
    assert (totals > 0.3).all()
    assert (totals <= 1 + 1e-5).all()
    after = one.features(normalised(images, one.pixels))["res5"]
    assert torch.equal(plain, after)
    numbers = analysed(
        "attention",
        [f"vit={tmp_path / 'vit.safetensors'}"],
        data,
        tmp_path / "out",
        size=96,
        points=("0,1",),
    )
    assert [len(layer["distance_px"]) for layer in numbers["vit"]] == [3, 3, 3]
    sheet = Image.open(tmp_path / "out/attention_vit.png")
    assert sheet.size == (2 * 96 + 4, 4 * 96 + 12)


def test_the_softmax_is_that_of_the_kernel():
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 9, 8, generator=generator)
    bias = torch.randn(1, 4, 9, 9, generator=generator)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    assert torch.allclose(softmax_of(query, key, bias) @ value, expected, atol=1e-5)


def test_distances_of_known_attention():
    """A head that looks at itself, and one that looks evenly over 2 x 2 patches of 16 px."""
    maps = torch.stack((torch.eye(4), torch.full((4, 4), 0.25)))[None]
    near, far = distances(maps, 16.0).tolist()
    assert near == 0
    assert far == pytest.approx((0 + 16 + 16 + 16 * 2**0.5) / 4, rel=1e-4)


def test_no_attention_is_said(encoder, data, tmp_path):
    with pytest.raises(ValueError, match="no attention"):
        analysed("attention", [encoder("net", *RESNET)], data, tmp_path / "out")


def test_shift_is_none_for_the_same_and_some_for_the_shuffled(encoder, data, tmp_path):
    path = encoder("net", *RESNET)
    names = [f"a={path}", f"same={path}", f"b=control:shuffled:{path}"]
    numbers = analysed("shift", names, data, tmp_path / "out")
    assert all(layer["cka"] == pytest.approx(1) for layer in numbers["a -> same"])
    assert all(layer["distance"] == 0 for layer in numbers["a -> same"])
    assert all(layer["cka"] < 0.999 for layer in numbers["a -> b"])
    assert all(layer["distance"] > 0.3 for layer in numbers["a -> b"])
    other = encoder("other", *CONVNEXT2)
    with pytest.raises(ValueError, match="another architecture"):
        analysed("shift", [path, other], data, tmp_path / "out")
    with pytest.raises(ValueError, match="two or more"):
        analysed("shift", [path], data, tmp_path / "out")


def test_cka_does_not_see_rotation_and_scale():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 6, generator=generator, dtype=torch.float64)
    turned = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q
    assert linear_cka(x, 3 * x @ turned + 1) == pytest.approx(1)
    other = torch.randn(200, 6, generator=generator, dtype=torch.float64)
    assert linear_cka(x, other) < 0.2


def test_reconstructions_of_a_run(data, tmp_path):
    recipe = Recipe(
        arch="convnextv2_atto",
        arch_args={"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
        method=FcmaeSettings(decoder_width=32),
        image_size=64,
        batch_size=2,
        schedule=Schedule(steps=2, warmup_steps=0),
        run=RunSettings(workers=0, device="cpu", pictures=2),
    )
    train(recipe, data=data, out=tmp_path / "run")
    numbers = analysed(
        "reconstructions", [str(tmp_path / "run/encoder.safetensors")], data, tmp_path / "out"
    )
    assert numbers["run"]["method"] == "FCMAE"
    assert numbers["run"]["loss"] > 0
    assert Image.open(tmp_path / "out/reconstructions_run.png").width == 4 * 64 + 12


def test_labels(encoder):
    path = encoder("net", *RESNET)
    assert open_encoder(path).label == "net"
    assert open_encoder(f"control:shuffled:{path}").label == "control net"
    with pytest.raises(ValueError, match="one label"):
        open_encoders([path, path])


def test_the_encoder_of_a_run(encoder, tmp_path):
    """As transfer/detection and transfer/segmentation leave it."""
    trained = open_encoder(encoder("net", *RESNET))
    tensors = trained.features.encoder.state_dict()
    named = {f"backbone.bottom_up.features.encoder.{n}": t for n, t in tensors.items()}
    run = tmp_path / "run"
    run.mkdir()
    pixels = {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1], "color_order": "BGR"}
    about = {"arch": RESNET[0], "arch_args": RESNET[1], "pixels": pixels}
    (run / "run.json").write_text(json.dumps(about))
    with pytest.raises(WeightsError, match="no trained weights"):
        open_encoder(str(run))
    torch.save({"model": named}, run / "model_final.pth")
    found = open_encoder(f"x={run}")
    assert found.label == "x"
    assert found.pixels == PixelStats((0.1, 0.2, 0.3), (1, 1, 1), "BGR")
    for name, tensor in found.features.encoder.state_dict().items():
        assert torch.equal(tensor, tensors[name]), name
    del named["backbone.bottom_up.features.encoder.conv1.weight"]
    torch.save({"model": named}, run / "model_final.pth")
    with pytest.raises(WeightsError, match="lacks 1 tensors"):
        open_encoder(str(run))


def test_no_encoder_is_said(data, tmp_path):
    with pytest.raises(ValueError, match="at least one encoder"):
        analysed("collapse", [], data, tmp_path / "out")


@pytest.mark.parametrize("point", ["0.3", "2,0", "a,b"])
def test_a_wrong_point_is_refused(point):
    with pytest.raises(ValueError, match="Y,X"):
        analyze.places([point])


class Codes:
    """A tokenizer of 8-px tokens that reads its codes off a table."""

    downsampling, vocab_size, decoder = 8, 16, None

    def __init__(self, table: torch.Tensor) -> None:
        self.table, self.at = table, 0

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        self.at += len(images)
        return self.table[self.at - len(images) : self.at]


def test_codes_tell_what_they_hold_of_the_labels_and_random_ones_nothing():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (40, 8, 8), generator=generator)
    maps = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    gray = torch.full((40, 3, 64, 64), 0.5)
    colored = gray + 0.1 * maps[:, None]
    perfect = told(Codes(labels.flatten(1)), colored, maps)
    assert perfect.by_code == pytest.approx(perfect.label_entropy, abs=0.05)
    assert perfect.by_mean_color == pytest.approx(perfect.by_code, abs=0.05)
    noise = torch.randint(0, 16, (40, 64), generator=generator)
    blind = told(Codes(noise), gray, maps)
    assert abs(blind.by_code) < 0.05
    assert abs(blind.by_mean_color) < 0.05
    with pytest.raises(ValueError, match="two images or more"):
        told(Codes(noise), gray[:1], maps[:1])


def test_the_codes_of_a_tokenizer_are_held_against_label_maps(data, tmp_path):
    torch.manual_seed(0)
    vae = DiscreteVAE(VAESizes(vocab_size=8, n_hid=8, n_blk_per_group=1, n_init=8))
    write_tokenizer(tmp_path / "t.safetensors", vae, {})
    maps = tmp_path / "maps"
    maps.mkdir()
    with pytest.raises(ValueError, match=r"no label map .* for the image"):
        read_label_squares(data, maps, 4, 64)
    for path in data.iterdir():
        Image.new("L", Image.open(path).size, 1).save(maps / f"{path.stem}.png")
    numbers = analysed(
        "codes", [f"t={tmp_path / 't.safetensors'}"], data, tmp_path / "out", labels=maps
    )
    assert numbers["t"]["label_entropy"] < 0.01  # one label everywhere
    assert Image.open(tmp_path / "out/codes_t.png").width > 4 * 60


def test_a_refusal_leaves_no_folder(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        analyze.main(analyze.Arguments("collapse", ("nowhere",), tmp_path, out))
    assert not out.exists()
    out.touch()
    with pytest.raises(ValueError, match="is a file: give a folder"):
        analyze.main(analyze.Arguments("collapse", ("nowhere",), tmp_path, out))
