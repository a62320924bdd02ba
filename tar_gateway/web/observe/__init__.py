"""What operators see. This room is told, and never asks."""
