"""Turn DALL-E's released files into a tokenizer file for BEiT, without unpickling them.

    python tools/convert_dalle.py encoder.pkl [--decoder decoder.pkl] --out OUT.safetensors

Download them yourself: https://cdn.openai.com/dall-e/encoder.pkl and .../decoder.pkl. The decoder
is needed for pictures only.
"""

import hashlib
import sys
from pathlib import Path
from typing import Annotated

import tyro

from pretrain.run.stop import exit_status
from pretrain.tokenizer.dalle_release import convert
from pretrain.tokenizer.vae import write_tokenizer


def run(
    encoder: Annotated[Path, tyro.conf.Positional], out: Path, decoder: Path | None = None
) -> None:
    """Read, check, write, and say what was found."""
    vae = convert(encoder, decoder)
    sources = [path for path in (encoder, decoder) if path]
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sources}
    write_tokenizer(out, vae, {"converted_from_sha256": sums})
    print(f"{out}: {vae.sizes}, {'with' if decoder else 'without'} decoder")


def main() -> int:
    """Run the tool and return its exit status."""
    return exit_status(lambda: tyro.cli(run, description=__doc__))


if __name__ == "__main__":
    sys.exit(main())
