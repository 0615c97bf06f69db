"""Movie: from films to series, and back."""
