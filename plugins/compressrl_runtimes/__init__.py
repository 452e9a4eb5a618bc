"""The built-in runtimes. Declares and nothing else: the classes are imported when they are chosen."""

from compressrl.hookspecs import PluginEntry, hookimpl


@hookimpl
def compressrl_runtimes() -> list[PluginEntry]:
    return [
        PluginEntry(
            "torch",
            "PyTorch, eager: the float network as it was trained",
            "compressrl_runtimes.torch_runtime:TorchRuntime",
        ),
        PluginEntry(
            "onnx",
            "ONNX Runtime: float, quantized and foreign graphs",
            "compressrl_runtimes.onnx_runtime:OnnxRuntime",
        ),
        PluginEntry(
            "native",
            "The policy's own C99 file, compiled for this machine",
            "compressrl_runtimes.native_runtime:NativeRuntime",
        ),
        PluginEntry(
            "litert",
            "LiteRT with XNNPACK: the policy as a TFLite flatbuffer (extra `litert`)",
            "compressrl_runtimes.litert_runtime:LitertRuntime",
        ),
    ]
