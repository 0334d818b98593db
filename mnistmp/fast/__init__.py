"""Layers and kernels that compute what plain torch computes, in less time; every one is tested against it."""
