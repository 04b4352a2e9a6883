"""Configurations that no heads have: they come out of files, and nothing is built for them."""

from __future__ import annotations

import math

import pytest

from delit_models.errors import DelitError
from delit_models.heads import DelitConfig

GIVEN = DelitConfig().to_dict()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("feature_channels", 2**40),
        ("feature_channels", 0),
        ("feature_channels", 33),
        ("flat_width", 64.0),
        ("flat_width", "64"),
        ("env_token_width", True),
        ("env_query_blocks", 10**6),
        ("env_query_blocks", -1),
        ("env_context_grid", 65),
        ("attention_heads", 0),
        ("attention_heads", 7),
        ("working_size", 10**9),
        ("working_size", 1),
        ("working_size", math.nan),
        ("working_size", None),
        ("extractor_widths", []),
        ("extractor_widths", [64] * 9),
        ("extractor_widths", [64, "x"]),
        ("extractor_widths", [64, [64]]),
        ("env_decoder_widths", [64] * 7),
        ("latent_mean", [0.0] * 15),
        ("latent_mean", [math.nan] * 16),
        ("latent_std", [0.0] * 16),
        ("latent_std", [1e300] * 16),
        ("latent_std", ["1"] * 16),
        ("matte", 1),
        ("env_sees_middle", "yes"),
        ("temporal", 1),
    ],
)
def test_a_setting_that_no_heads_have_is_refused(name, value):
    assert DelitConfig.from_dict(GIVEN).to_dict() == GIVEN
    with pytest.raises(DelitError, match="The heads' configuration") as refusal:
        DelitConfig.from_dict(GIVEN | {name: value})
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("values", [None, [], "x", 3])
def test_what_is_no_configuration_is_refused(values):
    with pytest.raises(DelitError, match="no JSON object"):
        DelitConfig.from_dict(values)
