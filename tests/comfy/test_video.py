"""Videos and clips in a real ComfyUI: streamed through, with sound and rate, interrupted, and as IMAGE batches."""

from __future__ import annotations

import json
import time
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
import torch

from delit_models.pipeline import DelitOptions, DelitPipeline
from delit_models.video.light import ClipLight
from tests.comfy import clips, graphs
from tests.comfy.comfyui import REPOSITORY, ComfyServer
from tests.comfy.test_equal_to_pipeline import WHOLE, assert_equal
from tests.comfy.workflow_json import to_graph

VIDEO_SETTINGS = {
    "working_size": 0,
    "detail_transfer": True,
    "outside": "source",
    "area": "picture",
    "env_pooling": "shot",
}
# Newer versions of Save Video nest the codec in the format.
SAVE_SETTINGS = {"format": "auto", "codec": "auto", "format.codec": "auto"}


def video_graph(file: str, prefix: str, **settings: object) -> dict:
    return {
        "load": graphs.node("LoadVideo", file=file),
        "delit": graphs.node("DelitVideo", video=["load", 0], **{**VIDEO_SETTINGS, **settings}),
        "save": graphs.node("SaveVideo", video=["delit", 0], filename_prefix=prefix, **SAVE_SETTINGS),
        "env": graphs.node("TestDump", file="env.npy", image=["delit", 1]),
    }


def test_a_video_goes_through_with_its_sound_and_rate(server: ComfyServer) -> None:
    file = server.input / "spoken.mp4"
    clips.write_clip(file, clips.panned(12))
    run = server.run(video_graph("spoken.mp4", "video/flat"))
    assert run.error is None
    (saved,) = sorted((server.output / "video").glob("flat*.mp4"))[-1:]
    frames, sound, rate = clips.decoded(saved)
    source, source_sound, source_rate = clips.decoded(file)
    assert frames.shape == source.shape and rate == source_rate
    np.testing.assert_array_equal(sound, source_sound)
    pipe, light = DelitPipeline.embedded("cpu"), ClipLight("shot")
    expected = []
    for frame in pipe.stream(torch.from_numpy(source), options=DelitOptions(area="picture")):
        expected.append(frame.flat)
        light.add(frame.env, frame.starts_shot)
    assert np.abs(frames - torch.stack(expected).numpy()).mean() < 0.02
    assert np.abs(frames - source).mean() > 0.03, "nothing was changed"
    assert_equal(server.dumped("env.npy"), light.pooled())


def test_the_shipped_workflow(server: ComfyServer) -> None:
    workflow = json.loads((REPOSITORY / "workflows" / "delit_video.json").read_text(encoding="utf-8"))
    graph = to_graph(workflow, server.get("/object_info"))
    for node in graph.values():
        if node["class_type"] == "SaveVideo":
            node["inputs"].update(SAVE_SETTINGS)
    assert [node["inputs"] for node in graph.values() if node["class_type"] == "DelitVideo"] == [
        {"video": ["2", 0], **VIDEO_SETTINGS, "area": "subject"}
    ]
    earlier = set((server.output / "video").glob("flat*.mp4"))
    run = server.run(graph)
    assert run.error is None
    (saved,) = set((server.output / "video").glob("flat*.mp4")) - earlier
    frames, sound, rate = clips.decoded(saved)
    assert frames.shape == (12, 128, 128, 3) and sound is not None and rate == clips.RATE
    assert list((server.output / "delit").glob("env*.exr"))


def test_a_video_made_of_images(server: ComfyServer) -> None:
    frames = clips.panned(6)
    graph = {
        "images": graphs.node("TestTensor", file=server.put_array("clip", frames)),
        "load": graphs.node("CreateVideo", images=["images", 0], fps=10.0),
        "delit": graphs.node("DelitVideo", video=["load", 0], **{**VIDEO_SETTINGS, "env_pooling": "frame"}),
        "parts": graphs.node("GetVideoComponents", video=["delit", 0]),
        "flat": graphs.node("TestDump", file="flat.npy", image=["parts", 0]),
        "env": graphs.node("TestDump", file="env.npy", image=["delit", 1]),
    }
    assert server.run(graph).error is None
    assert server.dumped("flat.npy").shape == frames.shape
    assert server.dumped("env.npy").shape == (6, 128, 256, 3)


def test_a_trimmed_video_gives_what_was_left(server: ComfyServer) -> None:
    if "Video Slice" not in server.get("/object_info"):
        pytest.skip("this ComfyUI trims no videos")
    clips.write_clip(server.input / "trimmed.mp4", clips.panned(20))
    graph = video_graph("trimmed.mp4", "video/trimmed")
    graph["trim"] = graphs.node(
        "Video Slice", video=["load", 0], start_time=0.2, duration=0.4, strict_duration=False
    )
    graph["delit"]["inputs"]["video"] = ["trim", 0]
    assert server.run(graph).error is None
    (saved,) = sorted((server.output / "video").glob("trimmed*.mp4"))[-1:]
    frames, sound, _ = clips.decoded(saved)
    assert len(frames) == 10
    assert abs(sound.shape[1] / clips.SAMPLES - 0.4) < 0.05


def test_a_stopped_video_leaves_no_file(server: ComfyServer) -> None:
    clips.write_clip(server.input / "long.mp4", clips.panned(400), sound=False)
    body = json.dumps({"prompt": video_graph("long.mp4", "video/long"), "client_id": "delit-tests"}).encode()
    headers = {"Content-Type": "application/json"}
    before = set((server.base / "temp").glob("*delit_video*"))
    with urllib.request.urlopen(urllib.request.Request(f"{server.url}/prompt", body, headers)) as answer:
        prompt_id = json.load(answer)["prompt_id"]
    deadline = time.monotonic() + 120
    while not set((server.base / "temp").glob("*delit_video*")) - before:
        assert time.monotonic() < deadline, "it never began to write"
        time.sleep(0.1)
    urllib.request.urlopen(urllib.request.Request(f"{server.url}/interrupt", b"", method="POST")).close()
    server.wait_for(prompt_id, seconds=120)
    status = server.get(f"/history/{prompt_id}")[prompt_id]["status"]
    assert "execution_interrupted" in [kind for kind, _ in status["messages"]]
    assert set((server.base / "temp").glob("*delit_video*")) == before
    assert server.alive()


def test_a_batch_that_is_a_clip_is_seen_to_be_one(server: ComfyServer) -> None:
    frames = clips.panned(7)
    graph = graphs.portrait(server, frames, mode="auto", env_pooling="frame")
    assert server.run(graph).error is None
    pipe = DelitPipeline.embedded("cpu")
    options = replace(WHOLE, clip=True, env_pooling="frame")
    expected = pipe(torch.from_numpy(frames), options=options)
    assert_equal(server.dumped("flat.npy"), expected.flat)
    assert_equal(server.dumped("env.npy"), expected.env)
    stills = np.concatenate([graphs.picture(64, 64, seed=seed) for seed in range(6)])
    assert server.run(graphs.portrait(server, stills, mode="auto")).error is None
    assert server.dumped("env.npy").shape[0] == 6


def test_a_video_without_pictures_is_refused_in_words(server: ComfyServer) -> None:
    clips.write_clip(server.input / "tiny.mp4", clips.panned(3, side=32), sound=False)
    run = server.run(video_graph("tiny.mp4", "video/tiny"))
    assert run.error_node == "DelitVideo" and "at least 64" in run.error
