"""Parts of networks: norms, bodies, head, localizer, affinity, pretrained weights."""
