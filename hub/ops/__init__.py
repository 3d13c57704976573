"""The Ops page, and what it reads of a whole fleet at once."""
