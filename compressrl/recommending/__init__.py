"""Which pipeline and runtime to ship: candidates, search, choice."""
