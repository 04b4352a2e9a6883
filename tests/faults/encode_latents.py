"""The latent cache of the heads' training by itself, for the harness: in chunks of one pair, with the means of patches
in place of a VAE.

    python -m tests.faults.encode_latents DATA OUTPUT
"""

from __future__ import annotations

import sys
from pathlib import Path

from delit_models.errors import DelitError
from tests.unit.patch_means import PatchMeans
from training.augment.rows import VariantRows
from training.augment.variants import AugmentConfig
from training.data.shards import open_pairs
from training.heads import latent_cache
from training.heads.encoding import encode_missing
from training.heads.latent_cache import open_latent_cache

VARIANTS = 3


def main(data: str, output: str) -> int:
    """Encode what is missing."""
    latent_cache.CHUNK_ROWS = VARIANTS
    rows = VariantRows(open_pairs(data, "train"), VARIANTS, AugmentConfig(), 0)
    try:
        encode_missing(open_latent_cache(PatchMeans(), rows, Path(output)), PatchMeans(), rows)
    except DelitError as error:
        print(f"✗ {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
