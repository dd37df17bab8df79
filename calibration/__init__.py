"""From recorded feeds to explicit Q/DQ: ranges, smoothing, weights, and a report of what they cost."""
