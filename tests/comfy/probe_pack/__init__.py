"""A ComfyUI pack for the tests alone: exact tensors in and out of a graph, which PNG files would round.

Copied into the custom_nodes of every test server.
"""

from __future__ import annotations

import os

import folder_paths
import numpy as np
import torch


class TestTensor:
    """A .npy file of the input folder, as an IMAGE, as a MASK, as a LATENT's samples and as CONDITIONING."""

    RETURN_TYPES = ("IMAGE", "MASK", "LATENT", "CONDITIONING")
    FUNCTION = "load"
    CATEGORY = "test"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {"file": ("STRING", {})}}

    @classmethod
    def IS_CHANGED(cls, file: str) -> str:
        return f"{file} {os.stat(_input_path(file)).st_mtime_ns}"

    def load(self, file: str) -> tuple:
        tensor = torch.from_numpy(np.load(_input_path(file)))
        return tensor, tensor, {"samples": tensor}, [[tensor, {}]]


class TestDump:
    """An IMAGE, or a LATENT's samples, to a .npy file of the output folder."""

    RETURN_TYPES = ()
    FUNCTION = "dump"
    CATEGORY = "test"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {"file": ("STRING", {})},
            "optional": {"image": ("IMAGE",), "latent": ("LATENT",)},
        }

    def dump(self, file: str, image: torch.Tensor | None = None, latent: dict | None = None) -> dict:
        tensor = latent["samples"] if image is None else image
        np.save(os.path.join(folder_paths.get_output_directory(), file), tensor.cpu().numpy())
        return {}


def _input_path(file: str) -> str:
    return os.path.join(folder_paths.get_input_directory(), file)


NODE_CLASS_MAPPINGS = {"TestTensor": TestTensor, "TestDump": TestDump}
