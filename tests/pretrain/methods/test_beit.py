"""BEiT: the official outputs, its initialisation, and what belongs to the encoder file."""

import json
import math
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor

from pretrain.config.tokenizer import VAESizes
from pretrain.methods.beit import BEiT
from pretrain.tokenizer.vae import DiscreteVAE
from tools.golden.official import beit_from_official

GOLDEN = Path(__file__).parents[2] / "golden" / "beit_mim"
TINY = {"embed_dim": 48, "depth": 2, "num_heads": 3, "patch_size": 16, "init_values": 0.1}


def tiny_tokenizer(seed: int = 0) -> DiscreteVAE:
    torch.manual_seed(seed)
    return DiscreteVAE(VAESizes(vocab_size=32, n_hid=8, n_blk_per_group=1, n_init=8)).eval()


def tiny_beit(seed: int = 0, **options: object) -> BEiT:
    torch.manual_seed(seed)
    return BEiT(arch_args=TINY, image_size=64, **options)  # type: ignore[arg-type]


def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 64, 64, generator=generator)
    visible = torch.rand(2, 1, 4, 4, generator=generator) > 0.4
    return images, visible, torch.rand(2, 3, 32, 32, generator=generator)


def relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def test_golden_outputs_loss_and_gradient() -> None:
    case, about = (
        load_file(GOLDEN / "case.safetensors"),
        json.loads((GOLDEN / "case.json").read_text()),
    )
    model = beit_from_official(
        load_file(GOLDEN / "weights.safetensors"),
        image_size=about["img_size"],
        num_heads=about["heads"],
        drop_path_rate=0.0,
    )
    images, visible = case["images"], ~case["masked"].bool().view(2, 1, 4, 4)
    assert relative(model.features(images), case["features_unmasked"]) < 1e-4
    assert relative(model.features(images, visible), case["features_masked"]) < 1e-4
    assert relative(model.logits(images, visible), case["logits_masked"]) < 1e-4
    loss = model.loss_from_tokens(images, visible, case["tokens"])
    assert relative(loss[None], case["loss"]) < 1e-4
    loss.backward()
    weight = model.encoder.get_parameter("patch_embed.proj.weight")
    assert weight.grad is not None
    assert relative(weight.grad, case["grad:patch_embed.proj.weight"]) < 1e-4


def test_loading_official_tensors_is_strict() -> None:
    tensors = load_file(GOLDEN / "weights.safetensors")
    del tensors["blocks.1.norm2.bias"]
    with pytest.raises(RuntimeError, match=r"blocks\.1\.norm2\.bias"):
        beit_from_official(tensors, image_size=64, num_heads=3)


def test_initialisation_follows_the_official_code() -> None:
    model = tiny_beit(vocab_size=32)
    encoder = model.encoder
    cut = 0.02 + 1e-7
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            assert parameter.abs().max() <= cut, name
    # Normal(0, 1) cut at +-1 has a standard deviation of 0.5396
    for layer, block in enumerate(encoder.blocks, start=1):
        assert block.mlp.fc1.weight.std().item() == pytest.approx(0.02 * 0.5396, rel=0.05)
        for scaled in (block.attn.proj.weight, block.mlp.fc2.weight):
            expected = 0.02 * 0.5396 / math.sqrt(2 * layer)
            assert scaled.std().item() == pytest.approx(expected, rel=0.05)
        assert (block.gamma_1 == 0.1).all()
        assert (block.attn.q_bias == 0).all()
    assert (encoder.rel_pos_bias.relative_position_bias_table == 0).all()
    assert model.mask_token.abs().max() > 0.01
    rates = [b.drop_path1.drop_prob for b in tiny_beit(vocab_size=32).encoder.blocks[1:]]
    assert rates == [pytest.approx(0.1)]


def test_masked_pixels_are_unseen_and_visible_tokens_unscored() -> None:
    model = tiny_beit(vocab_size=32).eval()
    images, visible, _ = batch()
    tokens = torch.randint(32, (2, 16))
    loss = model.loss_from_tokens(images, visible, tokens)
    pixels = visible.repeat_interleave(16, 2).repeat_interleave(16, 3)
    other = torch.where(pixels, images, torch.randn_like(images))
    assert model.loss_from_tokens(other, visible, tokens) == loss
    changed = torch.where(visible.flatten(1), (tokens + 1) % 32, tokens)
    assert model.loss_from_tokens(images, visible, changed) == loss
    wrong = torch.where(visible.flatten(1), tokens, (tokens + 1) % 32)
    assert model.loss_from_tokens(images, visible, wrong) != loss


