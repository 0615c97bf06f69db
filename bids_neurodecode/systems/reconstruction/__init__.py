"""Reconstruction: from responses to images, retrieved or generated."""
