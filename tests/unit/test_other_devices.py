"""What ComfyUI may run on a GPU, on a device that has no float64 and whose tensors do not mix with others."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from delit_models import color
from delit_models.closure import closure
from delit_models.env_map_transform import EnvMapTransform, transform_env_map
from delit_models.key_lights import find_key_lights
from delit_models.pipeline import DelitOptions, DelitPipeline
from delit_models.relight import relight
from tests.unit.pretend_device import NAME, PretendDevice
from training.loop.watch import LossWatch


def pictures(count: int = 1, side: int = 72) -> Tensor:
    coarse = torch.rand(count, 3, 5, 5)
    return (
        torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear").permute(0, 2, 3, 1) * 0.8
    )


def test_the_device_refuses_what_a_real_one_does() -> None:
    with PretendDevice() as device:
        x = device.put(torch.ones(3))
        assert x.device == (x + 1).device == torch.zeros(2, device=x.device).device == NAME
        assert x.cpu().device.type == torch.ones(3).device.type == "cpu"
        assert torch.ones(3).to(x.device).device == torch.ones(3).to(x).device == NAME
        with pytest.raises(TypeError, match="no torch.float64"):
            x.double()
        with pytest.raises(TypeError, match="no torch.float64"):
            torch.full_like(x, 1, dtype=torch.float64)
        with pytest.raises(RuntimeError, match="same device"):
            x + torch.ones(3)
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()
        assert x.cpu().double().sum().item() == 3


@pytest.fixture(scope="module")
def pipe() -> DelitPipeline:
    return DelitPipeline.embedded()


@pytest.mark.parametrize(
    "options",
    [
        DelitOptions(),
        DelitOptions(area="picture", outside="black", detail_transfer=False),
        DelitOptions(coding="ACEScg", exposure=0.5),
        DelitOptions(clip=True),
        DelitOptions(clip=True, env_pooling="frame", coding="linear Rec.709"),
    ],
    ids=["still", "without detail", "plate", "clip", "plates in time"],
)
def test_the_pipeline(pipe: DelitPipeline, options: DelitOptions) -> None:
    images, mask = pictures(3 if options.clip else 1), torch.ones(1, 72, 72)
    with PretendDevice() as device:
        device.put(pipe.vae)
        device.put(pipe.heads)
        there = pipe(device.put(images), device.put(mask) if options.area == "picture" else None, options)
        assert there.flat.device == there.env.device == there.gain.device == there.matte.device == NAME
        # As ComfyUI has it: pictures in the processor's memory, the models on the device.
        here = pipe(images, None, replace(options, area="subject"))
        assert here.flat.device.type == here.env.device.type == "cpu"


def test_light_and_pictures_in_it() -> None:
    source, env = pictures(), torch.rand(1, 32, 64, 3) * 4
    normals = torch.tensor([0.5, 0.5, 1.0]).expand(1, 72, 72, 3).contiguous()
    with PretendDevice() as device:
        source, env, normals = map(device.put, (source, env, normals))
        assert relight(source, normals, env).picture.device == NAME
        assert closure(source, source * 0.9, normals, env).map.device == NAME
        turned = transform_env_map(
            env, EnvMapTransform(yaw=10, pitch=5, temperature=5000, height=64, target="blender")
        )
        assert turned.device == NAME and color.tone_map(turned).device == NAME
        find_key_lights(turned[0])


def test_a_training_step_and_its_watch() -> None:
    with PretendDevice() as device:
        watch = LossWatch()
        watch.note(0, {"flat": device.put(torch.tensor(1.0)), "light": device.put(torch.tensor(2.0))})
        assert watch.first_bad_step() is None and watch.means() == {"flat": 1.0, "light": 2.0}
