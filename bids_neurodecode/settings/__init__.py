"""The settings of each part, which ``config.py`` puts together."""
