"""Pausing, under names that differ as the clients do."""

from asyncio import sleep as asleep
from time import sleep

__all__ = ["asleep", "sleep"]
