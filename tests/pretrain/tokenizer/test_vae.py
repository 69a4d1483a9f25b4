"""The discrete VAE: DALL-E's outputs, its loss, its file."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pretrain.config.tokenizer import VAESizes
from pretrain.tokenizer.codebook import CodebookUse
from pretrain.tokenizer.vae import (
    DiscreteVAE,
    kl_to_uniform,
    load_tensors,
    logit_laplace_nll,
    map_pixels,
    read_tokenizer,
    unmap_pixels,
    write_tokenizer,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "dalle_encoder"
TINY = VAESizes(vocab_size=16, n_hid=8, n_blk_per_group=1, n_init=8)


def test_golden_dalle_encoder() -> None:
    case = load_file(GOLDEN / "case.safetensors")
    about = json.loads((GOLDEN / "case.json").read_text())
    names = ("n_hid", "n_blk_per_group", "group_count", "vocab_size")
    vae = DiscreteVAE(VAESizes(**{n: about[n] for n in names}), with_decoder=False)
    weights = load_file(GOLDEN / "weights.safetensors")
    load_tensors(vae, {f"encoder.{name}": t for name, t in weights.items()}, "golden")
    logits = vae.logits(case["images"])
    assert (logits - case["logits"]).abs().max() / case["logits"].abs().max() < 1e-4
    assert torch.equal(vae.tokens(case["images"]), case["tokens"].flatten(1))


def test_full_size_is_dalles() -> None:
    with torch.device("meta"):
        vae = DiscreteVAE(VAESizes())
    assert vae.downsampling == 8
    names = set(vae.state_dict())
    assert "decoder.blocks.group_4.block_2.res_path.conv_4.w" in names
    assert vae.get_parameter("decoder.blocks.input.w").shape == (128, 8192, 1, 1)
    assert vae.get_parameter("encoder.blocks.output.conv.w").shape == (8192, 2048, 1, 1)
    assert vae.get_parameter("decoder.blocks.group_1.block_1.res_path.conv_1.w").shape[-1] == 1


def test_logit_laplace_is_a_density_and_pixels_map_back() -> None:
    x = torch.linspace(1e-4, 1 - 1e-4, 100_001).view(1, 1, 1, -1).expand(1, 3, 1, -1)
    parameters = torch.tensor([0.3, -1.0, 0.0, -0.5, 0.2, -1.0]).view(1, 6, 1, 1)
    density = torch.exp(-logit_laplace_nll(x.double(), parameters.expand(1, 6, 1, x.shape[-1])))
    assert torch.allclose(
        torch.trapezoid(density, x.double(), dim=-1), torch.ones(1).double(), atol=2e-3
    )
    images = torch.rand(2, 3, 4, 4)
    assert torch.allclose(unmap_pixels(map_pixels(images)), images, atol=1e-6)


def test_kl_to_uniform_by_hand() -> None:
    assert kl_to_uniform(torch.zeros(1, 8, 2, 2)).abs().max() < 1e-6
    certain = torch.zeros(1, 8, 1, 1)
    certain[0, 3] = 100.0
    assert kl_to_uniform(certain).item() == pytest.approx(math.log(8), rel=1e-5)


def test_loss_weighs_the_kl_by_beta_over_192() -> None:
    torch.manual_seed(0)
    vae = DiscreteVAE(TINY)
    images = torch.rand(2, 3, 32, 32)
    parts = vae(images, temperature=1.0, beta=6.6)
    expected = parts["reconstruction"] + 6.6 / 192 * parts["kl"]
    assert torch.isclose(parts["loss"], expected)
    parts["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in vae.parameters())


def test_tokens_and_decode_agree_on_shapes() -> None:
    vae = DiscreteVAE(TINY).eval()
    tokens = vae.tokens(torch.rand(2, 3, 16, 32))
    assert tokens.shape == (2, 8)
    assert tokens.dtype == torch.int64
    images = vae.decode(tokens.unflatten(1, (2, 4)))
    assert images.shape == (2, 3, 16, 32)
    assert images.min() >= 0
    assert images.max() <= 1
    with pytest.raises(ValueError, match="multiple of 8"):
        vae.tokens(torch.rand(1, 3, 20, 32))


def test_codebook_use_by_hand() -> None:
    use = CodebookUse.of(CodebookUse.count(torch.tensor([[0, 0], [3, 3]]), vocab_size=8))
    assert (use.used, use.dead) == (2, 6)
    assert use.perplexity == pytest.approx(2.0)


def test_file_round_trip_with_and_without_decoder(tmp_path: Path) -> None:
    images = torch.rand(1, 3, 16, 16)
    for with_decoder in (True, False):
        vae = DiscreteVAE(TINY, with_decoder=with_decoder)
        write_tokenizer(tmp_path / "t.safetensors", vae, {"steps": 3})
        again = read_tokenizer(tmp_path / "t.safetensors")
        assert again.sizes == TINY
        assert again.digest() == vae.digest()
        assert torch.equal(again.tokens(images), vae.tokens(images))
        assert not any(p.requires_grad for p in again.parameters())
        assert not again.training
    with pytest.raises(ValueError, match="encoder only"):
        again.decode(torch.zeros(1, 2, 2, dtype=torch.int64))


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    with pytest.raises(FileNotFoundError, match="train_tokenizer"):
        read_tokenizer(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a tokenizer file"):
        read_tokenizer(path)
    vae = DiscreteVAE(TINY)
    write_tokenizer(path, vae, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"t\.safetensors: the file cannot be read"):
        read_tokenizer(path)
    tensors = dict(vae.state_dict())
    tensors.pop("encoder.blocks.input.b")
    with pytest.raises(ValueError, match=r"encoder\.blocks\.input\.b"):
        load_tensors(DiscreteVAE(TINY), tensors, "file")
