"""The identity of an encoder that a test writes."""

from typing import Any

from pretrain.files.encoder_file import EncoderIdentity


def identity_of(arch: str, arch_args: dict[str, Any], **changes: Any) -> EncoderIdentity:
    """Return an identity of 64 px and one step; `changes` replace any of its fields."""
    fields: dict[str, Any] = {
        "arch": arch,
        "arch_args": arch_args,
        "method": "spark",
        "input_size": 64,
        "pixel_mean": (0.5, 0.4, 0.3),
        "pixel_std": (0.2, 0.2, 0.2),
        "color_order": "RGB",
        "steps": 1,
        "recipe": {},
        "suite_version": "0",
        "commit": "c",
    }
    return EncoderIdentity(**(fields | changes))
