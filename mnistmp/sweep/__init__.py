"""Batches: what is missing, one process per unit, side by side on this machine or on a cluster.

Another executor comes in at `cluster.connected`: an object with what `cluster.Dask` has.
"""
