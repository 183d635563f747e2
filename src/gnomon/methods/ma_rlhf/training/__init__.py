"""Training: policy, critic and reference, rollouts as batches, PPO over macro actions, and the reward model before it."""
