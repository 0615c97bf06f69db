"""Files to pixels, and pixels to features."""
