"""The recipes: fit, predict, evaluate."""
