"""Working copy: the DVC graph, its cache, and other checkouts of the project."""
