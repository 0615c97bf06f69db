"""BOLD to responses: cleaning, delay alignment, single-trial betas, atlases, reliability."""
