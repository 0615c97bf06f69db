"""Conditions without stimulus files: decoded, encoded, compared; over runs, never within."""
