"""What pictures and masks are taken, how they are fitted to the VAE and put back."""

from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from delit_models.errors import DelitError
from delit_models.images import Framing, apply_mask, check_images, check_mask, refuse_empty_mask

sides = st.integers(64, 700)


@given(height=sides, width=sides, longest=st.one_of(st.none(), st.integers(64, 512)))
@settings(max_examples=60, deadline=None)
def test_framing_keeps_the_shape_and_never_enlarges(height, width, longest):
    framing = Framing.of((height, width), longest)
    working_height, working_width = framing.working_size
    assert working_height <= height and working_width <= width
    assert min(framing.working_size) >= 64
    assert all(padded % 8 == 0 and 0 <= padded - side < 8
               for padded, side in zip(framing.padded_size, framing.working_size, strict=True))  # fmt: skip
    assert working_height / working_width == pytest.approx(height / width, rel=0.02)


@given(height=st.integers(64, 90), width=st.integers(64, 90))
@settings(max_examples=20, deadline=None)
def test_fit_and_cut_are_inverse_at_full_size(height, width):
    picture = torch.rand(1, height, width, 3)
    framing = Framing.of((height, width), None)
    fitted = framing.fit(picture)
    assert fitted.shape[-2:] == framing.padded_size and fitted.abs().max() <= 1
    torch.testing.assert_close(framing.cut(fitted)[0].permute(1, 2, 0), picture[0], atol=1e-6, rtol=0)


def test_grey_is_widened_and_alpha_dropped_with_a_note(caplog):
    grey = torch.rand(1, 64, 64, 1)
    assert torch.equal(check_images(grey), grey.expand(-1, -1, -1, 3))
    colour = torch.rand(2, 64, 64, 4)
    with caplog.at_level(logging.INFO):
        assert torch.equal(check_images(colour), colour[..., :3])
    assert "alpha" in caplog.text


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (torch.zeros(0, 64, 64, 3), "empty"),
        (torch.zeros(1, 63, 200, 3), "200×63"),
        (torch.zeros(1, 64, 64, 2), "channels"),
        (torch.zeros(64, 64, 3), "shape"),
        (torch.full((1, 64, 64, 3), 1.5), "1.5"),
        (torch.full((1, 64, 64, 3), -0.5), "-0.5"),
        (torch.full((1, 64, 64, 3), 200.0), "divide them by 255"),
    ],
)
def test_unusable_pictures_are_refused(images, told):
    with pytest.raises(DelitError, match=told):
        check_images(images)


def test_bad_pixels_are_located():
    images = torch.zeros(2, 64, 64, 3)
    images[1, 5, 7, 0] = float("nan")
    with pytest.raises(DelitError, match="picture 1 at row 5, column 7"):
        check_images(images)


def test_slight_ringing_is_clamped():
    images = torch.full((1, 64, 64, 3), 1.01)
    assert check_images(images).max() == 1


def test_masks_are_resized_and_shared_but_not_guessed():
    images = torch.rand(3, 80, 96, 3)
    assert check_mask(torch.ones(40, 48), images).shape == (3, 1, 80, 96)
    assert check_mask(torch.ones(3, 8, 8), images).min() == 1
    with pytest.raises(DelitError, match="3 images"):
        check_mask(torch.ones(2, 80, 96), images)
    with pytest.raises(DelitError, match="NaN"):
        check_mask(torch.full((1, 8, 8), float("nan")), images)


def test_an_empty_mask_is_refused_with_its_cause():
    refuse_empty_mask(None)
    refuse_empty_mask(torch.stack([torch.zeros(8, 8), torch.ones(8, 8)]))
    with pytest.raises(DelitError, match="Load Image gives such a mask"):
        refuse_empty_mask(torch.zeros(1, 64, 64))


def test_outside_the_mask():
    flat, source = torch.full((1, 3, 4, 4), 0.8), torch.full((1, 3, 4, 4), 0.2)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    assert apply_mask(flat, source, mask, "source")[0, 0, 0].tolist() == pytest.approx([0.8, 0.8, 0.2, 0.2])
    assert apply_mask(flat, source, mask, "black")[0, 0, 0].tolist() == pytest.approx([0.8, 0.8, 0, 0])
    transparent = apply_mask(flat, source, mask, "transparent")
    assert transparent.shape[1] == 4 and transparent[0, 3, 0].tolist() == [1, 1, 0, 0]
    with pytest.raises(DelitError, match="purple"):
        apply_mask(flat, source, mask, "purple")
