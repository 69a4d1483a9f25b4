"""DALL-E's released files -> a tokenizer file, without executing a pickle.

encoder.pkl and decoder.pkl are whole pickled modules; only their tensors are read.
"""

from pathlib import Path

from torch import Tensor

from pretrain.config.tokenizer import VAESizes
from pretrain.files.read import read_module_tensors
from pretrain.tokenizer.vae import DiscreteVAE, load_tensors

PACKAGES = ("dall_e.", "torch.nn.modules.", "torch.nn.parameter.")  # of the classes in the pickles


def convert(encoder: Path, decoder: Path | None = None) -> DiscreteVAE:
    """Return the tokenizer of the released encoder, and decoder if given; sizes from their tensors.

    Raises FileNotFoundError, or ValueError for a file that is broken, would run code, or holds
    another module.
    """
    tensors = {f"encoder.{n}": t for n, t in read_module_tensors(encoder, PACKAGES).items()}
    if decoder is not None:
        tensors |= {f"decoder.{n}": t for n, t in read_module_tensors(decoder, PACKAGES).items()}
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    try:
        sizes = VAESizes(
            vocab_size=tensors["encoder.blocks.output.conv.w"].shape[0],
            n_hid=tensors["encoder.blocks.input.w"].shape[0],
            n_blk_per_group=_count(tensors, "encoder.blocks.group_1.block_"),
            group_count=_count(tensors, "encoder.blocks.group_"),
            n_init=tensors["decoder.blocks.input.w"].shape[0] if decoder else 128,
        )
    except KeyError as error:
        raise ValueError(f"{encoder} is not a DALL-E encoder: it has no tensor {error}") from error
    vae = DiscreteVAE(sizes, with_decoder=decoder is not None)
    return load_tensors(vae, tensors, str(encoder))


def _count(tensors: dict[str, Tensor], prefix: str) -> int:
    return len({n[len(prefix) :].split(".")[0] for n in tensors if n.startswith(prefix)})
