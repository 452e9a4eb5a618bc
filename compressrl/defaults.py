"""What a user gets who says nothing. The only names of environments and plugins that the core knows."""

ENVIRONMENT = "HalfCheetah-v5"
RUNTIME = "onnx"
EPISODES = 10
SEARCH_EPISODES = 40
MIN_RETENTION = 0.97
TRAINING_STEPS = 1_000_000
