"""The built-in quantizers. Declares and nothing else: the classes are imported when they are chosen."""

from compressrl import PluginEntry, hookimpl


@hookimpl
def compressrl_compressors() -> list[PluginEntry]:
    return [
        PluginEntry(
            "ptdq",
            "post-training dynamic quantization: int8 weights, activation ranges at run time (ONNX Runtime)",
            "compressrl_quantizers.ptdq:PostTrainingDynamicQuantization",
        ),
        PluginEntry(
            "ptsq",
            "post-training static quantization: int8, ranges calibrated on visited states (ONNX Runtime)",
            "compressrl_quantizers.ptsq:PostTrainingStaticQuantization",
        ),
        PluginEntry(
            "qat",
            "quantization-aware training: int8, weights fine-tuned (or trained anew) under rounding (torch)",
            "compressrl_quantizers.qat:QuantizationAwareTraining",
        ),
    ]
