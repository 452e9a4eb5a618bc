"""The built-in pruners. Declares and nothing else: the classes are imported when they are chosen."""

from compressrl.hookspecs import PluginEntry, hookimpl


@hookimpl
def compressrl_compressors() -> list[PluginEntry]:
    return [
        PluginEntry(
            "l1",
            "Removes hidden neurons of small L1 norm (DepGraph), recovering between cuts",
            "compressrl_pruners.magnitude:L1Pruning",
        ),
        PluginEntry(
            "l2",
            "Removes hidden neurons of small L2 norm (DepGraph), recovering between cuts",
            "compressrl_pruners.magnitude:L2Pruning",
        ),
    ]
