"""What the page says of films."""
