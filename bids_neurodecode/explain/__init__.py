"""What the models rely on."""
