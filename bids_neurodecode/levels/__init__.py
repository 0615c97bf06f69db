"""What a call runs: participants, the group, the variants of a study; and their pages."""
