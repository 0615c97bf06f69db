"""What the page says of encoding models."""
