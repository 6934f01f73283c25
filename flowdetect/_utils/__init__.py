"""Small helpers shared by several folders."""
