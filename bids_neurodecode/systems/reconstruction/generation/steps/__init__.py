"""The steps that generate images."""
