"""Batches: what is missing, one process per unit, side by side on this machine or on a cluster."""
