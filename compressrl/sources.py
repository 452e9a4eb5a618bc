"""The policy that a person means: a file, or the best one that the installed policy sources have."""

from __future__ import annotations

from pathlib import Path

from compressrl import defaults, environments, plugins
from compressrl.errors import UsageError
from compressrl.policy import Policy


def find_policy(algorithm: str, env_id: str = "", path: str | Path = "") -> Policy | None:
    """Load the policy of `path`, or the sources' one for this algorithm and environment, else None.

    env_id: "" takes the default environment
    A source's policy stands for the algorithm without options: an algorithm with any finds none.
    Raises UsageError where neither an algorithm nor a path is given, and for names that are unknown.
    """
    if path:
        if algorithm:
            plugins.registry().get("algorithm", plugins.parse(algorithm)[0])
        return Policy.load(path)
    if not algorithm:
        raise UsageError("Say which policy: an algorithm (--algo sac) or a policy file (--policy PATH).")
    env_id = env_id or defaults.ENVIRONMENT
    plugins.create("algorithm", algorithm)
    name, chosen_options = plugins.parse(algorithm)
    environments.make(env_id).close()
    for source in plugins.registry().entries("policies"):
        found = None if chosen_options else plugins.create("policies", source.entry.name).find(name, env_id)
        if found is not None:
            return Policy.load(found)
    return None


def existing_policy(algorithm: str, env_id: str = "", path: str | Path = "") -> Policy:
    """`find_policy` for work that trains nothing: UsageError where there is no policy."""
    policy = find_policy(algorithm, env_id, path)
    if policy is None:
        env_id = env_id or defaults.ENVIRONMENT
        raise UsageError(
            f"No installed policy was learnt by {algorithm} on {env_id}; `compressrl zoo` lists what is. "
            f"Train it (compressrl train --algo {algorithm} --env {env_id}) and give its file: --policy PATH."
        )
    return policy
