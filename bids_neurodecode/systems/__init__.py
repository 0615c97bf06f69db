"""The three recipes: fit, predict, evaluate."""
