"""Live talk: what hears, sees and speaks while a conversation goes on."""
