"""Clips: steady in time, and in memory that does not grow with their length."""
