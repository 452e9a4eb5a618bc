"""The five built-in algorithms. Declares and nothing else: the classes are imported when they are chosen."""

from compressrl.hookspecs import PluginEntry, hookimpl


@hookimpl
def compressrl_algorithms() -> list[PluginEntry]:
    return [
        PluginEntry(
            "trpo", "Trust Region Policy Optimization (on-policy)", "compressrl_algorithms.trpo:TRPO"
        ),
        PluginEntry("ppo", "Proximal Policy Optimization (on-policy)", "compressrl_algorithms.ppo:PPO"),
        PluginEntry(
            "ddpg", "Deep Deterministic Policy Gradient (off-policy)", "compressrl_algorithms.ddpg:DDPG"
        ),
        PluginEntry("td3", "Twin Delayed DDPG (off-policy)", "compressrl_algorithms.td3:TD3"),
        PluginEntry(
            "sac", "Soft Actor-Critic, learnt temperature (off-policy)", "compressrl_algorithms.sac:SAC"
        ),
    ]
