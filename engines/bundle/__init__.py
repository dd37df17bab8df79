"""The bundle on disk: format, facts, component table, atomic writes."""
