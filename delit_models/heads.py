"""The trained part of Delit: heads on the latents of a frozen Wan VAE.

    z → FeatureExtractor → f → MatteProjection → matte   (where the subject is)
                             → FlatProjection → z_flat = z + matte · change   (the VAE decodes the flat-lit image)
                             → EnvProjection → EnvDecoder → env code   (`env_codec.decode_env` → radiance)

Latents come in and go out as the VAE has them; inside, they are normalised by the statistics that the heads'
own configuration carries. One forward pass, no sampling.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .errors import DelitError
from .heads_blocks import (
    GlobalBlock,
    QueryBlock,
    ResidualBlock,
    double_around,
    fourier_features,
    pad_around,
    position_features,
)
from .heads_limits import check_settings
from .lat_long import direction_grid
from .wan_vae import LATENT_MEAN, LATENT_STD

# What the heads predict of the light: the shared-exponent code of env_codec, as a lat-long.
ENV_CODE_CHANNELS = 4
ENV_HEIGHT = 128
ENV_WIDTH = 256


# What heads had whose files say nothing of it.
_BEFORE_FORMAT_2 = {"matte": False, "env_sees_middle": False}


class HeadsOutput(NamedTuple):
    """What the heads say of latents [B, 16, h, w] (of a clip [B, 16, t, h, w]).

    Attributes:
        z_flat: the flat-lit latent, of the input's shape.
        env_code: the light's code in [0, 1], [B, 4, 128, 256] (of a clip [B, t, 4, 128, 256]).
        matte: how much of each latent cell is subject, in [0, 1], [B, 1, h, w] (of a clip [B, 1, t, h, w]); 1
            everywhere from heads that know no matte.
    """

    z_flat: Tensor
    env_code: Tensor
    matte: Tensor


@dataclass(frozen=True)
class DelitConfig:
    """Everything needed to build the heads; stored as JSON in the metadata of their weights file.

    `working_size` is the longest image side in pixels that the heads were trained at, and therefore the size
    that the pipeline works at unless told otherwise. `matte`: whether the heads say where the subject is, and change
    nothing elsewhere. `env_sees_middle`: whether the light is read off the middle of the extractor, too, which sees
    the whole image at once. Heads from before these two were known have neither.

    `temporal`: whether the VAE that the heads belong to is good in time, so that clips go through it as clips. It is
    not where only stills trained it, as the embedded one: clips then go through frame by frame, as stills. Files that
    say nothing of it are taken as such.
    """

    latent_mean: tuple[float, ...] = LATENT_MEAN
    latent_std: tuple[float, ...] = LATENT_STD
    feature_channels: int = 32
    extractor_widths: tuple[int, ...] = (48, 96, 160)
    flat_width: int = 96
    env_token_width: int = 192
    env_query_blocks: int = 3
    env_context_grid: int = 16
    env_decoder_widths: tuple[int, ...] = (160, 128, 64, 16)
    attention_heads: int = 4
    working_size: int = 512
    matte: bool = True
    env_sees_middle: bool = True
    temporal: bool = False

    def __post_init__(self) -> None:
        check_settings(vars(self))

    @property
    def latent_channels(self) -> int:
        return len(self.latent_mean)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DelitConfig:
        """Rebuild from `to_dict` (through JSON), older versions' included. Raises DelitError on a name that this
        version does not know, and on a value that no heads have."""
        if not isinstance(values, dict):
            raise DelitError("The heads' configuration is no JSON object.")
        values = _BEFORE_FORMAT_2 | values
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise DelitError(
                f"The heads' configuration has settings that this Delit does not know: {', '.join(unknown)}. "
                "The heads are probably newer than the pack: update Delit."
            )
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


class FeatureExtractor(nn.Module):
    """A small U-Net over normalised latents, with attention over the whole image on its coarsest grid."""

    def __init__(self, config: DelitConfig, operations: Any) -> None:
        super().__init__()
        widths = config.extractor_widths
        self.stem = operations.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width, width, operations) for _ in range(2)))
            for width in widths[:-1]
        )
        self.downs = nn.ModuleList(
            operations.Conv2d(fine, coarse, 3, stride=2, padding=1)
            for fine, coarse in zip(widths[:-1], widths[1:], strict=True)
        )
        self.middle = nn.Sequential(
            ResidualBlock(widths[-1], widths[-1], operations),
            GlobalBlock(widths[-1], config.attention_heads, operations),
            ResidualBlock(widths[-1], widths[-1], operations),
            GlobalBlock(widths[-1], config.attention_heads, operations),
        )
        self.ups = nn.ModuleList(
            ResidualBlock(coarse + fine, fine, operations)
            for fine, coarse in zip(widths[:-1], widths[1:], strict=True)
        )
        self.out = operations.Conv2d(widths[0], config.feature_channels, 3, padding=1)

    def forward(self, z_normalised: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, 32, h, w], and the middle's [B, 160, h/4, w/4] that they were made with."""
        x = self.stem(z_normalised)
        skips = []
        for blocks, down in zip(self.down_blocks, self.downs, strict=True):
            x = blocks(x)
            skips.append(x)
            x = down(x)
        x = middle = self.middle(x)
        for up in reversed(self.ups):
            skip = skips.pop()
            # Latents of any size come in: an odd side is rounded up on the way down and cut here.
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = up(torch.cat((x, skip), dim=1))
        return self.out(x), middle


