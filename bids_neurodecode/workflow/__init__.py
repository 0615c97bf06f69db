"""Nipype: when and where the functions run."""
