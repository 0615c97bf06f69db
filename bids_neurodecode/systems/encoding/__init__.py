"""Encoding: from features of images to the responses of voxels."""
