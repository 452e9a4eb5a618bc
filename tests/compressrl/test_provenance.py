"""What a stage writes into the provenance can be typed again."""

from __future__ import annotations

from compressrl import options, plugins
from compressrl.provenance import step
from compressrl_quantizers.ptsq import PostTrainingStaticQuantization


def test_defaults_are_not_spelt_out():
    assert step("ptsq", PostTrainingStaticQuantization(), "a", "b") == "ptsq (a, b)"


def test_what_was_chosen_can_be_typed_again():
    chosen = PostTrainingStaticQuantization(method="percentile", percentile=99.5, bias_correction=False)
    typed = step("ptsq", chosen, "figures").removesuffix(" (figures)")
    name, values = plugins.parse(typed)
    assert options.build(PostTrainingStaticQuantization, name, values) == chosen
