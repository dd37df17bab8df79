"""Observers of events: turn reports, latency breakdown, trace, log, comparison of runs."""
