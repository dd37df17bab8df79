"""One colour for each thing that a user waits for, the same on a terminal and in a chart."""

from __future__ import annotations

__all__ = ["COLOURS"]

COLOURS = {
    "pause": "#9fb3c8",
    "endpoint": "#829ab1",
    "vision": "#54d1db",
    "audio": "#27ab83",
    "prefill": "#3a86d4",
    "decode": "#8a63d2",
    "speech_decoder": "#e8743b",
    "codec": "#f0b429",
    "memory": "#a68064",
    "hand-over": "#d64545",
    "buffer": "#da4a91",
    "playback": "#627d98",
    "devices": "#486581",
}
"""Waits in greys, work in colours: readable on white and on black, and told apart by people who see red as green."""
