"""Everything that ComfyUI gets from Delit."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .env_map_viewer import DelitPreviewEnvMap
from .env_maps import DelitDecodeEnv, DelitLoadEnvMap, DelitSaveEnvMap
from .light import DelitEnvMapTransform, DelitKeyLight
from .loaders import DelitExamplePortrait, DelitLoadModel, DelitLoadWanVAE
from .plates import DelitLoadPlate, DelitSavePlate
from .portrait import DelitPortrait
from .relight import DelitClosure, DelitRelight
from .stages import DelitApply, DelitDecode, DelitEncode
from .video import DelitVideo
from .wires import with_checked_wires


class DelitExtension(ComfyExtension):
    """Delit's nodes. Their ids are permanent: saved workflows name them."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        nodes = [
            DelitPortrait,
            DelitLoadWanVAE,
            DelitLoadModel,
            DelitEncode,
            DelitApply,
            DelitDecode,
            DelitDecodeEnv,
            DelitSaveEnvMap,
            DelitLoadEnvMap,
            DelitLoadPlate,
            DelitSavePlate,
            DelitExamplePortrait,
            DelitKeyLight,
            DelitEnvMapTransform,
            DelitPreviewEnvMap,
            DelitRelight,
            DelitClosure,
            DelitVideo,
        ]
        return [with_checked_wires(node) for node in nodes]
