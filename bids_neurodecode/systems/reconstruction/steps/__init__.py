"""The steps of reconstruction: training, and predict mode."""
