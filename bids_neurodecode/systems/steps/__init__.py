"""The steps that systems share: plan, betas, atlas, features, what is published."""
