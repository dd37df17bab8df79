"""One colour for each thing that a user waits for, the same on a terminal and in a chart."""

from __future__ import annotations

__all__ = ["COLOURS"]

COLOURS = {
    "pause": "#c5d0db",
    "endpoint": "#8496a9",
    "vision": "#54d1db",
    "audio": "#27ab83",
    "prefill": "#3a86d4",
    "decode": "#8a63d2",
    "speech_decoder": "#e8743b",
    "codec": "#f0b429",
    "memory": "#a68064",
    "hand-over": "#d64545",
    "buffer": "#da4a91",
    "playback": "#9aa300",
    "devices": "#8f3b5e",
}
"""Silences in greys, all else in colours: readable on white and on black, also by people who see red as
green."""
