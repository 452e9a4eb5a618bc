"""A policy as C: its source, the compiler, and what a microcontroller needs for it."""
