"""Several engines on one device: replicas, and NVIDIA's MPS."""
