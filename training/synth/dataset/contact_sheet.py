"""A picture of a data set, for looking at it."""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange

from delit_models.color import tone_map
from delit_models.errors import DelitError
from delit_models.image_files import read_env_map, read_image, write_image
from delit_models.lat_long import resample_env

_TILE = 192


def _tile(image: torch.Tensor) -> torch.Tensor:
    """[H, W, 3] to a square tile, fitted in width."""
    height = round(_TILE * image.shape[0] / image.shape[1])
    small = torch.nn.functional.interpolate(
        rearrange(image, "h w c -> 1 c h w"), (height, _TILE), mode="bilinear", antialias=True
    )
    tile = torch.zeros(_TILE, _TILE, 3)
    top = (_TILE - height) // 2
    tile[top : top + height] = rearrange(small, "1 c h w -> h w c")
    return tile


def write_contact_sheet(
    dataset_dir: Path,
    subjects: int = 16,
    relits: int = 3,
    columns: int = 2,
    records: list[dict] | None = None,
    path: Path | None = None,
) -> Path:
    """Writes contact_sheet.jpg, or `path`: flat-lit and some relit pictures, with their light, a subject.

    `records` are the index lines to show, all of them if None. Returns the picture's path.
    Raises DelitError for a folder without finished pairs.
    """
    if records is None:
        # Only here: looking at a data set needs none of what generating one does.
        from .folder import read_index

        records = read_index(dataset_dir)
    by_subject: dict[str, list[dict]] = {}
    for record in records:
        by_subject.setdefault(record["subject"], []).append(record)
    if not by_subject:
        raise DelitError(f"{dataset_dir} has no finished pairs to show yet.")
    names = sorted(by_subject)[:subjects]
    relits = min(relits, max(len(by_subject[name]) for name in names))
    strips = []
    for name in names:
        shown = by_subject[name][:relits]
        tiles = [_tile(read_image(dataset_dir / shown[0]["flat"])[..., :3])]
        for record in shown:
            tiles.append(_tile(read_image(dataset_dir / record["relit"])[..., :3]))
            env = resample_env(read_env_map(dataset_dir / record["env_map"]).radiance, 64, 128)
            tiles.append(_tile(tone_map(env)))
        blank = [torch.zeros(_TILE, _TILE, 3)] * (1 + 2 * relits - len(tiles))
        strips.append(torch.cat(tiles + blank, dim=1))
    strips += [torch.zeros_like(strips[0])] * (-len(strips) % columns)
    rows = [torch.cat(strips[start : start + columns], dim=1) for start in range(0, len(strips), columns)]
    path = path or dataset_dir / "contact_sheet.jpg"
    write_image(path, torch.cat(rows, dim=0))
    return path
