"""Estimators and torch modules."""
