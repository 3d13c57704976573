"""People who log in at an OpenID Connect provider of the organisation's own."""