class MatteProjection(nn.Module):
    """Features → how much of each latent cell is subject."""

    # Before training all is subject, or nearly: heads that go on from matteless ones do as those did.
    START = 4.0

    def __init__(self, config: DelitConfig, operations: Any) -> None:
        super().__init__()
        channels_in = config.feature_channels + config.latent_channels
        self.widen = operations.Conv2d(channels_in, config.feature_channels, 3, padding=1)
        self.block = ResidualBlock(config.feature_channels, config.feature_channels, operations)
        self.out = operations.Conv2d(config.feature_channels, 1, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.constant_(self.out.bias, self.START)

    def forward(self, features: Tensor, z_normalised: Tensor) -> Tensor:
        hidden = self.block(self.widen(torch.cat((features, z_normalised), dim=1)))
        return torch.sigmoid(self.out(F.silu(hidden)))


class FlatProjection(nn.Module):
    """Features → what to add to the normalised latent to take the light off."""

    def __init__(self, config: DelitConfig, operations: Any) -> None:
        super().__init__()
        channels_in = config.feature_channels + config.latent_channels
        self.widen = operations.Conv2d(channels_in, config.flat_width, 3, padding=1)
        self.blocks = nn.Sequential(
            *(ResidualBlock(config.flat_width, config.flat_width, operations) for _ in range(2))
        )
        self.out = operations.Conv2d(config.flat_width, config.latent_channels, 3, padding=1)
        # Start as the identity: before training, "flat-lit" is the input itself.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor, z_normalised: Tensor) -> Tensor:
        hidden = self.widen(torch.cat((features, z_normalised), dim=1))
        return self.out(F.silu(self.blocks(hidden)))


class EnvProjection(nn.Module):
    """Features of any size → tokens on a fixed grid over the image, with their place in it. What the extractor's
    middle knows of the whole image is added where it lies: all of the light would have to pass the features' few
    channels otherwise."""

    def __init__(self, config: DelitConfig, operations: Any) -> None:
        super().__init__()
        self.grid = config.env_context_grid
        self.mix = ResidualBlock(config.feature_channels, 96, operations)
        self.tokens = operations.Linear(96, config.env_token_width)
        self.place = operations.Linear(position_features(1, 1).shape[-1], config.env_token_width)
        self.norm = operations.LayerNorm(config.env_token_width)
        self.middle = None
        if config.env_sees_middle:
            self.middle = operations.Linear(config.extractor_widths[-1], config.env_token_width)
            nn.init.zeros_(self.middle.weight)
            nn.init.zeros_(self.middle.bias)

    def forward(self, features: Tensor, middle: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(self.mix(features), self.grid)
        tokens = self.tokens(rearrange(pooled, "b c h w -> b (h w) c"))
        if self.middle is not None:
            seen = F.interpolate(middle, size=(self.grid, self.grid), mode="bilinear", align_corners=False)
            tokens = tokens + self.middle(rearrange(seen, "b c h w -> b (h w) c"))
        places = position_features(self.grid, self.grid).to(tokens)
        return self.norm(tokens + self.place(places))


class EnvDecoder(nn.Module):
    """Image tokens → env code. Each cell of a coarse lat-long asks the whole image what light comes from its
    direction; convolutions that wrap around the seam then refine the map, each at half the size of the next, where
    it costs a quarter."""

    def __init__(self, config: DelitConfig, operations: Any) -> None:
        super().__init__()
        width = config.env_token_width
        self.coarse_height = ENV_HEIGHT >> len(config.env_decoder_widths)
        self.query = operations.Linear(self._directions().shape[-1], width)
        self.blocks = nn.ModuleList(
            QueryBlock(width, width, config.attention_heads, operations)
            for _ in range(config.env_query_blocks)
        )
        widths = (width, *config.env_decoder_widths)
        self.convs = nn.ModuleList(
            operations.Conv2d(coarse, fine, 3) for coarse, fine in zip(widths[:-1], widths[1:], strict=True)
        )
        self.out = operations.Conv2d(widths[-1], ENV_CODE_CHANNELS, 3)

    def _directions(self) -> Tensor:
        directions = direction_grid(self.coarse_height, 2 * self.coarse_height)
        return fourier_features(rearrange(directions, "h w d -> (h w) d").float(), octaves=3)

    def forward(self, context: Tensor) -> Tensor:
        tokens = self.query(self._directions().to(context)).expand(context.shape[0], -1, -1)
        for block in self.blocks:
            tokens = block(tokens, context)
        x = rearrange(tokens, "b (h w) c -> b c h w", h=self.coarse_height)
        for conv in self.convs:
            x = double_around(F.silu(conv(pad_around(x))))
        return torch.sigmoid(self.out(pad_around(x)))


class DelitHeads(nn.Module):
    """All heads. `operations` supplies the layers: `torch.nn`, or ComfyUI's casting ones."""

    def __init__(self, config: DelitConfig, operations: Any = nn) -> None:
        super().__init__()
        self.config = config
        self.extractor = FeatureExtractor(config, operations)
        self.matte_projection = MatteProjection(config, operations) if config.matte else None
        self.flat_projection = FlatProjection(config, operations)
        self.env_projection = EnvProjection(config, operations)
        self.env_decoder = EnvDecoder(config, operations)

    def forward(self, z: Tensor) -> HeadsOutput:
        """Take the light off a latent, and say what the light was and where the subject is.

        Args:
            z: latent of the relit image as the VAE gives it, [B, 16, h, w], or of a clip, [B, 16, t, h, w],
                which is treated frame by frame.

        Raises:
            DelitError: if z has another number of dimensions or channels.
        """
        self._check(z)
        if z.ndim == 5:
            return clip_output(self.forward(rearrange(z, "b c t h w -> (b t) c h w")), z.shape[2])
        mean = z.new_tensor(self.config.latent_mean)[:, None, None]
        std = z.new_tensor(self.config.latent_std)[:, None, None]
        z_normalised = (z - mean) / std
        features, middle = self.extractor(z_normalised)
        if self.matte_projection is None:
            matte = torch.ones_like(z[:, :1])
        else:
            matte = self.matte_projection(features, z_normalised)
        z_flat = z + matte * std * self.flat_projection(features, z_normalised)
        return HeadsOutput(z_flat, self.env_decoder(self.env_projection(features, middle)), matte)

    def _check(self, z: Tensor) -> None:
        channels = self.config.latent_channels
        if z.ndim not in (4, 5) or z.shape[1] != channels:
            raise DelitError(
                f"The heads were given a latent of shape {tuple(z.shape)}, but they work on latents of a Wan 2.1 "
                f"VAE: [batch, {channels}, height, width] or [batch, {channels}, frames, height, width]. "
                "Encode the image with the Wan 2.1 VAE (an SD or Flux latent does not fit)."
            )


def clip_output(frames: HeadsOutput, count: int) -> HeadsOutput:
    """The output for a batch of frames, [B · count, …], as that of a batch of clips of `count` frames."""
    return HeadsOutput(
        rearrange(frames.z_flat, "(b t) c h w -> b c t h w", t=count),
        rearrange(frames.env_code, "(b t) c h w -> b t c h w", t=count),
        rearrange(frames.matte, "(b t) c h w -> b c t h w", t=count),
    )


def grown_heads(heads: DelitHeads) -> DelitHeads:
    """Heads of today's architecture that do what `heads`, perhaps of an earlier one, do; to train on."""
    config = replace(heads.config, matte=True, env_sees_middle=True)
    grown = DelitHeads(config)
    grown.load_state_dict(heads.state_dict(), strict=heads.config == config)
    return grown