def test_tokenizer_is_frozen_and_outside_the_state() -> None:
    tokenizer = tiny_tokenizer()
    before = tokenizer.digest()
    model = tiny_beit(tokenizer=tokenizer)
    assert model.lm_head.out_features == 32
    assert model.token_image_size == 32
    assert not [name for name, _ in model.named_parameters() if "tokenizer" in name]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(*batch())["loss"].backward()
    optimizer.step()
    assert tokenizer.digest() == before
    model.double()
    assert next(tokenizer.parameters()).dtype == torch.float64  # moves with the model


def test_another_tokenizer_is_refused_on_resume() -> None:
    state = tiny_beit(tokenizer=tiny_tokenizer()).state_dict()
    tiny_beit(seed=1, tokenizer=tiny_tokenizer()).load_state_dict(state)
    with pytest.raises(ValueError, match="resume with the tokenizer"):
        tiny_beit(tokenizer=tiny_tokenizer(seed=1)).load_state_dict(state)


def test_encoder_state_is_what_timm_builds_from_arch_args() -> None:
    model = tiny_beit(vocab_size=32).eval()
    encoder = timm.create_model(model.arch, pretrained=False, num_classes=0, **model.arch_args)
    encoder.load_state_dict(model.encoder_state())
    names = set(model.encoder_state())
    assert {"rel_pos_bias.relative_position_bias_table", "norm.weight"} <= names
    images = batch()[0]
    features = encoder.eval().forward_features(images)
    assert torch.equal(features, model.features(images))


def test_no_layer_scale_may_be_asked_for_by_none_or_0() -> None:
    """timm's create_model leaves out None, and would build the gammas of the architecture."""
    for none in (None, 0):
        model = BEiT(arch_args={**TINY, "init_values": none}, image_size=64, vocab_size=32)
        assert model.arch_args["init_values"] == 0
        assert not [name for name in model.encoder_state() if "gamma" in name]


def test_reconstruction_decodes_true_and_predicted_tokens() -> None:
    model = tiny_beit(tokenizer=tiny_tokenizer(), pixel_std=(0.25, 0.25, 0.25)).eval()
    images, visible, token_images = batch()
    everything = torch.ones_like(visible)
    shown = model.reconstruct(images, everything, token_images)
    assert shown.shape == images.shape
    tokens = model.tokens(token_images).unflatten(1, (4, 4))
    decoded = model.tokenizer.decode(tokens)
    back = torch.nn.functional.avg_pool2d(shown * 0.25 + 0.5, 2)
    assert (back - decoded).abs().mean() < 0.02
    assert not torch.equal(model.reconstruct(images, visible, token_images), shown)


def test_the_loss_is_that_of_the_masked_patches_alone() -> None:
    """Whatever the most is that a mask may hide; a mask that hides more is refused."""
    model = tiny_beit(vocab_size=32).eval()
    images, visible, _ = batch()
    tokens = torch.randint(32, (2, 16))
    masked = ~visible.flatten(1)
    logits = model.logits(images, visible)
    likeliest = logits.argmax(1)
    right = torch.arange(len(likeliest)) % 3 == 0  # a third of them
    tokens[masked] = torch.where(right, likeliest, (likeliest + 1) % 32)
    expected = torch.nn.functional.cross_entropy(logits, tokens[masked])
    largest = int((~visible).flatten(1).sum(1).max())
    for model.most_masked in (16, largest):
        scores = model.score_tokens(images, visible, tokens)
        assert scores["loss"].item() == pytest.approx(expected.item(), rel=1e-6)
        assert scores["mlm_acc"].item() == pytest.approx(right.float().mean().item())
    model.most_masked = largest - 1
    with pytest.raises(ValueError, match=f"hides more than {largest - 1}"):
        model.loss_from_tokens(images, visible, tokens)


def test_misuse_is_explained() -> None:
    with pytest.raises(ValueError, match="needs a tokenizer"):
        BEiT(arch_args=TINY, image_size=64)
    with pytest.raises(ValueError, match="not a timm Beit"):
        BEiT(arch="vit_tiny_patch16_224", arch_args={}, image_size=224, vocab_size=8)
    model = tiny_beit(tokenizer=tiny_tokenizer())
    images, visible, _ = batch()
    with pytest.raises(ValueError, match="resize them to 32"):
        model(images, visible, torch.rand(2, 3, 64, 64))
