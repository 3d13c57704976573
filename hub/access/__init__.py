"""Keys by which people and programs call the API."""
