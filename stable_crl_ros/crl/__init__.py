"""Stable Contrastive RL and its baselines: networks, losses, agents, training."""
