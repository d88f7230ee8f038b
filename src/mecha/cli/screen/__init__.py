"""What `mecha dev` shows on a terminal: the nodes in figures, their log, and keys that command them."""
