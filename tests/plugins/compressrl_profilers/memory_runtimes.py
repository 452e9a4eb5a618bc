"""Runtimes that allocate known amounts, at known stages; the memory profiler's child imports this by name."""

import mmap
import os
import sys

MIB = 1 << 20


def allocate(mebibytes):
    """Anonymous pages of exactly this size, touched; they go when the last reference does."""
    block = mmap.mmap(-1, mebibytes * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, len(block), mmap.PAGESIZE):
        block[offset] = 1
    return block


AT_IMPORT = allocate(20)


class Greedy:
    """20 MiB at import, 8 in the model, 3 with the first inference, 64 for a moment while loading."""

    def __init__(self, factor=1):
        self.factor = factor

    def load(self, policy):
        moment = allocate(64)
        del moment
        weights = allocate(8 * self.factor)
        workspace = []

        def act(observation):
            if not workspace:
                workspace.append(allocate(3))
            return policy(observation)[: len(weights)]

        return act


class LateImport:
    """Imports its library, 16 MiB, only when it loads, and another, 5 MiB, at the first inference."""

    def load(self, policy):
        import late_library

        late_library.in_use = True

        def act(observation):
            import later_library

            return policy(observation) * later_library.ONE

        return act


class Suspicious:
    """Fails where the process holds what a deployed one would not."""

    def load(self, policy):
        heavy = {"torch", "psutil", "zeus", "gymnasium", "scipy", "onnx"} & set(sys.modules)
        if heavy or "compressrl_profilers" in sys.modules:
            raise RuntimeError(f"imported without need: {sorted(heavy)}")
        if os.environ.get("PYTHONPATH") and not sys.flags.isolated:
            raise RuntimeError("not isolated")
        return policy


class Deployed:
    """9 MiB at import, 7 in the model; the package that measures must not be there."""

    def load(self, policy):
        raise RuntimeError("not what is deployed")

    def deploy(self, policy, folder):
        (folder / "deployed.py").write_text(DEPLOYED)


DEPLOYED = """
import sys
from memory_runtimes import allocate

BLOCK = allocate(9)

def load(folder, observation_size, action_size):
    assert not {"numpy", "compressrl"} & set(sys.modules)
    weights = allocate(7)

    def act(observation):
        assert len(observation) == observation_size and observation.format == "f"
        return weights[:action_size]

    return act
"""


class Undeployable:
    def deploy(self, policy, folder):
        from compressrl.errors import UsageError

        raise UsageError("It cannot leave the house.")

    def load(self, policy):
        return policy


class Broken:
    def load(self, policy):
        raise RuntimeError("no such accelerator")


class Chatty:
    """Writes to stdout and stderr."""

    def load(self, policy):
        print("loading", flush=True)
        print("warming up", file=sys.stderr)
        return policy
