"""The steps of encoding: training, predict mode, and heads that participants share."""
