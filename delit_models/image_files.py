"""Ordinary pictures: PNG, JPEG, WebP and TIFF, 8 or 16 bits a channel, sRGB-coded values in [0, 1].

HDR environment maps are in `env_map_files`; `read_env_map` and `write_env_map` can be had from here too.
"""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path

import numpy as np
import OpenImageIO as oiio
import torch
from einops import rearrange
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from .atomic_write import atomic_write
from .env_map_files import EnvMap, read_env_map, write_env_map
from .errors import DelitError
from .oiio_files import check_readable, read_pixels, write_pixels

__all__ = ["EnvMap", "read_env_map", "read_image", "write_env_map", "write_image"]

logger = logging.getLogger(__name__)
