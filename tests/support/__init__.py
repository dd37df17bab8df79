"""What tests share: fakes, small models, and ways to spoil files."""
