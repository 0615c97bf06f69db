"""The steps of movie: training, predict mode, and what participants share."""
