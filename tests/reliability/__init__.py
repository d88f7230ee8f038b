"""Kills, power cuts, full disks and many processes at once: what is published stays, and the next pull recovers."""
