"""Long work on many images, spread over workers: in this process, over the ranks of torchrun, or on Ray (docs/ray.md)."""
