"""Where time, memory and energy go: workloads, costs of a step, and this machine's meters."""
