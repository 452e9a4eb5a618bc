"""Recovery by distillation. Declares and nothing else: the class is imported when it is chosen."""

from compressrl import PluginEntry, hookimpl


@hookimpl
def compressrl_compressors() -> list[PluginEntry]:
    return [
        PluginEntry(
            "distill",
            "recovery: the compressed policy learns to act as the original, on the states that it visits",
            "compressrl_distillation.distill:OnPolicyDistillation",
        )
    ]
