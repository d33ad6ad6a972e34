"""A written model checked again, from the file alone: its structure, its constants, its bodies, and what it claims."""
